"""tools.transfer: each arm trains on the same tokens from one start, and tables say what that did, from results.json."""

import json
import math
import queue
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from spiral.commands.main import main
from tools.transfer.arms import Seed, record
from tools.transfer.budget import Spent, next_steps, spent
from tools.transfer.experiment import SUPERVISED, TRANSFER, Arm, Experiment
from tools.transfer.processes import Teller, run_spiral
from tools.transfer.results import frame, with_runs
from tools.transfer.strength import strength
from tools.transfer.table import estimate, of_seeds, summary, tables

TASK = {"name": "reasoning_gym/chain_sum", "args": {"max_terms": 2, "max_digits": 1}}
LABEL = "reasoning_gym/chain_sum(max_digits=1,max_terms=2,size=10,split=test)"
TINY = {
    "games": ["kuhn_poker"],
    "advantage": "rae",
    "learner": {"lr_end": 1, "kl": 0, "anchor": 0, "ema": 0.9},
    "rollout": {"episodes": 8, "max_new_tokens": 6},
    "loggers": [],
    "evaluate": {
        "every": 0,
        "matches": 2,
        "opponents": ["random"],
        "tasks": [{**TASK, "args": {**TASK["args"], "size": 10, "split": "test"}}],
    },
}


def experiment(folder):
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    return Experiment(
        config=config,
        budget_tokens=60,
        start=Arm("base", "base", (*SUPERVISED, "rollout.episodes=16"), reads="start"),
        start_steps=3,
        arms=(
            Arm("sft", "SFT", (*SUPERVISED,), reads="experts"),
            Arm("rlvr", "RLVR", ("advantage=rloo", "rollout.group_size=4"), tasks=(TASK["name"],)),
            Arm("fixed", "fixed", against_experts=True),
            Arm("self_play", "self-play"),
        ),
        experts={"kuhn_poker": "equilibrium"},
        questions={TASK["name"]: {**TASK["args"], "size": 20, "split": "train"}},
        num_expert_games=20,
        num_random_games=20,
        first_steps=2,
    )


class Commands:
    """The command line in this process; remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, words, log, told):
        self.asked.append(list(words))
        assert isinstance(told(), str)
        done = CliRunner().invoke(main, list(words))
        assert done.exit_code == 0, (words, done.output, done.exception)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A seed that went all the way, its commands, and its entry of results.json."""
    folder = tmp_path_factory.mktemp("transfer")
    commands, said = Commands(), []
    seed = Seed(experiment(folder), 3, folder / "seed-3", commands, said.append)
    seed.folder.mkdir()
    took = seed.train()
    arms = (seed.experiment.start, *seed.experiment.arms)
    strengths = {arm.name: strength(seed.config, seed.model(arm), said.append) for arm in arms}
    run = {"seed": 3, "date": "2026-11-29", "commit": "abc", "arms": record(seed, took, strengths)}
    return seed, commands, run


# What the arms are


def test_each_arm_spends_the_budget_and_at_most_some_steps_more(finished):
    seed, _, run = finished
    for name in ("sft", "rlvr", "fixed", "self_play"):
        lines = [json.loads(line) for line in (seed.folder / name / "metrics.jsonl").read_text().splitlines()]
        tokens = [line["learner/reply_tokens"] for line in lines if "learner/reply_tokens" in line]
        arm = run["arms"][name]
        assert (len(tokens), sum(tokens)) == (arm["steps"], arm["tokens"])
        assert seed.experiment.budget_tokens <= arm["tokens"] < seed.experiment.budget_tokens + 3 * max(tokens)


def test_all_arms_begin_with_the_weights_of_one_start(finished):
    seed, _, _ = finished
    start = str(seed.folder / "base" / "checkpoints" / "step-000003" / "model")
    configs = {
        name: yaml.safe_load((seed.folder / name / "config.yaml").read_text())
        for name in ("base", "sft", "rlvr", "fixed", "self_play")
    }
    assert configs["base"]["model"]["name"] == "byte-0.1m"
    assert [configs[n]["model"]["args"]["path"] for n in ("sft", "rlvr", "fixed", "self_play")] == [start] * 4
    assert {configs[name]["warm_start"]["max_steps"] for name in configs} == {0}
    assert {configs[name]["seed"] for name in configs} == {3}


def test_a_seed_that_is_finished_starts_no_command_again(finished):
    seed, commands, run = finished
    again = Commands()
    same = Seed(seed.experiment, 3, seed.folder, again, lambda text: None)
    took = same.train()
    assert record(same, took, {name: run["arms"][name]["games"] for name in took}) == run["arms"]
    assert again.asked == []


