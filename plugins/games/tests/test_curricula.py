"""Curricula by hand arithmetic and by long runs against made-up results: what is chosen and learnt."""

import json
import random
from collections import Counter
from functools import partial

import pytest
from spiral_games.curricula.balanced_tokens import BalancedTokens
from spiral_games.curricula.chain import Chain
from spiral_games.curricula.success import score
from spiral_games.curricula.success_band import SuccessBand
from spiral_games.curricula.uniform import Uniform

from spiral import LEARNER, Episode, SpiralError, Trajectory, Turn
from spiral.testing import check_curriculum, make_episode

BOT = "bot:random"


def against_bot(game, own, *, player=0, other=None):
    """The learner as `player` against a bot; the learner's return is `own`."""
    returns = [-own if other is None else other] * 2
    returns[player] = own
    return make_episode(returns, game=game, policies=[LEARNER if i == player else BOT for i in range(2)])


def mirror(game, first=1.0):
    return make_episode((first, -first), game=game)


def of_tokens(game, *replies, policies=(LEARNER, BOT)):
    """A game in which player i gave one reply of replies[i] tokens."""
    turns = [Turn("seen", (1,), (2,) * n, (-0.5,) * n, "move", True, "stop", 0) for n in replies]
    trajectories = [Trajectory(game, i, policies[i], 0.0, (turn,), 0) for i, turn in enumerate(turns)]
    return Episode(
        game,
        0,
        tuple(policies),
        (0.0,) * len(trajectories),
        tuple(trajectories),
        tuple(range(len(trajectories))),
        "finished",
    )


def shares(sampler, num=20_000, seed=0):
    """Game -> share of the draws."""
    rng = random.Random(seed)
    counts = Counter(sampler.choose(rng) for _ in range(num))
    return {game: count / num for game, count in counts.items()}


@pytest.mark.parametrize(
    "factory",
    [
        Uniform,
        BalancedTokens,
        partial(BalancedTokens, decay=0.0),
        SuccessBand,
        partial(SuccessBand, low=0.2, high=0.8, decay=0.5),
        Chain,
        partial(Chain, window=5, threshold=0.4, patience=30),
    ],
)
def test_they_keep_the_promises_of_a_game_sampler(factory):
    assert check_curriculum(factory) == []


def test_uniform_forgets_the_weights():
    found = shares(Uniform({"a": 1.0, "b": 9.0}))
    assert found["a"] == pytest.approx(0.5, abs=0.02)


# Balanced by tokens.


def test_balanced_tokens_draws_by_weight_before_anything_is_known():
    found = shares(BalancedTokens({"a": 1.0, "b": 3.0}))
    assert found["a"] == pytest.approx(0.25, abs=0.02)


def test_balanced_tokens_by_hand():
    """decay 1/2, debiased: after games of 10 and 40 tokens the mean of `a` is (10/4 + 40/2) / (3/4) = 30, that of `b`
    60: drawn 2 : 1. A game not yet played counts as 45: 1/30, 1/60, 1/45 are as 6, 3, 4 of 13."""
    sampler = BalancedTokens({"a": 1.0, "b": 1.0, "c": 1.0}, decay=0.5)
    for episode in (of_tokens("a", 10, 7), of_tokens("a", 40, 7), of_tokens("b", 60, 7)):
        sampler.record(episode)
    assert sampler.state == {"a": {"tokens": 22.5, "weight": 0.75}, "b": {"tokens": 30.0, "weight": 0.5}}
    found = shares(sampler)
    assert [found[game] * 13 for game in "abc"] == pytest.approx([6, 3, 4], abs=0.2)


def test_balanced_tokens_counts_the_replies_that_are_trained():
    """Self-play trains both players, a game against a bot one, and never the bot's."""
    sampler = BalancedTokens({"a": 1.0, "b": 1.0}, decay=0.0)
    sampler.record(of_tokens("a", 10, 7, policies=(LEARNER, LEARNER)))
    sampler.record(of_tokens("b", 10, 7, policies=("snapshot:3", LEARNER)))
    assert [sampler.state[game]["tokens"] for game in "ab"] == [17.0, 7.0]


def test_balanced_tokens_is_not_drawn_into_a_game_that_trains_nothing():
    sampler = BalancedTokens({"a": 1.0, "b": 1.0})
    sampler.record(of_tokens("a", 10, 0))
    sampler.record(of_tokens("b", 0, 50))
    assert shares(sampler)["b"] == pytest.approx(0.5, abs=0.02)


