"""Names of metrics: what is built parses back, whatever games and opponents are called, and no two are the same."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spiral.runs import metric_names
from spiral.runs.metric_names import MetricName, match, of_game, of_player, parse, split_player, voided_by, voided_cause

WORDS = "x vs p0 p12 / /vs/ /vs vs/ % %2F %25 %252F nash_conv win eval play (size=3) (board='a/vs/b') snapshot:4 漢字 é"
PARTS = st.sampled_from([*WORDS.split(), " ", "\n", "\ud800", "(note='100%', k=1)"])
NAMES = st.one_of(st.lists(PARTS, min_size=1, max_size=6).map("".join), st.text(min_size=1))
STAGES = st.sampled_from(["eval", "play", "health", "pool"])
QUANTITIES = st.one_of(st.sampled_from(["nash_conv", "win", "return_p0", "vs", "p0"]), st.text("ab_%p0", min_size=1))
PLAYERS = st.integers(0, 99)


@given(STAGES, NAMES, QUANTITIES)
@example("eval", "x/vs/y/p0", "win")
@example("eval", "x/vs", "nash_conv")
@example("eval", "vs/y", "win")
@example("play", "%2Fvs", "games")
def test_a_quantity_of_a_game_parses_back(stage, game, quantity):
    assert parse(of_game(stage, game, quantity)) == MetricName(stage, game, quantity)


@given(NAMES, NAMES, PLAYERS, QUANTITIES)
@example("x/vs/y", "random", 0, "win")
@example("x", "y/vs/random", 0, "win")
@example("x/vs", "y", 0, "win")
@example("x", "vs/y", 0, "win")
@example("x", "random/p1", 0, "win")
@example("50%/vs/50%25", "model:org/name", 1, "draw")
def test_a_result_of_matches_parses_back(game, opponent, player, quantity):
    assert parse(match(game, opponent, player, quantity)) == MetricName("eval", game, quantity, opponent, player)


@given(st.lists(st.tuples(NAMES, NAMES, PLAYERS, QUANTITIES), unique=True, max_size=8))
def test_no_two_matches_have_one_name(matches):
    assert len({match(*one) for one in matches}) == len(matches)


@given(QUANTITIES, PLAYERS)
def test_a_quantity_of_a_player_splits_again(quantity, player):
    assert split_player(of_player(quantity, player)) == (quantity, player)


@pytest.mark.parametrize("quantity", ["nash_conv", "win", "illegal_p", "p0", "_p0", "score_p٣"])
def test_a_quantity_of_the_whole_game_has_no_player(quantity):
    assert split_player(quantity) == (quantity, None)


@given(NAMES)
@example("bot:chat(model='org/name')")
@example("100%")
def test_a_cause_parses_back_and_its_name_belongs_to_no_game(cause):
    assert voided_cause(voided_by(cause)) == cause
    assert parse(voided_by(cause)) is None


@pytest.mark.parametrize(
    "name", ["", "play/illegal_rate", "play/voided", "learner/kl", "time/step_s", "other/a/b", "eval//win"]
)
def test_a_name_of_no_game_parses_to_none(name):
    assert parse(name) is None
    assert voided_cause(name) is None


def test_ordinary_names_stand_as_they_are_spoken():
    """Escapes are for the rare game: trackers and people read these names."""
    assert metric_names.nash_conv("kuhn_poker") == "eval/kuhn_poker/nash_conv"
    assert match("nim(piles=3)", "random", 1, "win") == "eval/nim(piles=3)/vs/random/p1/win"
    assert metric_names.rating_low("a/b") == "pool/a/b/rating_low"
    assert voided_by("deadline") == "play/voided: deadline"
