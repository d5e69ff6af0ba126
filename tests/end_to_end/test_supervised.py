"""`spiral collect` and `spiral sft`: from experts' games to a run that every command takes, and the same file in TRL."""

import json
import shutil

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from spiral.commands.main import main
from spiral.evaluation.learned_best_response import Target
from spiral.evaluation.learned_best_response import configure as best_response_config
from spiral.plugins.registry import Plugins
from spiral.selfplay.examples import read_examples, record_path
from spiral.testing import ChatServer

STEPS = 30
TINY = [
    f"steps={STEPS}", "rollout.episodes=16", "evaluate.every=15", "evaluate.matches=2", "checkpoint.every=10",
    "checkpoint.keep=0", "loggers=[]", "learner.ema=0.9", "learner.lr=0.005", "rollout.retries=9",
]  # fmt: skip


def spiral(*words, code=0):
    done = CliRunner().invoke(main, [*map(str, words)])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


@pytest.fixture(scope="module")
def games(tmp_path_factory):
    path = tmp_path_factory.mktemp("games") / "games.jsonl"
    out = spiral("collect", "equilibrium", "--games", "kuhn_poker", "--num", 60, "--keep", "all", "--out", path)
    assert f"{path}: 60 games kept of 60 played" in out
    return path


@pytest.fixture(scope="module")
def run(games, tmp_path_factory):
    path = tmp_path_factory.mktemp("sft") / "run"
    spiral("sft", games, *TINY, "--run-dir", path)
    return path


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run):
    return {
        file.relative_to(run).as_posix(): load_file(file)
        for file in sorted((run / "checkpoints").glob(f"step-{STEPS:06d}/**/*.safetensors"))
    }


# What a supervised run is


def test_it_tells_its_loss_and_what_it_is_worth_on_the_way(run):
    """The loss falls; NashConv, matches and the held-out games are measured as `evaluate` asks, and nothing is told
    that only self-play has."""
    lines = metrics(run)
    assert [line["step"] for line in lines] == [*range(STEPS), STEPS]
    assert lines[STEPS - 1]["learner/nll"] < lines[0]["learner/nll"]
    for step in (0, 15, STEPS):
        for name in ("nash_conv", "held_out_loss", "held_out_perplexity", "held_out_accuracy", "vs/random/p1/win"):
            assert f"eval/kuhn_poker/{name}" in lines[step]
    assert lines[STEPS]["eval/kuhn_poker/held_out_loss"] < lines[0]["eval/kuhn_poker/held_out_loss"]
    assert lines[STEPS - 1]["examples/epoch"] == pytest.approx(STEPS * 16 / 57)
    assert not [name for name in lines[0] if name.startswith(("health/", "pool/", "learner/ratio"))]
    assert not (run / "episodes.jsonl").exists()
    assert "Held-out loss" in (run / "report.html").read_text()


def test_a_run_that_goes_on_from_a_checkpoint_has_the_same_bits(run, games, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for step in (20, 30):
        shutil.rmtree(copy / "checkpoints" / f"step-{step:06d}")
    spiral("sft", games, "--run-dir", copy, "--resume")
    whole, resumed = weights(run), weights(copy)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[file][name], resumed[file][name]) for file in whole for name in whole[file])
    timeless = [{k: v for k, v in line.items() if not k.startswith(("time/", "speed/"))} for line in metrics(run)]
    assert timeless == [
        {k: v for k, v in line.items() if not k.startswith(("time/", "speed/"))} for line in metrics(copy)
    ]


def test_every_command_takes_it_as_a_run(run, games, tmp_path):
    """It is measured, exported, collected from, played against, and begun from; what begins from it plays."""
    assert "NashConv" in spiral("exploitability", run)
    assert "kuhn_poker vs random as player 1" in spiral("eval", f"{run}@10", "--opponent", "random", "--games", 4)
    out = spiral("export", run, tmp_path / "model")
    assert (tmp_path / "model" / "config.json").is_file(), out
    assert "supervised training" in (tmp_path / "model" / "README.md").read_text()
    more = tmp_path / "more.jsonl"
    spiral("collect", run, "random", "--num", 4, "--keep", "all", "--out", more)
    assert {e.policy for e in read_examples(more)} == {f"run:{run}@{STEPS}", "bot:random"}
    assert {e.reply for e in read_examples(more) if e.policy != "bot:random"} <= {"check", "bet", "call", "fold"}
    short = ["steps=1", "rollout.episodes=8", "evaluate.every=0", "loggers=[]", "warm_start.max_steps=0"]
    spiral("train", f"model={run}/checkpoints/step-{STEPS:06d}/model", *short, "--run-dir", tmp_path / "begun")
    members = "{name: mixture, args: {weights: {learner: 0.5, members: 0.5}}}"
    against = [f"opponents={members}", f"pool.members=['run:{run}@{STEPS}']"]
    spiral("train", *short, *against, "--run-dir", tmp_path / "against")


