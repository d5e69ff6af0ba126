"""What is known of the policies: tallies add up, recent scores forget, ratings follow results, and state is whole."""

import json
import random

import pytest

from spiral.api.records import LEARNER, outcome
from spiral.policies.results import MEMORY, RATED, Results
from spiral.testing import make_episode

PAST, BOT = "snapshot:10", "bot:random"


def _against(opponent, *returns, chair=0, game="g"):
    """Episodes of the learner at `chair` with these returns of its own, zero-sum."""
    seats = [LEARNER, opponent] if chair == 0 else [opponent, LEARNER]
    return [make_episode((r, -r) if chair == 0 else (-r, r), game=game, policies=seats) for r in returns]


def test_a_tally_counts_each_chair_by_itself():
    """Two wins, a draw and a loss from chair 0 and one win from chair 1, seen from both sides."""
    ledger = Results()
    ledger.record(_against(PAST, 1, 1, 0, -1) + _against(PAST, 1, chair=1))
    assert ledger.tally("g", LEARNER, [PAST], 0) == (2, 1, 1)
    assert ledger.tally("g", LEARNER, [PAST], 1) == (1, 0, 0)
    assert ledger.tally("g", PAST, [LEARNER], 1) == (1, 1, 2)
    assert ledger.tally("other", LEARNER, [PAST], 0) == (0, 0, 0)


def test_a_score_before_any_game_is_a_half_and_one_win_moves_it_to_two_thirds():
    """(1 + wins + draws/2) / (2 + games), with the forgetting of a single game still invisible."""
    ledger = Results()
    assert ledger.score("g", PAST) == 0.5
    ledger.record(_against(PAST, 1))
    assert ledger.score("g", PAST) == pytest.approx(2 / 3)
    ledger.record(_against(PAST, 0))
    k = 1 - 1 / MEMORY
    assert ledger.score("g", PAST) == pytest.approx((1 + k + 0.5) / (2 + k + 1))


def test_a_score_forgets():
    """After 2,000 losses, 2,000 wins count as if the losses had never been; a plain mean would say a half."""
    ledger = Results()
    ledger.record(_against(PAST, *[-1] * 2000))
    assert ledger.score("g", PAST) < 0.01
    ledger.record(_against(PAST, *[1] * 2000))
    assert ledger.score("g", PAST) > 0.99
    assert ledger.num_recent("g", PAST) == pytest.approx(MEMORY, rel=1e-3)


def test_scores_are_kept_by_game():
    """Winning one game says nothing about another."""
    ledger = Results()
    ledger.record(_against(PAST, *[1] * 50))
    assert ledger.score("h", PAST) == 0.5


def test_games_against_itself_leave_no_rating_and_no_score():
    """Mirror games tell nothing about who is better; their tallies stay, for the first player's edge."""
    ledger = Results()
    ledger.record([make_episode((1, -1), game="g")] * 10)
    assert ledger.rated("g") == {}
    assert ledger.tally("g", LEARNER, [LEARNER], 0) == (10, 0, 0)
    assert ledger.score("g", LEARNER) == 0.5


def test_ratings_find_the_order_of_strength():
    """Three players who win 80% against the next weaker one end up in that order, and surer than they began."""
    rng, ledger = random.Random(0), Results()
    strength = {BOT: 0, LEARNER: 1, PAST: 2}
    for _ in range(60):
        games = []
        for _ in range(RATED):
            a, b = rng.sample(list(strength), 2)
            won = rng.random() < (0.8 if strength[a] > strength[b] else 0.2)
            games.append(make_episode((1, -1) if won else (-1, 1), game="g", policies=[a, b]))
        ledger.record(games)
    mus = [ledger.rating("g", p).mu for p in (BOT, LEARNER, PAST)]
    assert mus == sorted(mus)
    assert mus[1] - mus[0] > 2
    assert mus[2] - mus[1] > 2
    assert all(ledger.rating("g", p).sigma < 2 for p in strength)
    assert ledger.rating("g", BOT).low == pytest.approx(mus[0] - 3 * ledger.rating("g", BOT).sigma)


def test_at_most_a_sample_of_a_step_is_rated():
    """Of 10 * RATED games RATED change ratings: as many as when only every tenth had been played."""
    games = _against(PAST, *[1, -1] * (5 * RATED))
    all_, tenth = Results(), Results()
    all_.record(games)
    tenth.record(games[::10])
    assert all_.state["ratings"] == tenth.state["ratings"]


def test_a_policy_at_two_chairs_is_rated_once():
    """With three chairs and the bot at two of them, the better of its two results counts."""
    ledger = Results()
    ledger.record([make_episode((0, 1, -1), game="g", policies=[LEARNER, BOT, BOT])])
    assert {*ledger.rated("g")} == {LEARNER, BOT}
    assert ledger.rating("g", BOT).mu > ledger.rating("g", LEARNER).mu


def test_a_snapshot_inherits_and_a_dropped_one_is_forgotten():
    """A copy is worth what the original is; whoever plays no more takes up no room, and its tallies stay as history."""
    ledger = Results()
    ledger.record(_against(BOT, *[1] * 30))
    ledger.inherit(PAST, LEARNER)
    assert ledger.rating("g", PAST) == ledger.rating("g", LEARNER)
    ledger.forget(BOT)
    assert BOT not in ledger.rated("g")
    assert ledger.score("g", BOT) == 0.5
    assert ledger.tally("g", LEARNER, [BOT], 0) == (30, 0, 0)


def test_a_restored_ledger_goes_on_as_the_first_one():
    """State through JSON, then the same games: the same state again."""
    one, two = Results(), Results()
    one.record(_against(PAST, 1, -1, 0) + _against(BOT, 1, 1, chair=1))
    two.state = json.loads(json.dumps(one.state))
    for ledger in (one, two):
        ledger.record(_against(PAST, -1, -1, chair=1))
    assert one.state == two.state


@pytest.mark.parametrize(
    ("returns", "player", "expected"),
    [((1, -1), 0, 0), ((1, -1), 1, 2), ((0, 0), 1, 1), ((1, 1, -2), 0, 1), ((0.5,), 0, 0), ((-1,), 0, 2), ((0,), 0, 1)],
)
def test_an_outcome_compares_with_the_best_of_the_others(returns, player, expected):
    """Win 0, draw 1, loss 2; a single player against nothing."""
    assert outcome(make_episode(returns), player) == expected
