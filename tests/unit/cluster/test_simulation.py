"""The simulator: figures that can be computed by hand, and the rules of the real scheduler."""

import random

import pytest
from click.testing import CliRunner

from spiral.api.errors import ConfigError
from spiral.cluster.simulation.cluster import LearnerRates, Setting, simulate, what_to_add
from spiral.cluster.simulation.engines import EngineRates
from spiral.cluster.simulation.reading import Lengths, read_cluster
from spiral.commands.main import main


def _setting(**more):
    asked = {
        "engines": 1, "staleness": 0, "games": 10, "steps": 12, "window": 100,
        "engine": EngineRates(pass_s=0.1, text_s=0.01), "learner": LearnerRates(step_s=4.0),
    }  # fmt: skip
    return Setting(**{**asked, **more})


def always(tokens, prompt=0):
    return lambda rng: (prompt, tokens)


def test_a_synchronous_step_by_hand():
    """10 games of 20 tokens: 20 passes of .1 + 10 x .01 s are 4 s, and the update takes 4 s: 10 games in 8 s, engine
    and learner busy half of the time, each game of the present version."""
    o = simulate(_setting(), always(20))
    assert o.games_per_s == pytest.approx(10 / 8)
    assert o.tokens_per_s == pytest.approx(200 / 8)
    assert (o.engines_busy, o.learner_busy) == pytest.approx((0.5, 0.5))
    assert (o.staleness, o.tail_s) == (0.0, 0.0)


def test_two_engines_by_hand():
    """5 games each: 20 passes of .15 s are 3 s, and the step takes 7."""
    o = simulate(_setting(engines=2), always(20))
    assert o.games_per_s == pytest.approx(10 / 7)
    assert o.engines_busy == pytest.approx(3 / 7)


def test_prompts_loads_transfers_and_reports_take_their_time():
    """1 s of prompts (10 x 10 x .01), 2 s to load, .5 s of transfer, .25 s until the end is known: 4 + 4 + 3.75."""
    engine = EngineRates(pass_s=0.1, text_s=0.01, prompt_token_s=0.01, load_s=2.0)
    o = simulate(_setting(engine=engine, learner=LearnerRates(4.0, 0.0, 0.5), report_s=0.25), always(20, 10))
    assert o.games_per_s == pytest.approx(10 / (4 + 4 + 3.75))


def test_the_learners_time_follows_the_tokens():
    o = simulate(_setting(learner=LearnerRates(1.0, 0.01)), always(20))
    assert o.learner_busy == pytest.approx(3 / 7)


def test_with_a_bound_both_work_at_once():
    """Two steps' games share the passes: 20 passes of .3 s for 20 games, 6 s; both are never idle together, and no game
    is older than the bound."""
    o = simulate(_setting(staleness=1, steps=40), always(20))
    assert o.games_per_s > 1.2 * 10 / 8
    assert 0 < o.staleness <= 1


@pytest.mark.parametrize("bound", [0, 1, 2, 4])
def test_ages_keep_the_bound_and_a_longer_bound_is_never_slower(bound):
    rng = random.Random(3)
    lengths = [min(400, max(1, round(rng.lognormvariate(3.5, 1.0)))) for _ in range(500)]

    def draw(rng):
        return 0, rng.choice(lengths)

    settings = [_setting(engines=4, games=64, steps=30, staleness=b) for b in (bound, bound + 1)]
    first, second = (simulate(setting, draw) for setting in settings)
    assert 0 <= first.staleness <= bound
    assert second.games_per_s > 0.97 * first.games_per_s


def test_the_tail_is_the_wait_for_the_last_games():
    """9 games of 10 tokens and one of 110 among them: after 10 passes one game is left for 100 passes of .11 s."""
    sizes = iter([110, *[10] * 9] * 50)
    o = simulate(_setting(), lambda rng: (0, next(sizes)))
    assert o.tail_s == pytest.approx(100 * 0.11)


def test_what_to_add_names_what_is_short():
    slow_learner = what_to_add(simulate(_setting(staleness=1, learner=LearnerRates(40.0)), always(20)), always(20))
    assert max(slow_learner, key=slow_learner.get) == "learner"
    setting = _setting(staleness=3, learner=LearnerRates(0.1), window=5, games=40)
    slow_engine = what_to_add(simulate(setting, always(20)), always(20))
    assert max(slow_engine, key=slow_engine.get) == "engines"


def test_a_thousand_engines():
    o = simulate(_setting(engines=1000, games=4000, steps=4), always(20))
    assert o.games_per_s == pytest.approx(4000 / (20 * 0.14 + 4), rel=0.01)


GOOD = """
engines: [1, 2]
games: 10
engine: {pass_s: 0.1, text_s: 0.01}
learner: {step_s: 4}
reply_tokens: {median: 20}
steps: 12
"""


def test_the_command_prints_a_line_a_setting(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text(GOOD)
    done = CliRunner().invoke(main, ["simulate", str(path)])
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    assert [row[:2] for row in rows] == [[n, b] for n in "12" for b in "012"]
    assert "a bound one higher" in done.stdout


def test_lengths_follow_their_distribution():
    rng = random.Random(0)
    drawn = sorted(Lengths(median=1000, sigma=1.0, most=5000).draw(rng) for _ in range(4001))
    assert drawn[2000] == pytest.approx(1000, rel=0.08)
    assert drawn[-1] == 5000
    assert Lengths(median=7).draw(rng) == 7
    assert Lengths(values=[3]).draw(rng) == 3
    assert Lengths().draw(rng) == 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD.replace("games: 10", "game: 10"), r"game is no key; there are: engines, games"),
        (GOOD.replace("pass_s: 0.1", "pass: 0.1"), r"engine\.pass is no key; there are: engine\.pass_s"),
        (GOOD.replace("games: 10\n", ""), r"games is missing"),
        (GOOD.replace("games: 10", "games: ten"), r"games is 'ten', not a whole number"),
        (GOOD.replace("step_s: 4", "step_s: -4"), r"step_s is -4, and must be a number of seconds"),
        (GOOD.replace("[1, 2]", "[0]"), r"engines is \[0\], and must be at least 1"),
        (GOOD.replace("pass_s: 0.1, text_s: 0.01", "pass_s: 0, text_s: 0"), r"no token would take time"),
        (GOOD.replace("{median: 20}", "{}"), r"reply_tokens says nothing"),
        ("- 1", r"holds no keys"),
        ("a: [", r"is no YAML"),
    ],
)
def test_a_file_that_cannot_be_simulated_is_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        read_cluster(path)


def test_a_run_without_games_is_refused(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text(GOOD.replace("reply_tokens: {median: 20}", f"run: {tmp_path}"))
    with pytest.raises(ConfigError, match=r"has no games that can be read"):
        read_cluster(path).draw()
