"""A benchmark as a game: RLVR is self-play's loop over questions."""

import copy
import pickle
import random
from functools import partial

import pytest

from spiral import LEARNER, hookimpl
from spiral.api.errors import PluginError
from spiral.api.games import IllegalMove
from spiral.config.schema import RolloutConfig
from spiral.evaluation.benchmarks.asking import Asker
from spiral.evaluation.benchmarks.benchmark import Asking, Benchmark
from spiral.evaluation.contamination import questions
from spiral.models.prompt_cache import Prompter
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import Pool
from spiral.selfplay import task_game
from spiral.selfplay.curriculum import Weighted
from spiral.selfplay.rollouts import Rollouts
from spiral.testing import check, check_game, make_episode, merging_tokenizer
from spiral.testing.fakes import ScriptedEngine
from spiral.testing.prompts import CHATML


class Sum:
    """A task of a stranger's."""

    def __init__(self, n):
        self.id, self.prompt, self.gold = f"sum-{n}", f"{n} + 1 =", str(n + 1)

    def grade(self, reply):
        return 1.0 if reply.strip() == self.gold else 0.25 * (reply.strip() == self.gold + ".")


def sums(size: int = 10):
    return [Sum(n) for n in range(size)]


class Door:
    """A stranger's distribution: one benchmark, and a family of two."""

    @hookimpl
    def register_benchmarks(self, register):
        register("sums", sums)
        register("more", lambda member, **args: sums(**args), members=lambda: ["one", "two"])


@pytest.fixture(scope="module", autouse=True)
def plugins():
    found = Plugins.installed()
    found.add(Door(), "acme")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_game.Plugins, "installed", classmethod(lambda cls: found))
        yield found
    task_game._tasks.cache_clear()


class Alone:
    """The learner is asked."""

    def seat(self, game, num_players, pool, rng):
        return [LEARNER]


def begun(seed=0, **args):
    game = task_game.task_game("sums", **args)
    game.reset(random.Random(seed))
    return game


def test_every_benchmark_is_a_game(plugins):
    """A stranger's too, and the members of families, by the name of the benchmark."""
    names = {r.name for r in plugins.named("tasks")}
    assert names >= {"tasks/sums", "tasks/more/one", "tasks/more/two", "tasks/jsonl"}
    assert "tasks/more" not in names
    assert plugins.make("game", "tasks/more/two", size=3).num_players == 1
    assert check(plugins, "game", "tasks/sums") == []


def test_it_keeps_the_promises_of_a_game():
    assert check_game(lambda: task_game.task_game("sums", size=4), num_matches=20) == []


def test_the_prompt_is_seen_and_the_grade_is_the_return():
    game = begun()
    task = game.task
    assert (game.observe(0), game.legal_moves(), game.current_player()) == (task.prompt, None, 0)
    right, half, wrong = begun(), begun(), begun()
    for played, move in ((right, task.gold), (half, task.gold + "."), (wrong, "no")):
        played.play(move)
        assert (played.current_player(), played.legal_moves()) == (None, [])
        with pytest.raises(IllegalMove, match="answered"):
            played.play(move)
    assert [g.returns() for g in (right, half, wrong)] == [[1.0], [0.25], [0.0]]


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("plain", {}),
        ("plain", {"rules": True}),
        ("chat", {}),
        ("chat", {"rules": False, "answer": "tags", "reason": False}),
        ("chat", {"history": "transcript", "moves": True}),
        *[(name, {}) for name in ("qwen3", "octothinker", "r1-distill", "llama-instruct")],
    ],
)
def test_a_question_has_one_prompt_in_training_and_in_a_benchmark(plugins, name, args):
    """Or what is trained would be another thing than what is measured."""
    tokenizer = merging_tokenizer(CHATML, ["<|im_start|>", "<|im_end|>"])
    prompter = Prompter(plugins.make("prompt", name, tokenizer, **args))
    played, asked = (ScriptedEngine(lambda request: prompter.stop_ids[:1]) for _ in range(2))
    pool, config = Pool(plugins, Completer.of(played, prompter, 4)), RolloutConfig(deadline_s=60)
    games = {"tasks/sums": partial(task_game.task_game, "sums")}
    Rollouts(games, Weighted({"tasks/sums": 1.0}), Alone(), pool, config).play(50, (0, "test"))
    asker = Asker("model", asked, LEARNER, prompter, tokenizer.decode, config)
    benchmark = Benchmark("sums", tuple(sums()), Asking(max_new_tokens=4), "")
    list(asker.ask([*asker.questions(benchmark)], seed=0))
    assert {request.prompt for request in played.requests} == {request.prompt for request in asked.requests}
    assert len({request.prompt for request in asked.requests}) == 10