def test_a_best_response_to_it_plays_and_copies_nothing(run):
    """Its config is the run's with the examples taken out."""
    config, problems = best_response_config(Target.of(str(run)), None, [], Plugins.installed())
    assert problems == []
    assert (config.examples.path, config.learner.objective) == ("", "return")


def test_a_remote_models_thoughts_are_learned(tmp_path):
    """From the server's reply to the ids of a format that asks for reasoning."""
    games = tmp_path / "games.jsonl"
    with ChatServer(lambda request: f"It may pay.\n\\boxed{{{_a_move(request)}}}") as server:
        bot = f"remote:model=tiny,url={server.url}"
        spiral("collect", bot, "--opponent", "random", "--games", "kuhn_poker", "--num", 6, "--out", games)
    examples = read_examples(games)
    assert {(e.thoughts, e.reply) for e in examples} == {
        ("It may pay.", f"It may pay.\n\\boxed{{{e.move}}}") for e in examples
    }
    spiral(
        "sft", games, "steps=2", "prompt={name: chat, args: {rules: false}}", "rollout.max_new_tokens=40",
        "evaluate.every=0", "loggers=[]", "checkpoint.episodes=1", "--run-dir", tmp_path / "run",
    )  # fmt: skip
    learned = [json.loads(line) for line in (tmp_path / "run" / "episodes.jsonl").read_text().splitlines()]
    assert all(turn["reply"].startswith("It may pay.\n\n\\boxed{") for game in learned for turn in game["turns"])


def _a_move(request):
    """The first of the legal moves that a prompt lists."""
    return request["messages"][1]["content"].partition("Legal moves, one a line:\n")[2].splitlines()[0]


def test_an_adapter_learns_too(games, tmp_path):
    spiral("sft", games, *TINY, "steps=2", "evaluate.every=0", "learner.method=lora", "--run-dir", tmp_path / "run")
    assert {*(tmp_path / "run" / "checkpoints").glob("*/model/adapter_model.safetensors")}


def test_dropout_acts_in_its_updates_and_a_run_that_goes_on_drops_the_same(run, games, tmp_path):
    """A late schedule over 30 steps: the first 15 are those without it, and what follows is not; from a checkpoint on it
    has the same bits."""
    words = [*TINY, "learner.dropout={rate: 0.3, schedule: late, switch: 0.5}", "evaluate.every=0"]
    spiral("sft", games, *words, "--run-dir", tmp_path / "run")
    plain, dropped = ([line["learner/nll"] for line in metrics(path)[:STEPS]] for path in (run, tmp_path / "run"))
    assert dropped[:15] == plain[:15]
    assert not {*dropped[15:]} & {*plain[15:]}
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "run", copy)
    shutil.rmtree(copy / "checkpoints" / f"step-{STEPS:06d}")
    spiral("sft", games, "--run-dir", copy, "--resume")
    assert [line["learner/nll"] for line in metrics(copy)] == dropped
    whole, resumed = weights(tmp_path / "run"), weights(copy)
    assert all(torch.equal(whole[file][name], resumed[file][name]) for file in whole for name in whole[file])


def test_epochs_are_steps_over_the_games_that_are_trained_on(games, tmp_path):
    """57 of 60 games are trained on, 16 a step: two epochs are 8 steps, of which the last goes on into the third."""
    short = [word for word in TINY if not word.startswith("steps")]
    spiral("sft", games, *short, "evaluate.every=0", "--epochs", 2, "--run-dir", tmp_path / "run")
    assert len(metrics(tmp_path / "run")) == 8
    assert "exclude each other" in spiral("sft", games, "steps=3", "--epochs", 2, code=2)