def test_an_arm_that_was_stopped_goes_on(finished, tmp_path):
    """It had fewer tokens than it may have: its run is continued, and the start stays as it is."""
    seed, _, run = finished
    shutil.copytree(seed.folder / "self_play", tmp_path / "self_play")
    shutil.copytree(seed.folder / "base", tmp_path / "base")
    commands = Commands()
    arms = tuple(arm for arm in seed.experiment.arms if arm.name == "self_play")
    more = replace(seed.experiment, budget_tokens=run["arms"]["self_play"]["tokens"] + 1, arms=arms)
    took = Seed(more, 3, tmp_path, commands, lambda text: None).train()
    assert [words[-1] for words in commands.asked] == ["--resume"]
    assert took["self_play"].steps == run["arms"]["self_play"]["steps"] + 1
    assert took["self_play"].tokens > run["arms"]["self_play"]["tokens"]


def test_each_reply_is_counted_once_by_question(finished):
    _, _, run = finished
    for arm in run["arms"].values():
        assert set(arm["right"]) == {LABEL}
        assert len(arm["right"][LABEL]) == 10
        assert set(arm["right"][LABEL]) <= {"0", "1"}
        assert set(arm["games"]) == {"kuhn_poker: NashConv", "kuhn_poker: return against random"}


def test_tables_are_made_of_what_was_run(finished):
    seed, _, run = finished
    results = with_runs({"runs": [], "note": ""}, seed.experiment, [run])
    assert json.loads(json.dumps(results)) == json.loads(json.dumps(results))
    text = tables(results)
    for label in ("base", "SFT", "RLVR", "fixed", "self-play"):
        assert f"| {label} |" in text


# What is told


def test_a_seed_that_has_nothing_new_to_say_tells_its_last_line_again():
    """Nothing is silent for ten seconds."""
    lines: queue.Queue[str] = queue.Queue()
    with Teller(7, lines.put, silent_s=0.01) as tell:
        tell("base: step 3 of 9")
        said = [lines.get(timeout=60) for _ in range(3)]
    assert all(line.startswith("seed 7, ") and line.endswith(" s  base: step 3 of 9") for line in said)


def test_a_command_that_fails_ends_the_comparison_with_its_last_words(tmp_path):
    with pytest.raises(SystemExit, match="(?s)spiral train a.yaml b.yaml\nended with 2; .*one config file at most"):
        run_spiral(["train", "a.yaml", "b.yaml"], tmp_path / "log", str, lambda text: None)


# The budget


@pytest.mark.parametrize(
    ("now", "steps"),
    [
        (Spent(), 20),  # nothing is known yet
        (Spent(20, 2000), 20 + 76),  # 80 more at 100 tokens a step, of which 95 % at first
        (Spent(90, 9000), 100),  # ten more, all of them
        (Spent(99, 9950), 100),
        (Spent(100, 10_000), None),
        (Spent(100, 10_070), None),
    ],
)
def test_an_arm_goes_on_until_its_tokens_are_spent(now, steps):
    assert next_steps(now, 10_000, 20) == steps


def test_a_run_without_a_checkpoint_has_spent_nothing(tmp_path):
    (tmp_path / "config.yaml").write_text("steps: 3\n")
    assert spent(tmp_path) == Spent() == spent(tmp_path / "none")


