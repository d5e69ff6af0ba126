"""Other runs and saved models at the table: each plays with its own weights, and a wrong name is one sentence."""

import json

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from spiral import hookimpl
from spiral.api.errors import ConfigError, RunError, SpiralError
from spiral.commands.main import main
from spiral.config import loading as config
from spiral.engines.waiting import Deadline, completions
from spiral.evaluation.loaded_policy import LoadedPolicy
from spiral.evaluation.measurements import match_rows
from spiral.evaluation.move_probabilities import move_probabilities
from spiral.models.logits import TokenLogits, parameters
from spiral.plugins.registry import Plugins
from spiral.policies.loading import make_completer
from spiral.reports.terminal import headline
from spiral.runs import metric_names
from spiral.runs.directory import RunDir
from spiral.selfplay import setup as assemble
from spiral.selfplay.validation import check
from spiral.theory.best_response import GameTree
from spiral.training.loop import train

TINY = [
    "steps=2", "rollout.episodes=8", "warm_start.max_steps=30", "warm_start.cache=false", "warm_start.batch=16",
    "evaluate.every=0", "evaluate.matches=2", "checkpoint.every=1", "checkpoint.keep=0", "loggers=[]",
]  # fmt: skip


def _run(path, *words):
    plugins = Plugins.installed()
    asked = config.load(None, [*TINY, *words])
    check(asked, plugins)
    opened = RunDir.create(path, asked, plugins.distributions)
    train(asked, opened, plugins, lambda *_: None, False)
    return opened.path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One run of the demo's model, one of a larger model."""
    folder = tmp_path_factory.mktemp("runs")
    return _run(folder / "a", "seed=3"), _run(folder / "b", "model=byte-0.4m", "seed=4")


def _players(*words):
    asked = config.load(None, [*TINY, "opponents=mixture", *words])
    plugins = Plugins.installed()
    check(asked, plugins)
    made = assemble.make_play_setup(asked, plugins)
    assemble.add_members(asked, made)
    return made


def test_a_reply_ends_at_each_end_of_the_models_generation_config():
    """Beside the prompt format's own: chat models have several, and a reply would run on past the others."""
    plugins, asked = Plugins.installed(), config.load(None, TINY)
    model, tokenizer = plugins.make("model", "byte-0.1m")
    model.generation_config.eos_token_id = [7, 261]
    completer = make_completer(model, tokenizer, asked, plugins)
    assert completer.sampling.stop_ids == (261, 7)


def _chance(players, policy, text="p0 J"):
    """The policy's chance to bet with the lowest card, by 400 games of the first turn."""
    completer = players.pool.completer_of(policy)
    for n in range(400):
        completer.engine.submit(completer.request(n, policy, completer.prompt("", text), n))
    done = completions(completer.engine, 400, Deadline(60, ""))
    return sum(completer.read(c) == "bet" for c in done) / 400


def test_a_run_of_the_same_model_shares_the_engine(runs):
    """Its averaged weights of that step, in the run's own engine, under the name that says which."""
    a, _ = runs
    made = _players(f"pool.members=['run:{a}@1']")
    policy = f"run:{a}@1"
    assert made.pool.members("kuhn_poker") == [policy]
    assert made.pool.completer_of(policy) is made.completer
    weights = load_file(a / "checkpoints" / "step-000001" / "model" / "model.safetensors")
    with torch.no_grad():
        for name, tensor in parameters(made.model).items():
            tensor.copy_(weights[name])
    from spiral_games.native.kuhn_poker import KuhnPoker

    tree = GameTree.of(KuhnPoker())
    first = next(d for d in tree.decisions if d.player == 0)
    table, illegal = move_probabilities(TokenLogits(made.model), made.completer, KuhnPoker().rules, [first])
    expected = table[first.observation]["bet"] * (1 - illegal[first.observation])
    assert _chance(made, policy, first.observation) == pytest.approx(expected, abs=0.1)