def test_balanced_tokens_comes_to_the_weights_shares_of_the_tokens():
    """Games of about 8, 40 and 200 tokens with weights 1, 1, 2, drawn 64 at a time: tokens as 1 : 1 : 2."""
    weights, lengths = {"a": 1.0, "b": 1.0, "c": 2.0}, {"a": 8, "b": 40, "c": 200}
    sampler, rng, results = BalancedTokens(weights), random.Random(0), random.Random(1)
    tokens = Counter()
    for step in range(150):
        for game in [sampler.choose(rng) for _ in range(64)]:
            num = results.randrange(lengths[game] // 2, lengths[game] * 3 // 2)
            sampler.record(of_tokens(game, num, 3))
            tokens[game] += num if step >= 10 else 0
    total = sum(tokens.values())
    for game, share in (("a", 0.25), ("b", 0.25), ("c", 0.5)):
        assert tokens[game] / total == pytest.approx(share, abs=0.03), game


# The success of a player.


def test_score_is_against_those_who_are_not_the_learner():
    three = make_episode((2.0, 1.0, 0.0), policies=[LEARNER, LEARNER, BOT])
    assert [score(three, player) for player in range(3)] == [1.0, 1.0, 0.0]
    assert [score(mirror("a"), player) for player in range(2)] == [1.0, 0.0]
    assert score(against_bot("a", 0.0), 0) == 0.5


def test_score_of_a_single_player_is_a_return_above_0():
    assert [score(make_episode([r]), 0) for r in (0.1, 0.0, -1.0)] == [1.0, 0.0, 0.0]


def test_score_reads_returns_and_not_shaped_rewards():
    from dataclasses import replace

    won = against_bot("a", 1.0)
    shaped = replace(won, trajectories=tuple(replace(t, reward=-9.0) for t in won.trajectories))
    assert score(shaped, 0) == 1.0


# The success band.


def test_success_band_draws_by_weight_before_anything_is_known():
    sampler = SuccessBand({"a": 1.0, "b": 3.0})
    assert sampler.openness("a") == sampler.openness("b") == 1.0
    assert shares(sampler)["a"] == pytest.approx(0.25, abs=0.02)


def test_success_band_by_hand():
    """decay 1/2, from mean 1/2 and square 1/2. A loss: 1/4, 1/4, spread 4 (1/4 - 1/16) = 3/4. Then a draw: mean
    1/8 + 1/4 = 3/8, square 1/8 + 1/8 = 1/4, spread 4 (1/4 - 9/64) = 7/16."""
    sampler = SuccessBand({"a": 1.0}, decay=0.5)
    sampler.record(against_bot("a", -1.0))
    assert sampler.state == {"a": {"0": {"mean": 0.25, "square": 0.25}}}
    assert sampler.openness("a") == 0.75
    sampler.record(against_bot("a", 0.0))
    assert sampler.openness("a") == 0.4375


def test_success_band_prefers_games_whose_result_is_open():
    """Always won, always lost, always drawn: the floor of 0.1. A success rate of 1/2: about 1; of 1/5: 4 * 0.16."""
    results = random.Random(0)
    play = {
        "won": lambda: 1.0,
        "lost": lambda: -1.0,
        "drawn": lambda: 0.0,
        "even": lambda: results.choice((1.0, -1.0)),
        "hard": lambda: 1.0 if results.random() < 0.2 else -1.0,
    }
    sampler = SuccessBand(dict.fromkeys(play, 1.0), decay=0.995)
    for _ in range(2500):
        for game, result in play.items():
            sampler.record(against_bot(game, result(), player=results.randrange(2)))
    found = {game: sampler.openness(game) for game in play}
    assert found["won"] == found["lost"] == found["drawn"] == 0.1
    assert found["even"] == pytest.approx(1.0, abs=0.05)
    assert found["hard"] == pytest.approx(0.64, abs=0.12)
    drawn = shares(sampler)
    assert drawn["even"] / drawn["lost"] == pytest.approx(found["even"] / 0.1, rel=0.15)


def test_success_band_closes_what_lies_outside_the_band():
    """A rate of 1/5 is spread enough, and below a band from 0.3."""
    results = random.Random(0)
    wide, narrow = (SuccessBand({"a": 1.0}, low=low, decay=0.99) for low in (0.0, 0.3))
    for _ in range(1000):
        episode = against_bot("a", 1.0 if results.random() < 0.2 else -1.0)
        wide.record(episode)
        narrow.record(episode)
    assert wide.openness("a") > 0.4
    assert narrow.openness("a") == 0.1


def test_success_band_reads_self_play_player_by_player():
    """A game that player 0 always wins is closed, though the learner wins half of the matches as either; so is one that is
    always drawn. Coin flips are open."""
    results, sampler = random.Random(0), SuccessBand(dict.fromkeys(("first", "drawn", "coin"), 1.0))
    for _ in range(500):
        sampler.record(mirror("first"))
        sampler.record(mirror("drawn", 0.0))
        sampler.record(mirror("coin", results.choice((1.0, -1.0))))
    assert sampler.openness("first") == sampler.openness("drawn") == 0.1
    assert sampler.openness("coin") > 0.85


def test_success_band_notices_that_a_game_opened_again():
    results, sampler = random.Random(0), SuccessBand({"a": 1.0})
    for _ in range(500):
        sampler.record(against_bot("a", -1.0))
    assert sampler.openness("a") == 0.1
    for _ in range(200):
        sampler.record(against_bot("a", results.choice((1.0, -1.0))))
    assert sampler.openness("a") > 0.85


# Chains.


def test_chain_opens_the_next_game_when_a_full_window_is_good_enough():
    """Window 4, threshold 0.6: three wins are no window yet; with a loss they are 0.75. The next starts empty."""
    sampler, rng = Chain({"easy": 1.0, "hard": 1.0}, window=4), random.Random(0)
    for own in (1.0, 1.0, 1.0):
        sampler.record(against_bot("easy", own))
    assert sampler.state == {"link": 0, "games": 3, "scores": [1.0, 1.0, 1.0]}
    assert {sampler.choose(rng) for _ in range(100)} == {"easy"}
    sampler.record(against_bot("easy", -1.0))
    assert sampler.state == {"link": 1, "games": 0, "scores": []}
    assert shares(sampler)["easy"] == pytest.approx(0.2, abs=0.02)


def test_chain_looks_at_the_last_window_only():
    """Losses leave the window: L L W W is 0.5, L W W D 0.625."""
    sampler = Chain({"easy": 1.0, "hard": 1.0}, window=4)
    for own in (-1.0, -1.0, 1.0, 1.0):
        sampler.record(against_bot("easy", own))
    assert sampler.state["link"] == 0
    sampler.record(against_bot("easy", 0.0))
    assert sampler.state["link"] == 1


def test_chain_does_not_count_other_games():
    """Games of the step that were drawn before the link opened, and rehearsals, come late."""
    sampler = Chain({"easy": 1.0, "middle": 1.0, "hard": 1.0}, window=1)
    sampler.record(against_bot("easy", 1.0))
    for _ in range(5):
        sampler.record(against_bot("easy", 1.0))
    assert sampler.state == {"link": 1, "games": 0, "scores": []}


def test_chain_follows_the_given_order_and_rehearses_by_weight():
    sampler = Chain({"c": 1.0, "a": 3.0, "b": 1.0}, order=["a", "c", "b"], window=1, rehearsal=0.4)
    for game in ("a", "c"):
        sampler.record(against_bot(game, 1.0))
    found = shares(sampler)
    assert [found[game] for game in "acb"] == pytest.approx([0.3, 0.1, 0.6], abs=0.02)


def test_chain_ends_with_its_last_game():
    sampler = Chain({"a": 1.0, "b": 1.0}, window=1)
    for game in "abbb":
        sampler.record(against_bot(game, 1.0))
    assert sampler.state == {"link": 1, "games": 3, "scores": [1.0]}
    assert shares(sampler)["b"] == pytest.approx(0.8, abs=0.02)


def test_chain_learns_nothing_from_self_play_but_is_not_stuck_for_ever():
    patient = Chain({"a": 1.0, "b": 1.0}, window=2, patience=None)
    sampler = Chain({"a": 1.0, "b": 1.0}, window=2, patience=10)
    for _ in range(9):
        sampler.record(mirror("a"))
        patient.record(mirror("a"))
    assert sampler.state == patient.state == {"link": 0, "games": 9, "scores": []}
    sampler.record(mirror("a"))
    patient.record(mirror("a"))
    assert (sampler.state["link"], patient.state["link"]) == (1, 0)


def test_chain_counts_a_single_player_s_success():
    sampler = Chain({"a": 1.0, "b": 1.0}, window=2)
    for _ in range(2):
        sampler.record(make_episode([1.0], game="a"))
    assert sampler.state["link"] == 1


@pytest.mark.parametrize(
    "factory",
    [partial(BalancedTokens, decay=0.9), partial(SuccessBand, decay=0.9), partial(Chain, window=7, threshold=0.3)],
)
def test_a_run_resumed_through_json_goes_on_exactly(factory):
    """The same choices and the same state, to the last bit, after any step."""
    games = {"a": 1.0, "b": 2.0, "c": 1.0}

    def step(sampler, number):
        rng = random.Random(number)
        chosen = [sampler.choose(rng) for _ in range(16)]
        for game in chosen:
            sampler.record(against_bot(game, rng.choice((1.0, 0.0, -1.0)), player=rng.randrange(2)))
        return chosen

    whole = factory(games)
    for number in range(12):
        resumed = factory(games)
        resumed.state = json.loads(json.dumps(whole.state))
        before = json.dumps(whole.state)
        assert step(resumed, number) == step(whole, number)
        assert resumed.state == whole.state
        assert json.dumps(whole.state) != before


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (partial(BalancedTokens, decay=1.0), "balanced_tokens was given decay=1.0"),
        (partial(SuccessBand, low=0.9, high=0.1), "success_band was given low=0.9 and high=0.1"),
        (partial(SuccessBand, floor=0.0), "success_band was given floor=0.0"),
        (partial(SuccessBand, decay=-1.0), "success_band was given decay=-1.0"),
        (partial(Chain, order=["a"]), r"chain was given order=\['a'\], and the run's games are a, b"),
        (partial(Chain, order=["a", "b", "b"]), "name each of them once"),
        (partial(Chain, threshold=0.0), "chain was given threshold=0.0"),
        (partial(Chain, window=0), "chain was given window=0"),
        (partial(Chain, rehearsal=1.0), "chain was given rehearsal=1.0"),
        (partial(Chain, patience=0), "chain was given patience=0"),
    ],
)
def test_bad_arguments(factory, words):
    with pytest.raises(SpiralError, match=words):
        factory({"a": 1.0, "b": 1.0})