def test_steps_behind_the_newest_checkpoint_do_not_count(tmp_path):
    """A resumed run makes them again."""
    (tmp_path / "config.yaml").write_text("steps: 3\n")
    (tmp_path / "checkpoints" / "step-000002").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-000002" / "state.json").write_text("{}")
    lines = [{"step": step, "learner/reply_tokens": 10.0 + step, "time/step_s": 0.5} for step in range(3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert spent(tmp_path) == Spent(2, 21, 1.0)


# The tables, from numbers by hand


def test_an_interval_of_one_seed_is_that_of_its_questions():
    """Four questions, two right: the variance with n - 1 is 1/3, the error sqrt(1/12)."""
    mean, low, high = estimate([np.array([[1.0, 1.0, 0.0, 0.0]])], 0, 1)
    assert (mean, low, high) == pytest.approx((0.5, 0.0, 1.0))  # 1.96 x .289 is more than a half
    mean, low, high = estimate([np.array([[1.0, 1.0, 0.0, 0.0]])], -9, 9)
    assert high - mean == pytest.approx(1.959964 * math.sqrt(1 / 12))


def test_an_interval_of_seeds_adds_students_to_that_of_questions():
    """Seeds at .25 and .75: error .25, times 12.706; questions at .5, .5, .5, .5 but for the two bounds that join them."""
    shares = np.array([[1.0, 0, 0, 0], [0, 1.0, 1.0, 1.0]])
    mean, low, high = estimate([shares], -9, 9)
    questions = np.var([0.5, 0.5, 0.5, 0.5, -9, 9], ddof=1) / 6
    assert mean == 0.5
    assert high - mean == pytest.approx(math.hypot(12.706 * 0.25, 1.959964 * math.sqrt(questions)))


def test_the_mean_of_tasks_has_the_error_of_that_mean():
    """Of tasks with 2 and 4 questions: half of each, errors .5 and sqrt(1/12)."""
    tasks = [np.array([[1.0, 0.0]]), np.array([[1.0, 1.0, 1.0, 0.0]])]
    mean, _, high = estimate(tasks, -9, 9)
    assert mean == pytest.approx(0.625)
    assert high - mean == pytest.approx(1.959964 * math.sqrt(0.25 + 0.25 / 4) / 2)


def test_one_seed_has_no_interval_of_seeds_and_three_have_students():
    assert of_seeds([0.5]) is None
    assert of_seeds([0.1, 0.2, 0.3]) == pytest.approx(
        (0.2, 0.2 - 4.303 * 0.1 / math.sqrt(3), 0.2 + 4.303 * 0.1 / math.sqrt(3))
    )


def results(right, start):
    """Two seeds, one task of four questions, an arm `b` against the start `a`."""
    runs = [
        {
            "seed": seed,
            "arms": {
                name: {"steps": 9, "tokens": 100, "train_s": 60.0, "right": {"t": of[seed]}, "games": {"g": [seed / 2]}}
                for name, of in (("a", start), ("b", right))
            },
        }
        for seed in (0, 1)
    ]
    tasks = {"t": {"label": "t", "samples": 1, "trains": ["b"]}}
    return {"arms": {"a": "start", "b": "other"}, "tasks": tasks, "games": ["g"], "runs": runs}


def test_differences_are_question_by_question_and_the_worst_seed_is_named():
    told = summary(results(["1110", "0100"], ["1000", "1000"]))
    assert told["a"]["accuracy"]["t"][0] == 0.25
    assert told["b"]["accuracy"]["t"][0] == 0.5
    assert told["b"]["mean_beyond"][0] == 0.25
    assert told["b"]["worst"] == {"value": 0.0, "seed": 1}
    assert told["b"]["games"]["g"][0] == 0.25
    assert told["b"]["unseen_beyond"] is None, "it was trained on the only task"
    assert "beyond" not in told["a"]


def test_a_difference_that_is_sure_is_marked():
    """A hundred questions that all turn right; then none."""
    sure = tables(results(["1" * 99 + "0"] * 2, ["0" * 100] * 2))
    assert "| other | **+99.0 [+97.0, +100.0]** |" in sure
    assert "| other | +0.0 [" in tables(results(["10" * 50] * 2, ["10" * 50] * 2))


def test_nothing_measured_says_so():
    assert tables({"runs": []}) == "Not measured."


# The experiment itself


def test_what_is_trained_on_is_asked_with_the_arguments_of_what_is_measured():
    """And of the other part; every game has an expert."""
    config = yaml.safe_load(TRANSFER.config.read_text(encoding="utf-8"))
    measured = {task["name"]: task["args"] for task in config["evaluate"]["tasks"]}
    assert measured.keys() == TRANSFER.questions.keys()
    for name, args in TRANSFER.questions.items():
        assert args.keys() == measured[name].keys()
        assert {k: v for k, v in args.items() if k not in ("size", "split")} == {
            k: v for k, v in measured[name].items() if k not in ("size", "split")
        }
        assert (args["split"], measured[name]["split"]) == ("train", "test")
    names = [game if isinstance(game, str) else game["name"] for game in config["games"]]
    assert list(TRANSFER.experts) == names
    assert frame(TRANSFER)["arms"].keys() == {"base", "sft", "rlvr", "fixed", "self_play"}


def test_nothing_of_an_arm_follows_a_schedule_over_steps():
    """Or a run that is continued to its budget would be another one than if the steps had been known."""
    learner = yaml.safe_load(TRANSFER.config.read_text(encoding="utf-8"))["learner"]
    assert (learner["lr_end"], learner["kl_end"], learner["anchor_end"]) == (1, 1, 1)
    assert not [word for arm in TRANSFER.arms for word in arm.words if "_end" in word or "warmup" in word]