def test_a_run_of_another_model_brings_its_own_engine(runs):
    """A 0.4m policy at the table of a 0.1m learner: trained against, and only the learner's turns are trained."""
    a, b = runs
    run = _run(
        b.parent / "against_b", f"pool.members=['run:{b}@2','run:{a}@2']", "opponents={name: uniform_past}", "steps=2"
    )
    episodes = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    seated = {policy for e in episodes for policy in e["policies"]}
    assert seated == {"learner", f"run:{b}@2", f"run:{a}@2"}
    for e in episodes:
        for turn in e["turns"]:
            trained = e["policies"][turn["player"]] == "learner"
            assert (turn["advantage"] is not None) == trained
            assert turn["logprob"] is not None


def test_a_saved_model_plays(runs):
    """What save_pretrained wrote is asked with this run's prompt, and its weights are those of the checkpoint."""
    a, b = runs
    made = _players(f"pool.members=['model:{b / 'checkpoints' / 'step-000002' / 'model'}']")
    [policy] = made.pool.members("kuhn_poker")
    other = _players(f"pool.members=['run:{b}@2']")
    assert _chance(made, policy) == _chance(other, f"run:{b}@2")


def test_eval_plays_against_other_runs(runs):
    """`spiral eval A --opponent run:B`: the newest checkpoint, by its step."""
    a, b = runs
    rows = match_rows(LoadedPolicy.of_run(a), None, [f"run:{b}", "random"], 10)
    assert {row["opponent"] for row in rows} == {f"run:{b}@2", "random"}
    assert all(row["games"] == 10 for row in rows)


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ("run:{a}", r"names no step, and the newest changes .* write run:.*@2"),
        ("run:{a}@9", r"has no checkpoint of step 9; it has: 1, 2"),
        ("run:nowhere@1", r"nowhere is not a run: it does not exist"),
        ("model:nowhere", r"nowhere holds no saved model \(no config.json\); give a folder that save_pretrained wrote"),
        ("nobody", r"no bot named 'nobody' \(installed: "),
        ("random:sides=6", r"bot 'random': .*its arguments are: none"),
    ],
)
def test_a_wrong_member_is_one_sentence_before_the_run_starts(runs, member, said):
    """Nothing was made yet; the sentence names the entry."""
    asked = config.load(None, [f"pool.members=['{member.format(a=runs[0])}']"])
    with pytest.raises(ConfigError, match=r"(?s)pool.members: " + r".*" + said):
        check(asked, Plugins.installed())


def test_a_member_of_a_game_that_is_not_played_is_refused():
    """A misspelt game would silently seat nobody."""
    asked = config.load(None, ["pool.members=[{policy: random, games: [chess]}]"])
    with pytest.raises(ConfigError, match=r"random plays chess, which is none of the run's games: kuhn_poker"):
        check(asked, Plugins.installed())


def test_a_policy_of_another_game_is_refused_at_start(runs):
    """It would forfeit every match, and each would count as a win over it: one sentence a policy, for both lists."""
    a, _ = runs
    model = f"model:{a / 'checkpoints' / 'step-000002' / 'model'}"
    for member in (f"run:{a}@2", model):
        for key in ("pool.members", "evaluate.opponents"):
            asked = config.load(None, ["games=tic_tac_toe", "opponents=mixture", f"{key}=['{member}']"])
            with pytest.raises(ConfigError, match=f"{key}: {member} was trained on kuhn_poker and not on tic_tac_toe"):
                check(asked, Plugins.installed())
    asked = ["games=[kuhn_poker,tic_tac_toe]", "opponents=mixture", "pool.members.0.policy=x"]
    both = config.load(None, [*asked[:2], f"pool.members=['run:{a}@2']"])
    with pytest.raises(ConfigError, match=r"not on tic_tac_toe, .* limit this one to its own with \{policy: "):
        check(both, Plugins.installed())
    limited = [
        f"{key}=[{{policy: 'run:{a}@2', games: [kuhn_poker]}}]" for key in ("pool.members", "evaluate.opponents")
    ]
    check(config.load(None, [*asked[:2], *limited]), Plugins.installed())
    check(config.load(None, ["games=[{name: kuhn_poker, args: {rounds: 2}}]", *asked[1:2], f"pool.members=['run:{a}@2']"]),
          Plugins.installed())  # fmt: skip
    with pytest.raises(SpiralError, match="was trained on kuhn_poker and not on tic_tac_toe"):
        match_rows(LoadedPolicy.of_run(_run(a.parent / "ttt", "games=tic_tac_toe")), None, [f"run:{a}"], 2)


