"""Results between policies: recent scores forget, ratings follow results, and the state is whole."""

import json
import random

import pytest

from spiral.api.records import LEARNER, outcome
from spiral.policies.results import MEMORY, RATED, Results
from spiral.testing import make_episode

PAST, BOT = "snapshot:10", "bot:random"


def _against(opponent, *returns, player=0, game="g"):
    """Episodes of the learner as `player` with these returns of its own, zero-sum."""
    policies = [LEARNER, opponent] if player == 0 else [opponent, LEARNER]
    return [make_episode((r, -r) if player == 0 else (-r, r), game=game, policies=policies) for r in returns]


def test_a_score_before_any_game_is_a_half_and_one_win_moves_it_to_two_thirds():
    """(1 + wins + draws/2) / (2 + games), with the forgetting of a single game still invisible."""
    results = Results()
    assert results.score("g", PAST) == 0.5
    results.record(_against(PAST, 1))
    assert results.score("g", PAST) == pytest.approx(2 / 3)
    results.record(_against(PAST, 0))
    k = 1 - 1 / MEMORY
    assert results.score("g", PAST) == pytest.approx((1 + k + 0.5) / (2 + k + 1))


def test_a_score_forgets():
    """After 2,000 losses, 2,000 wins count as if the losses had never been; a plain mean would say a half."""
    results = Results()
    results.record(_against(PAST, *[-1] * 2000))
    assert results.score("g", PAST) < 0.01
    results.record(_against(PAST, *[1] * 2000))
    assert results.score("g", PAST) > 0.99
    assert results.num_recent("g", PAST) == pytest.approx(MEMORY, rel=1e-3)


def test_scores_are_kept_by_game():
    """Winning one game says nothing about another."""
    results = Results()
    results.record(_against(PAST, *[1] * 50))
    assert results.score("h", PAST) == 0.5


def test_games_against_itself_leave_no_rating_and_no_score():
    """Mirror games tell nothing about which policy is better."""
    results = Results()
    results.record([make_episode((1, -1), game="g")] * 10)
    assert results.rated("g") == {}
    assert results.score("g", LEARNER) == 0.5


def test_ratings_find_the_order_of_strength():
    """Three players who win 80% against the next weaker one end up in that order, and surer than they began."""
    rng, results = random.Random(0), Results()
    strength = {BOT: 0, LEARNER: 1, PAST: 2}
    for _ in range(60):
        games = []
        for _ in range(RATED):
            a, b = rng.sample(list(strength), 2)
            won = rng.random() < (0.8 if strength[a] > strength[b] else 0.2)
            games.append(make_episode((1, -1) if won else (-1, 1), game="g", policies=[a, b]))
        results.record(games)
    mus = [results.rating("g", p).mu for p in (BOT, LEARNER, PAST)]
    assert mus == sorted(mus)
    assert mus[1] - mus[0] > 2
    assert mus[2] - mus[1] > 2
    assert all(results.rating("g", p).sigma < 2 for p in strength)
    assert results.rating("g", BOT).low == pytest.approx(mus[0] - 3 * results.rating("g", BOT).sigma)


def test_at_most_a_sample_of_a_step_is_rated():
    """Of 10 * RATED games RATED change ratings: as many as when only every tenth had been played."""
    games = _against(PAST, *[1, -1] * (5 * RATED))
    all_, tenth = Results(), Results()
    all_.record(games)
    tenth.record(games[::10])
    assert all_.state["ratings"] == tenth.state["ratings"]


def test_a_policy_that_is_two_players_is_rated_by_both():
    """With three players, two of them the bot: its win does not make its loss to the learner forgotten."""
    results = Results()
    results.record([make_episode((0, 1, -1), game="g", policies=[LEARNER, BOT, BOT])])
    assert {*results.rated("g")} == {LEARNER, BOT}
    assert results.rating("g", BOT).mu == pytest.approx(results.rating("g", LEARNER).mu, abs=1.5)
    results.record([make_episode((-2, 1, 1), game="g", policies=[LEARNER, BOT, BOT])] * 5)
    assert results.rating("g", BOT).mu > results.rating("g", LEARNER).mu + 5


def test_to_be_several_players_is_no_merit():
    """Three players and a winner by pure chance: the policy that is two of them is worth what the other is. A mean over
    four times 1,280 games, since ratings forget; rated by the better of the two, the bot stood 3.6 higher."""
    differences = []
    for seed in range(4):
        rng, results = random.Random(seed), Results()
        for _ in range(20):
            returns = [rng.sample([2.0, -1.0, -1.0], 3) for _ in range(RATED)]
            results.record([make_episode(r, game="g", policies=[LEARNER, BOT, BOT]) for r in returns])
        differences.append(results.rating("g", BOT).mu - results.rating("g", LEARNER).mu)
    assert sum(differences) / 4 == pytest.approx(0.0, abs=1.5)


def test_a_snapshot_inherits_and_a_dropped_one_is_forgotten():
    """A copy is worth what the original is; a policy that plays no more takes up no room."""
    results = Results()
    results.record(_against(BOT, *[1] * 30))
    results.inherit(PAST, LEARNER)
    assert results.rating("g", PAST) == results.rating("g", LEARNER)
    results.forget(BOT)
    assert BOT not in results.rated("g")
    assert results.score("g", BOT) == 0.5


def test_a_restored_results_goes_on_as_the_first_one():
    """State through JSON, then the same games: the same state again."""
    one, two = Results(), Results()
    one.record(_against(PAST, 1, -1, 0) + _against(BOT, 1, 1, player=1))
    two.state = json.loads(json.dumps(one.state))
    for results in (one, two):
        results.record(_against(PAST, -1, -1, player=1))
    assert one.state == two.state


@pytest.mark.parametrize(("own", "other", "expected"), [(1, -1, 1), (-1, 1, 0), (0, 0, 0.5), (0.5, 0.2, 1)])
def test_an_outcome_is_a_win_a_draw_or_a_loss(own, other, expected):
    """1, 1/2 and 0, whatever the returns' size."""
    assert outcome(own, other) == expected


def test_nothing_is_kept_that_is_not_read():
    """A checkpoint of a long run stays small: recent scores and ratings of the policies that still play, no history."""
    results = Results()
    for _ in range(50):
        results.record([*_against(PAST, 1, -1), make_episode((1, -1), game="g")])
    once = Results()
    once.record(_against(PAST, 1, -1))
    assert len(json.dumps(results.state)) <= len(json.dumps(once.state)) + 60
