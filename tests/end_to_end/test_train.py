"""The loop with everything a config can name made of plug-ins of this file: what reaches them, and what is kept."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from spiral_models import MODELS

from spiral import hookimpl
from spiral.commands.main import main
from spiral.config import loading as config
from spiral.plugins.registry import Plugins
from spiral.runs.checkpoints import evaluated_weights
from spiral.runs.directory import RunDir
from spiral.selfplay.validation import check
from spiral.training.loop import train

ROOT = Path(__file__).parents[2]
SMALL = [
    "steps=3", "rollout.episodes=8", "warm_start.max_steps=2", "warm_start.cache=false", "warm_start.batch=8",
    "evaluate.every=2", "evaluate.matches=2", "checkpoint.every=2", "loggers=[]",
]  # fmt: skip


class Doubled:
    """A reward shaper that doubles every trajectory's reward."""

    def __call__(self, episode):
        trajectories = tuple(replace(t, reward=2 * t.reward) for t in episode.trajectories)
        return replace(episode, trajectories=trajectories)


class Counting:
    """An estimator with a memory; the advantage is the return."""

    def __init__(self):
        self.state = {"calls": 0, "rewards": []}

    def __call__(self, trajectories):
        self.state["calls"] += 1
        self.state["rewards"] = [t.reward for t in trajectories]
        return [[t.reward] * len(t.turns) for t in trajectories]


class Alternating:
    """A curriculum that records what it saw."""

    seen: list = []  # noqa: RUF012

    def __init__(self, games):
        self.games = list(games)

    def choose(self, rng):
        return self.games[0]

    def record(self, episode):
        self.seen.append(episode.game)


class Diary:
    """A logger that writes down the observers' calls."""

    calls: list = []  # noqa: RUF012

    def __init__(self, run_dir):
        pass

    @hookimpl
    def run_started(self, run_dir):
        self.calls.append(("started", run_dir.name))

    @hookimpl
    def step_finished(self, step, episodes):
        self.calls.append(("step", step, len(episodes)))

    @hookimpl
    def checkpoint_saved(self, step, path):
        self.calls.append(("saved", step, path.name))

    @hookimpl
    def run_finished(self, step):
        self.calls.append(("finished", step))


def adapted():
    """A byte model with an adapter in its layers."""
    import peft

    model, tokenizer = MODELS["byte-0.1m"](context=128)
    return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["qkv_proj", "down_proj"])), tokenizer


class Local:
    """The plug-ins above, as a distribution would bring them."""

    @hookimpl
    def register_models(self, register):
        register("adapted", adapted)

    @hookimpl
    def register_rewards(self, register):
        register("doubled", Doubled)

    @hookimpl
    def register_advantages(self, register):
        register("counting", Counting)

    @hookimpl
    def register_curricula(self, register):
        register("alternating", Alternating)

    @hookimpl
    def register_loggers(self, register):
        register("diary", Diary)


@pytest.fixture
def plugins():
    found = Plugins.installed()
    found.add(Local(), "local", "1.0")
    Diary.calls, Alternating.seen = [], []
    return found


def run(path, plugins, words, resume=False):
    asked = config.load(None, [*SMALL, *words])
    check(asked, plugins)
    opened = RunDir.open(path)[0] if resume else RunDir.create(path, asked, plugins.distributions)
    train(asked, opened, plugins, lambda *_: None, resume)
    return opened


def test_observers_hear_of_everything_once_and_in_order(tmp_path, plugins):
    """Start, each step with its episodes, each checkpoint, the last evaluation as step 3 with none, the end."""
    run(tmp_path / "r", plugins, ["loggers=[diary]"])
    assert Diary.calls == [
        ("started", "r"),
        ("step", 0, 8),
        ("step", 1, 8),
        ("saved", 2, "step-000002"),
        ("step", 2, 8),
        ("saved", 3, "step-000003"),
        ("step", 3, 0),
        ("finished", 3),
    ]