def test_a_bot_whose_moves_are_of_another_game_is_refused_at_start():
    """It raises nothing, and each of its moves is illegal."""

    class Chess:
        def choose(self, game, player, rng):
            return "e2e4"

    class Bots:
        @hookimpl
        def register_bots(self, register):
            register("chess", Chess)

    plugins = Plugins.installed()
    plugins.add(Bots(), "acme")
    for words in (["evaluate.opponents=[chess]"], ["opponents=mixture", "pool.members=[chess]"]):
        with pytest.raises(ConfigError, match="game kuhn_poker: bot:chess made the move 'e2e4', which is not legal"):
            check(config.load(None, words), plugins)


@pytest.mark.parametrize(
    "opponents", ["mirror", "fixed", "{name: mixture, args: {weights: {learner: 1, snapshots: 1}}}"]
)
def test_members_that_the_sampler_never_seats_are_refused(opponents):
    """They would be loaded, and never be met; a fallback that meets them is use enough."""
    words = ["pool.members=[random]", "pool.every=2", f"opponents={opponents}"]
    with pytest.raises(
        ConfigError, match=r"pool.members lists random, whom opponent sampler '\w+' never seats; .*mixture"
    ):
        check(config.load(None, words), Plugins.installed())
    check(config.load(None, [*words, "health={action: rollback, fallback: uniform_past}"]), Plugins.installed())


def test_opponents_of_evaluation_can_be_limited_to_games(tmp_path):
    """`perfect` cannot play Kuhn poker; a name alone plays all games."""
    words = ["games=[kuhn_poker,tic_tac_toe]", "evaluate.opponents=[random,{policy: perfect, games: [tic_tac_toe]}]"]
    run = _run(tmp_path / "r", *words, "steps=1", "evaluate.every=1", "evaluate.exploitability=false")
    found = {metric_names.parse(name) for name in RunDir(run).metrics()[-1] if name.startswith("eval/")}
    played = {(name.game, name.opponent) for name in found}
    assert played == {("kuhn_poker", "random"), ("tic_tac_toe", "random"), ("tic_tac_toe", "perfect")}
    rows = match_rows(LoadedPolicy.of_run(run), None, [], 2)
    assert {(row["game"], row["opponent"]) for row in rows} == played


def test_a_game_for_one_player_is_measured_without_opponents(tmp_path):
    """No policy sits opposite: no row, metric or line says "against random", and a bot that cannot play it is no fault."""
    words = [
        "games=[guess_the_number,tic_tac_toe]",
        "evaluate.opponents=[random,perfect]",
        "steps=2",
        "evaluate.every=1",
    ]
    run = _run(tmp_path / "r", *words, "evaluate.exploitability=false")
    metrics = RunDir(run).metrics()[-1]
    alone = {name for name in metrics if name.startswith("eval/guess_the_number/")}
    told = ("return", "return_low", "return_high", "illegal", "cut", "voided")
    assert alone == {f"eval/guess_the_number/{what}" for what in told}
    low, mean, high = (metrics[f"eval/guess_the_number/{what}"] for what in ("return_low", "return", "return_high"))
    assert low <= mean <= high
    assert headline(metrics)["return guess_the_number"] == (mean,)
    rows = match_rows(LoadedPolicy.of_run(run), None, [], 4)
    assert [(row["opponent"], row["player"]) for row in rows if row["game"] == "guess_the_number"] == [(None, 0)]
    shown = CliRunner().invoke(main, ["eval", str(run), "--games", "4"]).output.splitlines()
    assert [line for line in shown if "guess_the_number" in line] == [shown[0]]
    assert shown[0].startswith("guess_the_number: return ")
    assert "vs" not in shown[0]


def test_a_damaged_checkpoint_is_one_sentence(runs, tmp_path):
    """A file cut short, told apart from a model of another shape."""
    import shutil

    a, _ = runs
    shutil.copytree(a, tmp_path / "cut")
    file = tmp_path / "cut" / "checkpoints" / "step-000002" / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RunError, match="cannot be read"):
        _players(f"pool.members=['run:{tmp_path / 'cut'}@2']")