def test_the_defaults_follow_from_the_examples(games):
    shown = spiral("train", f"examples.path={games}", "games=kuhn_poker", "--show")
    assert "objective: likelihood" in shown
    assert "supervised defaults" in shown


# Bad input


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["learner.objective=return"], "learner.objective is return and examples.path"),
        (
            ["games=tic_tac_toe"],
            "holds examples of kuhn_poker (157 examples), which is no game of the run: tic_tac_toe",
        ),
        (["rollout.max_new_tokens=5"], "rollout.max_new_tokens=6"),
        (["examples.held_out=1"], "examples.held_out is 1.0, and must be at least 0 and below 1"),
    ],
)
def test_a_run_that_could_not_learn_is_one_sentence(games, tmp_path, words, says):
    if "(157 examples)" in says:
        says = says.replace("157", str(len(read_examples(games))))
    out = spiral("sft", games, *TINY, *words, "--run-dir", tmp_path / "run", code=2)
    assert says in out
    assert "Traceback" not in out
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_missing_cut_or_altered_is_one_sentence(games, tmp_path):
    assert "cannot be read" in spiral("sft", tmp_path / "none.jsonl", code=2)
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(games.read_bytes()[:-50])
    assert "ends in the middle" in spiral("sft", cut, code=2)
    altered = tmp_path / "altered.jsonl"
    altered.write_bytes(games.read_bytes().replace(b'"move": "bet"', b'"move": "hop"', 1))
    assert "the move 'hop' is not legal in kuhn_poker" in spiral("sft", altered, code=2)
    shutil.copy(record_path(games), record_path(altered))
    assert "SHA-256" in spiral("sft", altered, code=2)


def test_a_file_reads_nothing_of_the_environment(games, tmp_path):
    """A file may come from elsewhere: a game in it is given no secret of this machine."""
    path = tmp_path / "games.jsonl"
    path.write_bytes(games.read_bytes().replace(b'"kuhn_poker"', b'"kuhn_poker(rounds=${oc.env:HOME})"'))
    assert "asks for ${oc.env:HOME} of the environment" in spiral("sft", path, code=2)


def test_a_resumed_run_keeps_its_examples(run, games, tmp_path):
    other = tmp_path / "other.jsonl"
    shutil.copy(games, other)
    assert "which learns from" in spiral("sft", other, "--run-dir", run, "--resume", code=2)
    assert "would change examples" in spiral(
        "train", f"examples.path={other}", "--run-dir", run, "--resume", code=2
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nobody", "--games", "kuhn_poker"], "nobody is neither a run directory nor a bot"),
        (["equilibrium"], "no game is named, and no run among the policies tells which; give --games"),
        (["random", "--games", "kuhn"], "kuhn_poker"),
        (["equilibrium", "--games", "tic_tac_toe"], "equilibrium cannot play tic_tac_toe"),
    ],
)
def test_a_collection_that_cannot_be_played_is_one_sentence(tmp_path, words, says):
    out = spiral("collect", *words, "--out", tmp_path / "games.jsonl", code=2)
    assert says in out
    assert not [*tmp_path.iterdir()]


# The same file elsewhere


def test_trl_trains_on_the_same_file(games, tmp_path):
    """As it stands, on the completions alone: the labels that TRL makes are the assistant's words and their end."""
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    from spiral_models.byte.fast_tokenizer import to_fast
    from spiral_models.byte.tokenizer import ByteTokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = to_fast(ByteTokenizer())
    rows = datasets.load_dataset("json", data_files=str(games), split="train", cache_dir=str(tmp_path / "cache"))
    torch.manual_seed(0)
    small = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=2048, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    trainer = trl.SFTTrainer(
        LlamaForCausalLM(small),
        trl.SFTConfig(
            output_dir=str(tmp_path / "trl"), max_steps=2, per_device_train_batch_size=4, max_length=2048,
            report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no", logging_steps=1,
        ),
        train_dataset=rows.select(range(16)),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses
    assert all(loss > 0 for loss in losses)
    batch = next(iter(trainer.get_train_dataloader()))
    for labels in batch["labels"]:
        said = tokenizer.decode([i for i in labels.tolist() if i != -100])
        assert said.startswith("\\boxed{")