def test_a_reply_that_cannot_be_read_is_worth_what_a_wrong_one_is():
    assert begun().worst_return == 0


def test_games_of_one_deal_ask_one_question():
    """A group of GRPO or RLOO compares replies to the same question."""
    assert len({begun(seed=3).task.id for _ in range(5)}) == 1
    assert len({begun(seed).task.id for seed in range(50)}) > 5


def test_a_sampled_move_tells_how_answers_look_and_not_which_is_right():
    """It is drawn from all golds: warm start on it is no supervised training on the questions."""
    game = begun()
    drawn = [game.sample_move(random.Random(seed)) for seed in range(300)]
    assert set(drawn) == {task.gold for task in game.tasks}
    assert drawn.count(game.task.gold) < 60


def test_questions_are_made_once_and_copied_never():
    """A game begins for each match, and is copied by bots that search."""
    one, two = begun(size=7), begun(size=7)
    assert one.tasks is two.tasks is copy.deepcopy(one).tasks
    again = pickle.loads(pickle.dumps(one))
    assert again.observe(0) == one.observe(0)
    assert len(pickle.dumps(one)) < 1000
    assert begun(size=8).tasks is not one.tasks


def test_what_it_may_ask_is_told():
    """A run refuses to train on what it evaluates by."""
    assert [task.id for task in questions(begun(size=2))] == ["sum-0", "sum-1"]


def test_a_benchmark_or_an_argument_that_does_not_fit_is_one_sentence(plugins):
    with pytest.raises(
        PluginError, match="benchmark 'sums': got an unexpected keyword argument 'length'; its arguments are: size"
    ):
        plugins.make("game", "tasks/sums", length=3)
    with pytest.raises(PluginError, match="no benchmark named 'sumz' .* did you mean 'sums'"):
        plugins.make("game", "tasks/sumz")


# Curricula: three difficulties of one benchmark are three games of one mixture

LEVELS = ["tasks/sums(size=2)", "tasks/sums(size=20)", "tasks/sums(size=200)"]


def answered(game, share, rng):
    """An episode of one question, answered right in a share of the times."""
    match = begun(rng.getrandbits(32), size=int(game.partition("=")[2].rstrip(")")))
    match.play(match.task.gold if rng.random() < share else "no")
    return make_episode(match.returns(), game=game, policies=[LEARNER])


def played(curriculum, skill, num=600):
    """Game -> times chosen in the last third, where `skill` is the share of right answers at each level."""
    rng, chosen = random.Random(0), []
    for _ in range(num):
        game = curriculum.choose(rng)
        chosen.append(game)
        curriculum.record(answered(game, skill[game], rng))
    return {game: chosen[-num // 3 :].count(game) for game in LEVELS}


def test_a_chain_of_difficulties_opens_the_next_when_one_is_mastered(plugins):
    games = dict.fromkeys(LEVELS, 1.0)
    args = {"order": LEVELS, "threshold": 0.8, "window": 50}
    stuck = played(plugins.make("curriculum", "chain", games, **args), dict(zip(LEVELS, (0.9, 0.3, 0.1), strict=True)))
    assert stuck[LEVELS[2]] == 0 < stuck[LEVELS[1]]
    able = played(plugins.make("curriculum", "chain", games, **args), dict(zip(LEVELS, (0.9, 0.9, 0.1), strict=True)))
    assert able[LEVELS[2]] > able[LEVELS[1]]


def test_a_band_of_success_prefers_the_questions_that_are_open(plugins):
    """Neither those that are always answered nor those that never are: their groups have no variance."""
    band = plugins.make("curriculum", "success_band", dict.fromkeys(LEVELS, 1.0))
    times = played(band, dict(zip(LEVELS, (1.0, 0.5, 0.0), strict=True)))
    assert times[LEVELS[1]] > 3 * max(times[LEVELS[0]], times[LEVELS[2]])
