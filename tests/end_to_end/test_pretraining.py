"""`spiral pretrain`: text to a run that tells bits per byte, resumes bit for bit, and that self-play begins from."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from spiral.commands.main import main
from spiral.training.launch import rank

STEPS = 12
TINY = [
    f"steps={STEPS}", "model={name: byte-0.1m, args: {context: 128}}", "text.row_tokens=64", "text.step_tokens=512",
    "text.samples=3", "text.sample_tokens=8", "evaluate.every=4", "checkpoint.every=3", "checkpoint.keep=0",
    "learner.warmup_steps=2", "learner.schedule=wsd", "loggers=[]",
    "learner.dropout={rate: 0.1, schedule: triangle, places: [attention, feed_forward]}",
]  # fmt: skip


def spiral(*words, code=0):
    done = CliRunner().invoke(main, [*map(str, words)])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Six documents of English, of 1.5 kB each, and a picture."""
    folder = tmp_path_factory.mktemp("text")
    for number in range(6):
        sentences = [f"Line {line} of document {number} says that {line * number} is a number." for line in range(27)]
        (folder / f"{number}.txt").write_text("\n".join(sentences), encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG\0")
    return folder


@pytest.fixture(scope="module")
def run(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("pretrain") / "run"
    spiral("pretrain", text, *TINY, "--run-dir", path)
    return path


def lines(run, name="metrics.jsonl"):
    return [json.loads(line) for line in (run / name).read_text(encoding="utf-8").splitlines()]


def timeless(run):
    return [{k: v for k, v in line.items() if not k.startswith(("time/", "speed/"))} for line in lines(run)]


def weights(run, step=STEPS):
    return {
        file.relative_to(run).as_posix(): load_file(file)
        for file in sorted((run / "checkpoints").glob(f"step-{step:06d}/**/*.safetensors"))
    }


def same_bits(one, other):
    mine, theirs = weights(one), weights(other)
    assert mine
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[file][name], theirs[file][name]) for file in mine for name in mine[file])
    assert timeless(one) == timeless(other)
    assert lines(one, "samples.jsonl") == lines(other, "samples.jsonl")


# What such a run is


def test_it_tells_bits_per_byte_beside_gzip_and_xz_and_what_it_writes(run):
    measured = [line for line in lines(run) if "eval/bits_per_byte" in line]
    assert [line["step"] for line in measured] == [0, 4, 8, STEPS]
    assert measured[-1]["eval/bits_per_byte"] < measured[0]["eval/bits_per_byte"]
    assert 0 < measured[0]["eval/bits_per_byte_gzip"] < 8
    assert 0 < measured[0]["eval/bits_per_byte_xz"] < 8
    assert [line["step"] for line in lines(run)] == [*range(STEPS), STEPS]
    assert lines(run)[STEPS - 1]["text/epoch"] == pytest.approx(STEPS * 8 / rows(run))
    samples = lines(run, "samples.jsonl")
    assert [sample["step"] for sample in samples if not sample["prompt"]] == [0, 4, 8, STEPS]
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "Bits per byte" in report
    assert json.dumps(samples[-1]["text"])[1:-1].split("\\")[0] in report
    assert not (run / "episodes.jsonl").exists()


def rows(run):
    """Trained tokens an epoch over those of a row: the documents but what is held out, each with its beginning and end."""
    trained = sum(line["learner/reply_tokens"] for line in lines(run)[:STEPS]) / STEPS
    assert trained <= 8 * 63
    return 8 / lines(run)[0]["text/epoch"]


def test_the_rate_warms_up_stays_and_falls(run):
    """WSD: two steps of warm-up, the peak, and the last fifth of 12 steps down to a tenth of it."""
    rates = [line["learner/lr"] / 0.003 for line in lines(run)[:STEPS]]
    assert rates[:2] == pytest.approx([0.5, 1.0])
    assert rates[2:9] == pytest.approx([1.0] * 7)
    assert rates[-2:] == pytest.approx([1 - 0.9 * (1 - 1 / 2.4), 0.1])