def test_rewards_are_shaped_before_credit_and_results_are_not(tmp_path, plugins):
    """The estimator sees doubled rewards; the returns in episodes.jsonl are the game's own."""
    opened = run(tmp_path / "r", plugins, ["rewards=[doubled]", "advantage=counting"])
    state = json.loads((opened.checkpoints / "step-000003" / "state.json").read_text())
    lines = (opened.path / "episodes.jsonl").read_text().splitlines()
    last = [record for record in map(json.loads, lines) if record["step"] == 2]
    returns = [r for record in last for r in record["returns"]]
    assert state["plugins"]["advantage"]["rewards"] == [2 * r for r in returns]
    trained = [(t["advantage"], record["returns"][t["player"]]) for record in last for t in record["turns"]]
    assert trained
    assert all(advantage == 2 * reward for advantage, reward in trained)


def test_a_curriculum_sees_every_game_that_was_played(tmp_path, plugins):
    run(tmp_path / "r", plugins, ["curriculum=alternating"])
    assert Alternating.seen == ["kuhn_poker"] * 24


def test_a_plug_ins_state_goes_on_after_a_resume(tmp_path, plugins):
    """Two steps, then one more: the estimator was called three times, and says so."""
    run(tmp_path / "r", plugins, ["advantage=counting", "steps=2"])
    opened = run(tmp_path / "r", plugins, ["advantage=counting", "steps=3"], resume=True)
    state = json.loads((opened.checkpoint() / "state.json").read_text())
    assert state["plugins"]["advantage"]["calls"] == 3
    assert [line["step"] for line in opened.metrics()] == [0, 1, 2, 3]


def test_a_model_with_an_adapter_trains_and_goes_on_after_a_resume(tmp_path, plugins):
    """Two steps, then one more, are three: bit for bit. Checkpoints and snapshots hold the adapter and nothing else."""
    constant = ["learner.lr_end=1", "learner.anchor_end=1", "learner.kl_end=1"]  # whatever number of steps is asked for
    words = ["model=adapted", "pool.every=1", "pool.size=2", "opponents=uniform_past", "learner.ema=0.9", *constant]
    whole = run(tmp_path / "whole", plugins, words)
    run(tmp_path / "parts", plugins, [*words, "steps=2"])
    parts = run(tmp_path / "parts", plugins, words, resume=True)
    for opened in (whole, parts):
        files = [*opened.checkpoint().glob("*.safetensors"), *(opened.path / "snapshots").glob("*")]
        assert len(files) > 3
        assert all(".lora_" in name for file in files for name in load_file(file))
    for read in (lambda path: load_file(path / "live.safetensors"), evaluated_weights):
        expected, found = (read(opened.checkpoint()) for opened in (whole, parts))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_thoughts_that_were_closed_are_played_trained_and_resumed(tmp_path, plugins):
    """A model of random weights ends hardly a reply within 4 tokens. Learner and engine agree on what it sampled, the
    log names what it did not, and two steps, then one more, are three: bit for bit."""
    constant = ["learner.lr_end=1", "learner.anchor_end=1", "learner.kl_end=1"]  # whatever number of steps is asked for
    prompt = "prompt={name: chat, args: {thought_tokens: 4, rules: false}}"
    words = [prompt, "rollout.max_new_tokens=30", "warm_start.max_steps=0", *constant]
    whole = run(tmp_path / "whole", plugins, words)
    run(tmp_path / "parts", plugins, [*words, "steps=2"])
    parts = run(tmp_path / "parts", plugins, words, resume=True)
    expected, found = (load_file(opened.checkpoint() / "live.safetensors") for opened in (whole, parts))
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    first = next(iter(whole.metrics()))
    assert first["play/forced_rate"] > 0.5
    assert first["learner/ratio_gap"] < 1e-4
    close = list(range(4, 4 + len("\n\nAnswer: \\boxed{")))
    lines = (whole.path / "episodes.jsonl").read_text().splitlines()
    turns = [turn for record in map(json.loads, lines) for turn in record["turns"]]
    assert {tuple(turn["forced"]) for turn in turns} <= {(), tuple(close)}
    assert any(turn["forced"] and "\n\nAnswer: \\boxed{" in turn["reply"] for turn in turns)


