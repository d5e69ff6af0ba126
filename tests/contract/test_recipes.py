"""Each recipe starts, holds only what differs from the defaults, and its README states what its results.json holds."""

import contextlib
import importlib.util
import json
import re
import statistics
from functools import cache
from pathlib import Path

import pytest
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from spiral.api.errors import ConfigError
from spiral.commands.main import main
from spiral.config.loading import load
from spiral.plugins.pretrained import find_model
from spiral.plugins.registry import Plugins
from spiral.selfplay.examples import Example, line_of
from spiral.selfplay.validation import check
from spiral.testing import merging_tokenizer
from spiral.testing.prompts import CHATML
from tools import dropout_table
from tools.transfer.results import rounded
from tools.transfer.table import summary

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
FOLDERS = sorted(path for path in RECIPES.iterdir() if path.is_dir())
PAPER = RECIPES / "spiral_paper"
QWEN3 = {"model_type": "qwen3", "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
QWEN3 |= {"num_hidden_layers": 36, "vocab_size": 151936, "max_position_embeddings": 32768}
LLAMA = {"model_type": "llama", "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
LLAMA |= {"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 128256}
LLAMA |= {"max_position_embeddings": 131072, "tie_word_embeddings": False}
SHAPES = {
    "qwen3-4b-base": QWEN3 | {"hidden_size": 2560, "intermediate_size": 9728, "tie_word_embeddings": True},
    "qwen3-8b-base": QWEN3 | {"hidden_size": 4096, "intermediate_size": 12288, "tie_word_embeddings": False},
    "deepseek-r1-distill-qwen-7b": {
        **{"model_type": "qwen2", "num_attention_heads": 28, "num_key_value_heads": 4, "num_hidden_layers": 28},
        **{"hidden_size": 3584, "intermediate_size": 18944, "vocab_size": 152064, "tie_word_embeddings": False},
        "max_position_embeddings": 131072,
    },
    "llama-3.1-8b-instruct": LLAMA,
    "octothinker-8b": LLAMA,
}
"""What config.json says of each model of the paper."""
BILLIONS = {"qwen3-4b-base": 4.02, "qwen3-8b-base": 8.19, "deepseek-r1-distill-qwen-7b": 7.62}
BILLIONS |= {"llama-3.1-8b-instruct": 8.03, "octothinker-8b": 8.03}
RUN = {"seed", "date", "commit", "wall_s", "steps", "values", "curves", "note"}
RESULTS = {"recipe", "command", "steps", "metrics", "seeds", "summary", "runs", "reference", "also", "note"}

COMPARISONS = [path for path in FOLDERS if "arms" in json.loads((path / "results.json").read_text(encoding="utf-8"))]
"""Recipes of several runs that are compared: a tool of their own runs them all."""
SCHEDULES = [path for path in FOLDERS if "schedules" in json.loads((path / "results.json").read_text(encoding="utf-8"))]
"""Recipes that compare schedules, in a tool of their own too."""
RUNS = [path for path in FOLDERS if path not in COMPARISONS + SCHEDULES]
COMPARISON = {
    "recipe",
    "command",
    "page",
    "budget_tokens",
    "arms",
    "tasks",
    "games",
    "seeds",
    "runs",
    "summary",
    "note",
}

each_recipe = pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
each_run = pytest.mark.parametrize("folder", RUNS, ids=lambda p: p.name)
each_comparison = pytest.mark.parametrize("folder", COMPARISONS, ids=lambda p: p.name)
each_schedule = pytest.mark.parametrize("folder", SCHEDULES, ids=lambda p: p.name)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with models/smollm2, a tiny model in place of the one that `spiral fetch smollm2` writes, and with the
    config.json of each model of the paper, without weights."""
    path = tmp_path_factory.mktemp("workplace")
    tokenizer = merging_tokenizer(CHATML, ["<|im_start|>", "<|im_end|>"])
    tokenizer.eos_token = "<|im_end|>"
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=8192, **sizes))
    for one in (model, tokenizer):
        one.save_pretrained(path / "models" / "smollm2")
    expert = Example(
        "textarena/KuhnPoker-v0-short", 0, None, 0, "remote", ["remote", "remote"], [1.0, -1.0], "win", "finished", 0, 1,
        None, "Kuhn poker.", "Your card is K.", None, "The king wins.", "[bet]", None,
    )  # fmt: skip
    (path / "experts.jsonl").write_bytes(line_of(expert))
    (path / "runs" / "text").mkdir(parents=True)
    (path / "math12k.jsonl").write_text('{"problem": "What is 6 x 7?", "answer": "42"}\n', encoding="utf-8")
    for name, shape in SHAPES.items():
        (path / "models" / name).mkdir()
        (path / "models" / name / "config.json").write_text(json.dumps(shape), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _there(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("OPENROUTER_API_KEY", "none")


@cache
def _tool():
    spec = importlib.util.spec_from_file_location("run_recipe", ROOT / "tools" / "run_recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _config(path):
    """As the command line reads it, with the defaults that follow its model."""
    return load(path, find_model=find_model(Plugins.installed()))


def _results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def _readme(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


def _leaves(tree, prefix=()):
    """The paths of a config file's keys: groups of keys one by one, plug-ins and lists as a whole."""
    for key, value in tree.items():
        if isinstance(value, dict) and "name" not in value:
            yield from _leaves(value, (*prefix, key))
        else:
            yield (*prefix, key)


def _without(tree, path):
    head, *rest = path
    return {k: _without(v, rest) if k == head and rest else v for k, v in tree.items() if k != head or rest}


def _numbers(value):
    """Every number in a tree of JSON."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [] if isinstance(value, bool | str) or value is None else [float(value)]


def _unknown(text, numbers):
    """The numbers with a decimal point in `text` that none of `numbers` rounds to."""
    found = re.finditer(r"(?<![\w.])-?\d*\.(\d+)(?![\w.]*\d|[A-Za-z])", text)
    return [m[0] for m in found if not any(abs(float(m[0]) - n) <= 0.501 * 10 ** -len(m[1]) for n in numbers)]


@each_recipe
def test_a_recipe_is_three_files(folder):
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.yaml", "results.json"}


@each_recipe
def test_its_config_is_a_run_that_would_start(folder):
    check(_config(folder / "config.yaml"), Plugins.installed())


@each_recipe
def test_its_config_holds_only_what_differs_from_the_defaults(folder, tmp_path):
    """Any key less is another run, or none: two epochs without a clip are refused."""
    tree = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")) or {}
    whole, shorter = _config(folder / "config.yaml"), tmp_path / "shorter.yaml"
    for path in _leaves(tree):
        shorter.write_text(yaml.safe_dump(_without(tree, path)), encoding="utf-8")
        with contextlib.suppress(ConfigError):
            assert _config(shorter) != whole, f"{'.'.join(path)} is the default"


@each_recipe
def test_config_and_readme_name_the_command(folder):
    of_run = f"spiral train recipes/{folder.name}/config.yaml"
    command = f"python -m tools.{folder.name}" if folder in COMPARISONS + SCHEDULES else of_run
    assert command in (folder / "config.yaml").read_text(encoding="utf-8")
    assert command in _readme(folder)
    assert command in _results(folder)["command"]


@each_run
def test_results_have_the_schema(folder):
    results = _results(folder)
    assert results.keys() == RESULTS
    assert results["recipe"] == folder.name
    assert results["steps"] == _config(folder / "config.yaml").steps
    assert results["metrics"], "at least one"
    assert all(
        m.keys() == {"label", "better"} and m["better"] in ("lower", "higher") for m in results["metrics"].values()
    )
    assert results["seeds"] == sorted({run["seed"] for run in results["runs"]}) == [r["seed"] for r in results["runs"]]
    for run in results["runs"]:
        assert run.keys() == RUN
        assert run["steps"] == results["steps"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", run["date"])
        assert run["values"].keys() == results["metrics"].keys()
        assert run["commit"] or run["note"], "what code, or where the figure stands"
        for metric, curve in run["curves"].items():
            assert len(curve["step"]) == len(curve["value"])
            assert (curve["step"][-1], curve["value"][-1]) == (run["steps"], run["values"][metric])
    for other in results["also"]:
        assert other.keys() == {"command", "seed", "date", "note", "values"}


@each_run
def test_the_summary_is_that_of_its_runs(folder):
    results = _results(folder)
    assert results["summary"].keys() == (results["metrics"].keys() if results["runs"] else set())
    for metric, said in results["summary"].items():
        by_seed = {run["seed"]: run["values"][metric] for run in results["runs"]}
        worst = max(by_seed.values()) if results["metrics"][metric]["better"] == "lower" else min(by_seed.values())
        assert said == {
            "median": pytest.approx(statistics.median(by_seed.values()), abs=1e-6),
            "worst": worst,
            "worst_seed": next(seed for seed, value in by_seed.items() if value == worst),
        }


@each_comparison
def test_a_comparison_has_its_arms_for_each_seed(folder):
    """From the same questions for each, and its summary and the pages are those of its runs."""
    results = _results(folder)
    assert results.keys() == COMPARISON
    assert results["recipe"] == folder.name
    assert results["seeds"] == sorted({run["seed"] for run in results["runs"]}) == [r["seed"] for r in results["runs"]]
    for run in results["runs"]:
        assert run.keys() == {"seed", "date", "commit", "wall_s", "arms"}
        assert list(run["arms"]) == list(results["arms"])
        for arm in run["arms"].values():
            assert arm.keys() == {"steps", "tokens", "train_s", "right", "games"}
            assert (list(arm["right"]), list(arm["games"])) == (list(results["tasks"]), results["games"])
        assert len({tuple(map(len, arm["right"].values())) for arm in run["arms"].values()}) == 1
        assert all(arm["tokens"] >= results["budget_tokens"] for arm in list(run["arms"].values())[1:])
    assert results["summary"] == rounded(json.loads(json.dumps(summary(results))))
    page = (ROOT / results["page"]).read_text(encoding="utf-8")
    assert _tool().filled(page, _tool().figures(results)) == page, f"run `{results['command']}`"


@each_schedule
def test_schedules_are_compared_in_each_regime_for_each_seed(folder):
    """And the summary is that of the runs: of differences to no dropout, seed by seed."""
    results = _results(folder)
    assert results.keys() == {"recipe", "command", "steps", "schedules", "regimes", "seeds", "summary", "runs", "note"}
    assert results["recipe"] == folder.name
    assert results["steps"] == _config(folder / "config.yaml").steps
    assert results["schedules"] == list(dropout_table.SCHEDULES)
    assert results["regimes"] == list(dropout_table.REGIMES)
    assert results["seeds"] == [run["seed"] for run in results["runs"]]
    for run in results["runs"]:
        assert run.keys() == {"seed", "date", "commit", "wall_s", "regimes"}
        for regime in results["regimes"]:
            assert list(run["regimes"][regime]) == results["schedules"]
    assert results["summary"] == (dropout_table.summary(results) if results["runs"] else {})


def test_the_difference_of_two_schedules_is_that_of_pairs():
    """Two seeds by hand: 3.1 - 3.0 and 4.3 - 4.0 are .2 in the mean, give or take Student's 12.706 times .1."""
    bits = {0: (3.0, 3.1), 1: (4.0, 4.3)}
    one = {key: 0.0 for key in ("best", "trained")}
    runs = [
        {
            "regimes": {
                regime: {name: {"bits_per_byte": values[name != "none"], **one} for name in dropout_table.SCHEDULES}
                for regime in dropout_table.REGIMES
            }
        }
        for values in bits.values()
    ]
    told = dropout_table.summary({"runs": runs})["overfitting"]["late"]
    assert told["beyond_none"] == pytest.approx([0.2, 0.2 - 1.2706, 0.2 + 1.2706], abs=1e-3)
    assert told["bits_per_byte"][0] == pytest.approx(3.7)


@each_recipe
def test_the_tables_of_a_readme_are_those_of_its_results(folder):
    page = _readme(folder)
    assert _tool().filled(page, _tool().figures(_results(folder))) == page, "run `python -m tools.run_recipe`"


@each_recipe
def test_every_other_figure_of_a_readme_is_in_its_results_or_its_config(folder):
    results, config = _results(folder), yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")) or {}
    prose = re.sub(r"```.*?```|`[^`]*`", "", _tool().filled(_readme(folder), ""), flags=re.S)
    numbers = [run["wall_s"] / 60 for run in results["runs"] if run["wall_s"]]
    numbers += _numbers([results["summary"], config])
    if folder in SCHEDULES:
        numbers += _numbers([results["runs"], list(dropout_table.SCHEDULES.values())])
    elif folder in COMPARISONS:
        numbers += [100 * n for n in _numbers(results["summary"])]  # its tables are in %
    else:
        numbers += _numbers([results["reference"], results["also"], [run["values"] for run in results["runs"]]])
        numbers += [n for run in results["runs"] for curve in run["curves"].values() for n in _numbers(curve["value"])]
    assert _unknown(prose, numbers) == []


def _experiments():
    """The rows of the paper's table: what is trained, and the words that are added to the commands."""
    table = (PAPER / "README.md").read_text(encoding="utf-8").split("| experiment | words |")[1].split("\n\n")[0]
    cells = [row.strip("| ").split("|") for row in table.splitlines()[2:]]
    return {row[0].strip().replace("`", ""): row[1].strip(" `").split() if len(row) > 1 else [] for row in cells}


def _check_plan(words, capsys):
    """The paper's recipe with these words fits its GPUs: full on 8 GPUs of 80 GB, an adapter on one."""
    adapter = "learner.method=lora" in words
    gpus = ["--gpus", "80GB"] if adapter else ["--gpus", "8x80GB", "--shards", "8"]
    with pytest.raises(SystemExit) as done:
        main(["plan", str(PAPER / "config.yaml"), *words, *gpus, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert done.value.code == 0, told["change"]
    model = next((word.split("/")[-1] for word in words if word.startswith("model=")), "qwen3-4b-base")
    assert told["parameters"] == pytest.approx(BILLIONS[model] * 1e9, rel=0.002)
    assert (told["trained_parameters"] < 0.03 * told["parameters"]) == adapter


@pytest.mark.parametrize("words", _experiments().values(), ids=_experiments())
def test_each_experiment_of_the_paper_fits_its_gpus_without_its_weights(words, capsys):
    """It loads, its plug-ins are found and tried, and it is planned."""
    _check_plan(words, capsys)


def _arms_of_the_paper():
    """The rows of the guide's table: an arm, and the words that are added to the paper's recipe."""
    page = (ROOT / "docs" / "guides" / "transfer.md").read_text(encoding="utf-8")
    cells = [row.strip("| ").split(" | ") for row in page.split("| arm | words |")[1].split("\n\n")[0].splitlines()[2:]]
    return {row[0].strip(" |"): re.split(r" (?=[\w.]+=)", row[1].strip(" `")) if len(row) > 1 else [] for row in cells}


@pytest.mark.parametrize("words", _arms_of_the_paper().values(), ids=_arms_of_the_paper())
def test_each_arm_of_the_comparison_is_planned_for_the_papers_model(words, capsys):
    """From files as they are asked for: experts' games, and questions with answers."""
    _check_plan(words, capsys)


def test_the_paper_has_its_experiments():
    """Each game and all of them, the five models, and the controls."""
    words = [" ".join(row) for row in _experiments().values()]
    games = ("TicTacToe-v0", "KuhnPoker-v0-short", "SimpleNegotiation-v0")
    wanted = [f"games=[textarena/{game}]" for game in games]
    wanted += [f"model=models/{name}" for name in SHAPES if name != "qwen3-4b-base"]
    wanted += ["", "advantage=reinforce", "opponents=fixed", "opponents.args.opponent=remote"]
    assert [one for one in wanted if not any(one in row.split() or one == row for row in words)] == []


def test_the_hyperparameters_are_the_papers():
    """The table of the paper: constant 1e-6, clip .2, two passes, no KL and no entropy bonus, RAE with .95."""
    config = _config(PAPER / "config.yaml")
    learner, rollout = config.learner, config.rollout
    assert (learner.lr, learner.lr_end, learner.warmup_steps, learner.weight_decay) == (1e-6, 1, 0, 0)
    assert (learner.clip, learner.epochs, learner.minibatches, learner.kl, learner.entropy) == (0.2, 2, 1, 0, 0)
    assert learner.max_grad_norm == 128 * 4096 / rollout.episodes
    assert (rollout.max_new_tokens, rollout.illegal, tuple(rollout.penalty)) == (4096, "penalty", (-1.5, 0.5))
    assert (config.steps, config.evaluate.every, config.evaluate.matches) == (400, 16, 16)
    assert Plugins.installed().make("advantage", config.advantage.name, **config.advantage.args).decay == 0.95


def test_a_wrong_figure_is_found():
    assert _unknown("ends at 0.073 and .34, seed 7; 2.5 minutes, -0.0556.", [0.07312, 0.341, 2.5, -0.05563]) == []
    assert _unknown("ends at 0.073, .35", [0.0726, 0.341]) == [".35"]
    assert _unknown("0.1, 2 and 3; byte-0.3m of version 0.7.4", [0.2]) == ["0.1"]


def test_the_overview_lists_every_recipe():
    """Its table is written from all results.json."""
    page = (RECIPES / "README.md").read_text(encoding="utf-8")
    assert _tool().filled(page, _tool().overview(_tool().load_all())) == page, "run `python -m tools.run_recipe`"
    assert [one["recipe"] for one in _tool().load_all()] == [folder.name for folder in FOLDERS]


def test_a_seed_measured_again_replaces_its_run_alone():
    results = {"metrics": {"loss": {"label": "loss", "better": "lower"}}, "seeds": [], "runs": [], "summary": {}}
    first = _tool().with_runs(results, [{"seed": seed, "values": {"loss": seed / 10}} for seed in (2, 0, 1)])
    again = _tool().with_runs(first, [{"seed": 1, "values": {"loss": 0.7}}])
    assert again["seeds"] == [0, 1, 2]
    assert again["summary"] == {"loss": {"median": 0.2, "worst": 0.7, "worst_seed": 1}}


def test_a_run_is_read_at_its_last_recorded_values(tmp_path):
    lines = [{"step": 0, "eval/g/x": 0.5, "y": 1}, {"step": 1, "y": 2}, {"step": 2, "eval/g/x": 0.25, "y": 3}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    run = _tool().run_record(tmp_path, 4, ["eval/g/x", "y"], 61.25, "2026-11-28", "abc")
    assert run.keys() == RUN
    assert (run["seed"], run["steps"], run["values"]) == (4, 2, {"eval/g/x": 0.25, "y": 3})
    assert run["curves"] == {"eval/g/x": {"step": [0, 2], "value": [0.5, 0.25]}}
    with pytest.raises(SystemExit, match="recorded no z"):
        _tool().run_record(tmp_path, 4, ["z"], None, "2026-11-28", None)


def test_json_keeps_a_list_of_numbers_on_a_line():
    results = {"seeds": [0, 1], "runs": [{"step": [0, 25], "note": "a [1,\n 2] b"}], "also": []}
    text = _tool().dump(results)
    assert json.loads(text) == results
    assert '"step": [0, 25]' in text