def test_the_defaults_follow_from_the_text(text):
    shown = spiral("train", f"text.paths=[{text}]", "model=byte-0.1m", "--show")
    assert "schedule: cosine  # text defaults" in shown
    assert "objective: likelihood  # supervised defaults" in shown
    assert "lr: 0.003  # text defaults" in shown
    assert "games: []" in shown


def test_epochs_are_steps_over_the_rows_that_are_trained_on(text, run, tmp_path):
    words = [word for word in TINY if not word.startswith("steps")]
    spiral("pretrain", text, *words, "evaluate.every=0", "--epochs", 0.5, "--run-dir", tmp_path / "half")
    assert len(lines(tmp_path / "half")) == -(-rows(run) // 16)
    assert "exclude each other" in spiral("pretrain", text, "steps=3", "--epochs", 2, code=2)


def test_minutes_are_as_many_steps_as_take_about_so_long(text, tmp_path):
    """A twentieth of a minute: some steps, and not half of a minute of them."""
    words = [word for word in TINY if not word.startswith(("steps", "checkpoint.every"))]
    words += ["evaluate.every=0", "checkpoint.every=1000"]
    spiral("pretrain", text, *words, "--minutes", 0.05, "--run-dir", tmp_path / "run")
    told = lines(tmp_path / "run")
    assert f"steps: {len(told)}\n" in (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8")
    assert len(told) > 1
    assert sum(line["time/learner_s"] for line in told) < 30
    says = spiral("pretrain", text, "--minutes", 1, "--epochs", 1, code=2)
    assert "--epochs 1 and --minutes 1 exclude each other" in says
    assert "--resume excludes" in spiral("pretrain", "--minutes", 1, "--run-dir", tmp_path / "run", "--resume", code=2)


def test_several_processes_are_told_the_number_of_steps(text, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    says = spiral("pretrain", text, "model=byte-0.1m", "--minutes", 1, "--run-dir", tmp_path / "run", code=2)
    assert "give steps=N" in says


def test_an_adapter_learns_text_too(text, tmp_path):
    pytest.importorskip("peft")
    words = [*TINY, "learner.dropout.rate=0", "learner.method=lora", "steps=2", "evaluate.every=0"]
    spiral("pretrain", text, *words, "--run-dir", tmp_path / "run")
    assert [*(tmp_path / "run" / "checkpoints").glob("*/model/adapter_model.safetensors")]


# Going on


def test_a_run_that_goes_on_from_a_checkpoint_has_the_same_bits(run, tmp_path):
    """Dropout, rows, rates, samples; with no text named, since the run knows it."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for step in (6, 9, 12):
        shutil.rmtree(copy / "checkpoints" / f"step-{step:06d}")
    spiral("pretrain", "--run-dir", copy, "--resume")
    same_bits(run, copy)


def test_a_killed_run_goes_on_with_the_same_bits(text, run, tmp_path):
    """SIGKILL between two checkpoints, in a process of its own."""
    words = ["pretrain", text, *TINY, "--run-dir", tmp_path / "run"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        [sys.executable, "-m", "spiral", *map(str, words)], env=env, stdout=subprocess.DEVNULL, start_new_session=True
    )
    metrics, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 200
    while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text().count("\n") >= 5):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    assert len(lines(tmp_path / "run")) < STEPS
    torch.set_num_threads(1)
    spiral("pretrain", text, "--run-dir", tmp_path / "run", "--resume")
    same_bits(run, tmp_path / "run")


def test_a_resume_that_would_make_no_update_is_an_error(run, tmp_path):
    """And not a success; but a last evaluation that a kill cut off is made good."""
    says = spiral("pretrain", "--run-dir", run, "--resume", code=2)
    assert f"is finished, at step {STEPS}; for more steps give steps=N" in says
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    kept = (copy / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[:STEPS]
    (copy / "metrics.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    spiral("pretrain", "--run-dir", copy, "--resume")
    same_bits(run, copy)


def test_text_that_changed_meanwhile_is_refused(text, run, tmp_path):
    copy = tmp_path / "text"
    shutil.copytree(text, copy)
    spiral("pretrain", copy, *TINY, "steps=1", "evaluate.every=0", "--run-dir", tmp_path / "run")
    (copy / "picture.png").write_bytes(b"\x89PNG\0other")
    spiral("pretrain", copy, "steps=2", "--run-dir", tmp_path / "run", "--resume")
    (copy / "0.txt").write_text("another text", encoding="utf-8")
    says = spiral("pretrain", "steps=3", "--run-dir", tmp_path / "run", "--resume", code=2)
    assert "text.paths is not what run" in says
    says = spiral("pretrain", text, "steps=3", "--run-dir", tmp_path / "run", "--resume", code=2)
    assert f"which learns from {copy}, not from {text}" in says


# What follows


def test_self_play_begins_from_its_model(run, tmp_path):
    """With a warm start on the way, as for any byte model: text tells nothing of how a move is written."""
    begun = tmp_path / "begun"
    start = run / "checkpoints" / f"step-{STEPS:06d}" / "model"
    short = ["steps=1", "rollout.episodes=8", "evaluate.every=0", "loggers=[]", "warm_start.max_steps=3"]
    spiral("train", f"model={start}", *short, "warm_start.dropout.rate=0.1", "--run-dir", begun)
    assert len(lines(begun)) == 1
    members = "{name: mixture, args: {weights: {learner: 0.5, members: 0.5}}}"
    against = [f"opponents={members}", f"pool.members=['run:{run}@{STEPS}']"]
    assert "was trained on text and not on kuhn_poker" in spiral("train", *short, *against, code=2)


def test_it_is_exported_with_a_card_and_says_that_it_plays_no_game(run, tmp_path):
    spiral("export", run, tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "pretraining on text" in card
    assert "bits per byte" in card
    for words in (["eval", run], ["exploitability", run], ["play", run], ["best-response", run]):
        says = spiral(*words, code=2)
        assert "this run learned from text and plays no game; begin self-play from its model" in says
    for words in (["tournament", run, "random"], ["collect", run, "random", "--out", tmp_path / "games.jsonl"]):
        assert "no game is named" in spiral(*words, code=2)


# Bad input


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["text.row_tokens=200", "text.step_tokens=400"], "text.row_tokens is 200, and the model's context is 128"),
        (["text.row_tokens=100", "text.step_tokens=99"], "must be at least text.row_tokens (100)"),
        (["games=kuhn_poker"], "nothing is played where text is learned"),
        (["learner.objective=return"], "learner.objective is return and examples.path is empty"),
        (["examples.path=games.jsonl"], "a run learns from games or from text"),
        (["learner.dropout.places=[probabilities]"], "learner.dropout.places names probabilities, and may name embed"),
        (["learner.dropout.rate=1"], "learner.dropout.rate is 1.0, and must be at least 0 and below 1"),
    ],
)
def test_a_run_that_could_not_learn_is_one_sentence(text, tmp_path, words, says):
    out = spiral("pretrain", text, *TINY, *words, "--run-dir", tmp_path / "run", code=2)
    assert says in out
    assert "Traceback" not in out
    assert not (tmp_path / "run").exists()


def test_what_is_no_text_and_what_repeats_is_told(text, tmp_path, caplog):
    copy = tmp_path / "text"
    shutil.copytree(text, copy)
    shutil.copy(copy / "0.txt", copy / "again.txt")
    spiral("pretrain", copy, *TINY, "steps=1", "evaluate.every=0", "--run-dir", tmp_path / "run")
    assert "1 are binary or not UTF-8, and 1 repeat another; they are left out" in caplog.text


def test_no_text_is_one_sentence(tmp_path):
    assert rank() == 0
    assert "no text is named" in spiral("pretrain", "steps=2", code=2)
    assert "does not exist" in spiral("pretrain", tmp_path / "none", "steps=2", "--run-dir", tmp_path / "r", code=2)
    (tmp_path / "a=b").write_text("tiny", encoding="utf-8")
    says = spiral("pretrain", tmp_path / "a=b", *TINY, "text.held_out_bytes=0", "--run-dir", tmp_path / "run")
    assert "open" in says  # a file that is there is text, whatever its name