def test_the_pool_remembers_results(tmp_path, plugins):
    """24 games against the bot: as many recent results, and a rating of both."""
    opened = run(tmp_path / "r", plugins, ["opponents=fixed"])
    pool = json.loads((opened.checkpoints / "step-000003" / "state.json").read_text())["plugins"]["pool"]
    total, weight = pool["results"]["recent"]["kuhn_poker"]["learner"]["bot:random"]
    assert 0 <= total <= weight
    assert weight == pytest.approx(sum((1 - 1 / 200) ** n for n in range(24)))
    assert {*pool["results"]["ratings"]["kuhn_poker"]} == {"learner", "bot:random"}


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*/config.yaml")), ids=lambda p: p.parent.name)
def test_every_recipe_runs(recipe, tmp_path):
    """The real command, shrunk."""
    if "\ncluster:" in recipe.read_text():
        pytest.importorskip("ray")
    words = [word for word in SMALL if not word.startswith(("steps", "evaluate.every"))]
    if "prompt: qwen3" in recipe.read_text():  # many replies say a move, so none can be taught
        words.append("warm_start.max_steps=0")
    model = ["model=byte-0.1m", "engine=torch"]
    if "name: lora" in recipe.read_text():  # whose targets are another model's layers
        model.append("learner.method.args.targets=[qkv_proj]")
    if "tasks/" in recipe.read_text():  # a step of the test is one group of replies
        model.append("rollout.group_size=8")
    if "\ntext:" in recipe.read_text():
        words += [f"text.paths=[{ROOT / 'README.md'}]", "text.held_out_bytes=500", "warm_start.max_steps=0"]
    shrunk = [*words, "steps=1", "evaluate.every=0", *model, "--run-dir", str(tmp_path / "r")]
    result = CliRunner().invoke(main, ["train", str(recipe), *shrunk], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "r" / "report.html").exists()


def test_a_resumed_run_keeps_what_its_checkpoints_belong_to(tmp_path):
    """Another model on --resume: one sentence that names the key, exit code 2, the run's config left alone."""
    path = str(tmp_path / "r")
    assert CliRunner().invoke(main, ["train", *SMALL, "--run-dir", path]).exit_code == 0
    before = (tmp_path / "r" / "config.yaml").read_text()
    result = CliRunner().invoke(main, ["train", "model=byte-1m", "seed=3", "--run-dir", path, "--resume"])
    assert result.exit_code == 2
    assert "would change model, seed" in result.output
    assert (tmp_path / "r" / "config.yaml").read_text() == before


def test_a_run_that_could_not_begin_leaves_its_directory_free(tmp_path):
    """A model that is not there: exit code 2 and one sentence; the corrected command may use the same directory."""
    path = tmp_path / "r"
    words = ["train", *SMALL, "model=hf", f"model.args.path={tmp_path / 'none'}", "--run-dir", str(path)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "not a directory" in result.output
    assert not path.exists()


@pytest.mark.parametrize("words", [[], ["warm_start.max_steps=0"], ["model.args.context=34"]])
def test_a_context_without_room_for_a_reply_is_refused_at_start(words, tmp_path):
    """Tic-tac-toe asks with 19 tokens: a reply of 16 needs a context of 35. Nothing is played, and nothing is left."""
    path = tmp_path / "r"
    words = ["train", *SMALL, "games=tic_tac_toe", "model.args.context=20", *words, "--run-dir", str(path)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1
    for told in ("game tic_tac_toe", "prompt of 19 tokens", "16 may", "model.args.context", "rollout.max_new_tokens"):
        assert told in result.output
    assert not path.exists()


def test_every_command_that_asks_a_run_refuses_a_context_without_room(tmp_path):
    """The run's own config is changed afterwards, as a longer reply may be asked for by hand."""
    path = tmp_path / "r"
    words = ["games=tic_tac_toe", "model.args.context=35", "steps=1", "evaluate.every=0", "--run-dir", str(path)]
    assert CliRunner().invoke(main, ["train", *SMALL, *words]).exit_code == 0
    kept = (path / "config.yaml").read_text(encoding="utf-8")
    (path / "config.yaml").write_text(kept.replace("max_new_tokens: 16", "max_new_tokens: 17"), encoding="utf-8")
    for command in (["eval", str(path)], ["exploitability", str(path)], ["play", str(path)]):
        result = CliRunner().invoke(main, command)
        assert (result.exit_code, "leaves room for a reply of 16" in result.output) == (2, True), result.output
