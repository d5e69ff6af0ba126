"""A run as files: written so that a reader never meets half of anything, and rewound to where a run goes on."""

import json
import math

import pytest

from spiral.api.errors import RunError
from spiral.api.records import Episode, Trajectory, Turn, VoidedGame
from spiral.config.loading import load
from spiral.runs.directory import RunDir
from spiral.runs.episode_log import episode_record


@pytest.fixture
def run(tmp_path):
    return RunDir.create(tmp_path / "run", load(), {"spiral-games": "0.1.0", "a-game": "2.0"})


def _steps(run, name):
    return [json.loads(line)["step"] for line in (run.path / name).read_text().splitlines()]


# Making and opening


def test_a_run_records_what_was_asked_and_what_was_installed(run):
    """The merged config reads back to an equal one; every distribution has its version."""
    opened, config = RunDir.open(run.path)
    assert opened.path == run.path
    assert config == load()
    assert json.loads((run.path / "plugins.json").read_text()) == {"a-game": "2.0", "spiral-games": "0.1.0"}


def test_a_new_run_is_made_with_its_parents_or_in_an_empty_folder(tmp_path):
    """runs/a/b need not exist; an empty folder will do."""
    RunDir.create(tmp_path / "a" / "b", load(), {})
    (tmp_path / "empty").mkdir()
    RunDir.create(tmp_path / "empty", load(), {})


@pytest.mark.parametrize("what", ["run", "other", "file"])
def test_nothing_is_overwritten(tmp_path, run, what):
    """A run, a folder with something in it, a file: refused in one sentence that names --run-dir and --resume."""
    path = {"run": run.path, "other": tmp_path / "other", "file": tmp_path / "file"}[what]
    if what == "other":
        path.mkdir()
        (path / "thesis.txt").write_text("mine")
    if what == "file":
        path.write_text("mine")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(RunError, match=r"not empty.*--run-dir.*--resume"):
        RunDir.create(path, load(overrides=["steps=5"]), {})
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_what_is_no_run_is_not_opened(tmp_path):
    """Missing, or without a config: one sentence each."""
    with pytest.raises(RunError, match="does not exist"):
        RunDir.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"has no config\.yaml"):
        RunDir.open(tmp_path)


def test_a_run_whose_config_cannot_be_used(run):
    """A key of another version: the run and the fault are named."""
    (run.path / "config.yaml").write_text("stepz: 3\n")
    with pytest.raises(RunError, match="config of run .* cannot be used: unknown key 'stepz'"):
        RunDir.open(run.path)


# Writing


def test_files_are_replaced_at_once(run):
    """A reader sees the old text or the new one; no temporary stays."""
    run.write("policy.json", "one")
    run.write("policy.json", "größer")
    assert (run.path / "policy.json").read_text(encoding="utf-8") == "größer"
    assert [p.name for p in run.path.iterdir() if p.name.endswith(".tmp")] == []


def test_metrics_are_lines_of_plain_json(run):
    """A number that is not finite becomes null, since JSON has no word for it."""
    run.log(0, {"a": 1.5, "b": math.nan, "c": math.inf})
    run.log(1, {"a": -math.inf})
    assert (run.path / "metrics.jsonl").read_text().splitlines() == [
        '{"step": 0, "a": 1.5, "b": null, "c": null}',
        '{"step": 1, "a": null}',
    ]
    assert run.metrics() == [{"step": 0, "a": 1.5, "b": None, "c": None}, {"step": 1, "a": None}]


def test_faults_are_kept_with_what_replays_them(run):
    """Game, deal, moves and reason of every voided match; no file when there are none."""
    run.log_voided(3, [])
    assert not (run.path / "voided.jsonl").exists()
    run.log_voided(4, [VoidedGame("kuhn", 2**62, ("bet", ""), "KeyError: 'pot'")])
    [line] = (run.path / "voided.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "step": 4, "game": "kuhn", "deal": 2**62, "moves": ["bet", ""], "cause": "game",
        "reason": "KeyError: 'pot'",
    }  # fmt: skip


def test_metrics_of_a_run_that_has_not_begun(run):
    """None yet, and no error."""
    assert run.metrics() == []


def test_a_half_line_is_not_read(run):
    """A reader beside a running writer gets whole lines only."""
    run.log(0, {"a": 1.0})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "a": 2')
    assert run.metrics() == [{"step": 0, "a": 1.0}]


# Rewinding


@pytest.mark.parametrize(("to", "left"), [(0, []), (1, [0]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])])
def test_rewinding_forgets_what_will_be_played_again(run, to, left):
    """Lines of steps `to` and later go from all three files; earlier ones stay byte for byte."""
    for step in range(4):
        run.log(step, {"a": 0.1 * step})
        run.append("episodes.jsonl", [{"step": step, "n": n} for n in range(2)])
        run.log_voided(step, [VoidedGame("g", 1, (), "r")])
    before = (run.path / "metrics.jsonl").read_text().splitlines()
    run.rewind(to)
    assert _steps(run, "metrics.jsonl") == _steps(run, "voided.jsonl") == left
    assert _steps(run, "episodes.jsonl") == [s for s in left for _ in range(2)]
    assert (run.path / "metrics.jsonl").read_text().splitlines() == before[: len(left)]


@pytest.mark.parametrize("half", ['{"step": 2, "a": 1', '{"st', "{", '{"step": 1}garbage', "\x00\x00\x00"])
def test_rewinding_drops_a_line_that_a_kill_cut(run, half):
    """Half a line at the end goes, and the next line starts on a line of its own."""
    run.log(0, {"a": 1.0})
    run.log(1, {"a": 2.0})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(half)
    run.rewind(2)
    run.log(2, {"a": 3.0})
    assert [m["a"] for m in run.metrics()] == [1.0, 2.0, 3.0]


def test_lines_are_ascii(run):
    """Every other character is escaped, so a kill cannot cut one in two and leave bytes that are no text."""
    run.append("episodes.jsonl", [{"step": 0, "text": "größer \u2028"}])
    assert (run.path / "episodes.jsonl").read_bytes().isascii()


def test_a_text_with_line_separators_is_one_line(run):
    """A reply may hold any character, U+2028 and form feeds included: a record stays one line through a rewind."""
    text = "a\u2028b\u2029c\x0cd\x85e\x1cf"
    run.append("episodes.jsonl", [{"step": 0, "text": text}, {"step": 1, "text": text}])
    run.rewind(1)
    [line] = (run.path / "episodes.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert json.loads(line) == {"step": 0, "text": text}


def test_rewinding_nothing(run):
    """A run that was killed before its first line."""
    run.rewind(0)
    assert run.metrics() == []


# Episodes


def test_an_episode_is_told_in_the_order_of_play():
    """Each turn with its player, its text as sampled, its log-probability and, if it was trained, its advantage."""
    mine = tuple(Turn(f"o{n}", (1,), (98, 261), (-0.5, -0.25), "b", True, "stop", 0) for n in range(2))
    theirs = (Turn("o", (), (), (), "call", False, "stop", 0),)
    trajectories = (
        Trajectory("kuhn", 0, "learner", -1.0, mine, 7),
        Trajectory("kuhn", 1, "bot:x", 1.0, theirs, 7),
    )
    episode = Episode("kuhn", 7, ("learner", "bot:x"), (-1.0, 1.0), trajectories, (0, 1, 0), "illegal", 1)
    record = episode_record(5, episode, {id(trajectories[0]): [0.5, 0.75]}, lambda ids: "".join(map(str, ids)))
    assert (record["step"], record["deal"], record["ending"], record["offender"]) == (5, 7, "illegal", 1)
    assert record["returns"] == [-1.0, 1.0]
    assert [(t["player"], t["observation"], t["reply"], t["advantage"]) for t in record["turns"]] == [
        (0, "o0", "98261", 0.5),
        (1, "o", "call", None),
        (0, "o1", "98261", 0.75),
    ]
    assert [t["logprob"] for t in record["turns"]] == [-0.75, None, -0.75]
    assert [t["legal"] for t in record["turns"]] == [True, False, True]
    json.dumps(record)
