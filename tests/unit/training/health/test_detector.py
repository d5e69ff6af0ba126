"""Vital signs by hand arithmetic; a detector that fires on what died, stays silent on what lives, and says which."""

import json
import math
import random
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spiral.api.records import LEARNER, Episode, Trajectory, Turn
from spiral.testing.episodes import GAMES, random_episode
from spiral.training.health.detector import Detector
from spiral.training.health.indicators import vital_signs
from spiral.training.health.rules import RULES
from spiral.training.health.smoothing import Trace, interval

BOT = "bot:random"


def turn(move="a", logprobs=(-0.5, -0.5), legal=True, finish="stop"):
    return Turn("seen", (1, 2), tuple(range(len(logprobs))), tuple(logprobs), move, legal, finish, 0)


PAIR = ((0, turn()), (1, turn()))


def played(returns, policies=None, turns=PAIR, deal=None, offender=None, game="g"):
    """One game; `turns` are (player, turn) in the order of play."""
    policies = tuple(policies or [LEARNER] * len(returns))
    rows = [tuple(t for p, t in turns if p == player) for player in range(len(returns))]
    deal = next(DEALS) if deal is None else deal
    trajectories = tuple(
        Trajectory(game, player, policy, reward, row, deal)
        for player, (policy, reward, row) in enumerate(zip(policies, returns, rows, strict=True))
    )
    ending = "finished" if offender is None else "illegal"
    order = tuple(player for player, _ in turns)
    return Episode(game, deal, policies, tuple(returns), trajectories, order, ending, offender)


def cut(episode):
    return replace(episode, ending="cut")


DEALS = iter(range(10**9))


def signs(episodes, advantage=1.0, game="g"):
    """The signs of a game, by their short names; every turn has the same advantage."""
    trajectories = [t for e in episodes for t in e.trajectories if t.policy == LEARNER]
    metrics = vital_signs(episodes, trajectories, [[advantage] * len(t.turns) for t in trajectories])
    start = f"health/{game}/"
    return {name.removeprefix(start): value for name, value in metrics.items() if name.startswith(start)}


class TestEdge:
    def test_by_hand(self):
        """Leads 2, 2, -2, 2: mean 1; deviations 1, 1, -3, 1, so the variance of the mean is 12 / 3 / 4 = 1."""
        found = signs([played(r) for r in [(1, -1), (1, -1), (-1, 1), (1, -1)]])
        assert found["edge"] == pytest.approx(1)
        assert (found["edge_low"], found["edge_high"]) == pytest.approx((1 - 1.959964, 1 + 1.959964))
        assert (found["win_p0"], found["win_p1"]) == pytest.approx((0.75, 0.25))
        assert "edge_mirror" not in found

    def test_games_of_one_deal_are_one_observation(self):
        once = signs([played(r, deal=d) for d, r in enumerate([(1, -1), (3, -3)])])
        thrice = signs([played(r, deal=d) for d, r in enumerate([(1, -1), (3, -3)]) for _ in range(3)])
        assert {n: thrice[n] for n in ("edge", "edge_low", "edge_high")} == pytest.approx(
            {n: once[n] for n in ("edge", "edge_low", "edge_high")}
        )

    def test_a_learner_that_beats_a_bot_from_both_chairs_shows_no_edge_however_often_it_sat_where(self):
        found = signs([played((1, -1), (LEARNER, BOT))] * 3 + [played((-1, 1), (BOT, LEARNER))])
        assert found["edge"] == pytest.approx(0)
        assert found["win_p0"] == pytest.approx(0.5)

    def test_a_learner_that_only_sits_in_one_chair_tells_nothing_of_chairs(self):
        found = signs([played((1, -1), (LEARNER, BOT)), played((1, -1), (LEARNER, BOT))])
        assert not {"edge", "win_p0", "edge_mirror"} & found.keys()

    def test_games_against_itself_stand_apart_where_there_are_others(self):
        found = signs([played((1, -1)), played((3, -3)), played((-1, 1), (BOT, LEARNER))])
        assert found["edge_mirror"] == pytest.approx(4)
        assert found["edge_mirror_high"] > 4 > found["edge_mirror_low"]
        assert found["edge"] < 4

    def test_three_players_against_the_mean_of_the_others(self):
        found = signs([played((2, -1, -1)), played((0, 3, -3))])
        assert found["edge"] == pytest.approx((3 + 0) / 2)
        assert (found["win_p0"], found["win_p1"], found["win_p2"]) == pytest.approx((0.5, 0.5, 0))

    def test_one_player_has_no_edge_and_no_draws(self):
        found = signs([played((1,), turns=((0, turn()),))])
        assert not {"edge", "draw_rate", "win_p0"} & found.keys()
        assert found["entropy_p0"] == pytest.approx(1)


class TestPlay:
    def test_draws_are_games_without_a_single_best_player(self):
        found = signs([played((0, 0)), played((1, -1)), played((0, 0)), played((0, 0))])
        assert found["draw_rate"] == pytest.approx(0.75)
        assert signs([played((1, 1, -2)), played((1, 0, -1))])["draw_rate"] == pytest.approx(0.5)

    def test_a_cut_game_is_no_draw(self):
        """It may count as one, and says nothing of good play."""
        found = signs([cut(played((0, 0))), cut(played((0, 0))), played((0, 0)), played((1, -1))])
        assert (found["draw_rate"], found["cut_games"]) == pytest.approx((0.5, 0.5))
        assert "draw_rate" not in signs([cut(played((0, 0)))])
        assert signs([cut(played((1, -1))), played((-1, 1))])["win_p0"] == pytest.approx(0.5)  # judged: it was won

    def test_illegal_moves_by_the_chair_the_learner_had(self):
        found = signs([
            played((-1, 1), offender=0), played((1, -1)), played((1, -1), (BOT, LEARNER), offender=1),
            played((-1, 1), (BOT, LEARNER), offender=0),
        ])  # fmt: skip
        assert found["illegal_p0"] == pytest.approx(1 / 2)  # two games in chair 0; the bot's slip is not the learner's
        assert found["illegal_p1"] == pytest.approx(1 / 4)

    def test_entropy_and_length_by_player(self):
        turns = ((0, turn(logprobs=(-1.0, -2.0))), (1, turn(logprobs=(-0.25,))), (0, turn(logprobs=(-1.0,))))
        found = signs([played((1, -1), turns=turns)])
        assert (found["entropy_p0"], found["entropy_p1"]) == pytest.approx((2.0, 0.25))
        assert (found["reply_tokens_p0"], found["reply_tokens_p1"]) == pytest.approx((1.5, 1.0))

    def test_sampled_entropy_is_an_unbiased_estimate(self):
        rng, p = random.Random(0), 0.2
        rows = [math.log(p) if rng.random() < p else math.log(1 - p) for _ in range(20_000)]
        found = signs([played((1, -1), turns=((0, turn(logprobs=(row,))),)) for row in rows])
        exact = -p * math.log(p) - (1 - p) * math.log(1 - p)
        assert found["entropy_p0"] == pytest.approx(exact, abs=4 * 0.55 / math.sqrt(20_000))

    def test_opponents_turns_count_for_nothing(self):
        bots = Turn("seen", (), (), (), "a", True, "stop", 0)
        found = signs([played((1, -1), (LEARNER, BOT), ((0, turn()), (1, bots)))])
        assert "entropy_p1" not in found

    def test_cut_off_replies_and_advantages_of_nothing(self):
        episodes = [played((1, -1), turns=((0, turn(finish="length")), (1, turn())))]
        assert signs(episodes)["cut_off"] == pytest.approx(0.5)
        unread = [played((1, -1), turns=((0, turn()), (1, turn(move, legal=False)))) for move in (None, "z")]
        assert signs(unread)["unreadable"] == pytest.approx(1 / 4)
        assert signs(episodes)["zero_share"] == 0
        assert signs(episodes, advantage=-1e-4)["zero_share"] == 1  # a baseline that nears a constant return

    def test_openings_by_hand(self):
        """Shares 1/2, 1/4, 1/4: entropy 1.5 bits, so 2 ** 1.5 openings."""
        pairs = [("a", "b"), ("a", "b"), ("a", "c"), ("d", "b")]
        found = signs([played((1, -1), turns=((0, turn(x)), (1, turn(y)))) for x, y in pairs])
        assert found["first_moves"] == 2
        assert found["openings"] == pytest.approx(2**1.5)

    def test_noise_that_is_no_move_is_no_variety(self):
        noise = [played((-1, 1), turns=((0, turn(text, legal=False)),), offender=0) for text in "xyz"]
        assert signs(noise)["openings"] == pytest.approx(1)

    def test_each_game_stands_alone_under_its_label(self):
        label = "textarena/Kuhn-v0(rounds=5,mode=a/b)"
        episodes = [played((1, -1), game=label), played((0, 0))]
        assert signs(episodes, game=label)["draw_rate"] == 0
        assert signs(episodes)["draw_rate"] == 1

    def test_nothing_played_is_nothing_said(self):
        assert vital_signs([], [], []) == {}


class TestScores:
    def test_halves_by_age_with_the_middle_among_the_old(self):
        games = [((1, -1), 0), ((0, 0), 10), ((-1, 1), 20), ((1, -1), 20), ((-1, 1), 20)]
        found = signs([played(r, (LEARNER, f"snapshot:{step}")) for r, step in games])
        assert (found["score_old"], found["games_old"]) == (pytest.approx(0.75), 2)
        assert (found["score_new"], found["games_new"]) == (pytest.approx(1 / 3), 3)

    def test_an_only_snapshot_is_old_and_others_have_their_kinds(self):
        found = signs([
            played((1, -1), (LEARNER, "snapshot:5")), played((1, -1), (BOT, LEARNER)),
            played((0, 0), ("run:there@9", LEARNER)), played((1, -1)),
        ])  # fmt: skip
        scores = {name: value for name, value in found.items() if name.startswith(("score_", "games_"))}
        assert scores == {"score_old": 1, "games_old": 1, "score_bots": 0, "games_bots": 1, "score_others": 0.5,
                          "games_others": 1}  # fmt: skip

    def test_a_game_counts_once_whoever_else_sat_there(self):
        """The learner in two chairs beats one of two old selves: 4 pairs, 2 won, 1 drawn, 1 lost."""
        policies = (LEARNER, LEARNER, "snapshot:1", "snapshot:1")
        found = signs([played((3, 1, 1, 0), policies, ((0, turn()),))])
        assert (found["score_old"], found["games_old"]) == (pytest.approx((1 + 1 + 0.5 + 1) / 4), 1)


@given(st.integers(0, 2**32))
def test_signs_of_any_episodes_are_finite_and_shares_are_shares(seed):
    rng = random.Random(seed)
    episodes = [random_episode(rng, game) for game in GAMES for _ in range(rng.randrange(6))]
    trajectories = [t for e in episodes for t in e.trajectories if t.policy == LEARNER]
    metrics = vital_signs(episodes, trajectories, [[rng.gauss(0, 1) for _ in t.turns] for t in trajectories])
    assert all(math.isfinite(value) for value in metrics.values())
    shares = ("win_p0", "win_p1", "draw_rate", "zero_share", "cut_off", "score_old", "illegal_p0")
    assert all(-1e-9 <= value <= 1 + 1e-9 for name, value in metrics.items() if name.endswith(shares))
    for game in ("duel", "trio"):
        if f"health/{game}/win_p0" in metrics:
            wins = [value for name, value in metrics.items() if name.startswith(f"health/{game}/win_p")]
            assert sum(wins) == pytest.approx(1)


def test_the_signs_of_a_step_cost_next_to_nothing():
    turns = [(k % 2, turn(logprobs=(-0.1,) * 6)) for k in range(5)]
    episodes = [played((1, -1), turns=turns) for _ in range(512)]
    trajectories = [t for e in episodes for t in e.trajectories]
    advantages = [[0.5] * len(t.turns) for t in trajectories]
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        vital_signs(episodes, trajectories, advantages)
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.05  # 4 ms on a quiet core; others may share it


# ---- The detector. A curve is a function of the step; None is no measurement.

KUHN, TTT = "kuhn_poker", "textarena/TicTacToe-v0(size=3)"
EVERY = 10


def watch(steps, game=KUHN, perfect=(), detector=None, run=None, start=0, match_games=100, **curves):
    """All that a detector says of `curves`; `vs` is the win rate against a bot in both chairs, seen at evaluations."""
    detector = detector or Detector(20, match_games, perfect)
    events = []
    for step in range(start, steps):
        event = detector.observe(step, {**line(step, game, curves), **(run(step) if run else {})})
        events += [event] if event else []
    return events


def line(step, game, curves):
    row = {}
    for name, curve in curves.items():
        if name in ("nash_conv", "rare_moves", "vs"):
            if step % EVERY == 0:
                chairs = [f"eval/{game}/vs/perfect/p{p}" for p in range(2)] if name == "vs" else []
                row |= {} if name == "vs" else {f"eval/{game}/{name}": curve(step)}
                row |= {f"{at}/win": curve(step) for at in chairs} | {f"{at}/draw": 0.0 for at in chairs}
        else:
            row[f"health/{game}/{name}"] = curve(step)
    return row


def fall(high, low, at=40, over=1):
    """From `high` to `low` at a step, linearly over some steps."""
    return lambda step: high + (low - high) * min(1.0, max(0.0, (step - at) / over))


def flat(value):
    return lambda step: value


def only(events, kind, severity="collapse"):
    """The one kind of event there is, and its first one."""
    assert {e.kind for e in events} == {kind}
    assert {e.severity for e in events} == {severity}
    return events[0]


ZERO_SUM = {"draw_rate": flat(0.0)}


class TestOneSeatWins:
    def test_a_seat_that_takes_everything_is_named_with_its_numbers(self):
        win = fall(0.55, 1.0)
        [event] = watch(150, win_p0=win, win_p1=lambda s: 1 - win(s), **ZERO_SUM)
        assert (event.kind, event.severity, event.game) == ("one player wins", "collapse", KUHN)
        assert event.sentence.startswith(
            "kuhn_poker: player 0 wins 99% of the games that are not drawn, where it once won 55%, since step "
        )
        assert 40 < event.since < event.step < 40 + 30

    def test_a_game_that_was_so_from_the_start_is_how_the_game_is(self):
        assert not watch(150, win_p0=flat(0.97), win_p1=flat(0.03), **ZERO_SUM)

    def test_the_few_games_decided_among_many_draws_say_nothing(self):
        win = fall(0.55, 1.0)
        assert not watch(150, win_p0=win, win_p1=lambda s: 1 - win(s), draw_rate=fall(0.1, 0.97))

    def test_a_solved_first_player_win_is_a_warning_when_matches_are_as_good_as_ever(self):
        win = fall(0.55, 1.0)
        found = watch(150, win_p0=win, win_p1=lambda s: 1 - win(s), vs=fall(0.5, 0.9), **ZERO_SUM)
        only(found, "one player wins", "warning")

    def test_a_few_steps_are_noise(self):
        win = lambda s: 1.0 if 40 <= s < 45 else 0.55  # noqa: E731
        assert not watch(150, win_p0=win, win_p1=lambda s: 1 - win(s), **ZERO_SUM)


CERTAIN = {"entropy_p0": fall(0.7, 0.002, over=20), "entropy_p1": fall(0.8, 0.3, over=20)}


class TestEntropyGone:
    def test_certain_play_that_a_best_responder_beats(self):
        found = watch(90, nash_conv=fall(1.0, 0.667, 10), **CERTAIN, **ZERO_SUM)
        event = only([e for e in found if e.kind != "exploitable"], "entropy gone")
        assert "player 0 from 0.7 to " in event.sentence
        assert "player 1" not in event.sentence

    def test_perfect_tic_tac_toe_is_certain_drawn_and_teaches_nothing_and_that_is_health(self):
        solved = {"entropy_p0": fall(1.7, 0.001, over=60), "entropy_p1": fall(1.7, 0.001, over=60),
                  "draw_rate": fall(0.1, 1.0, over=40), "zero_share": fall(0.0, 1.0, 60, over=40),
                  "win_p0": lambda s: 0.6 if s < 80 else None, "win_p1": lambda s: 0.4 if s < 80 else None,
                  "openings": fall(20, 1)}  # fmt: skip
        assert not watch(300, TTT, {TTT}, **solved)
        assert not watch(300, TTT, {TTT}, nash_conv=fall(1.94, 0.0, 60, over=100), vs=flat(0.0), **solved)

    def test_a_solved_game_that_is_won_is_no_collapse_while_matches_are_good(self):
        assert not watch(150, TTT, {TTT}, vs=fall(0.5, 1.0), **CERTAIN, **ZERO_SUM)

    def test_without_any_evaluation_it_is_a_warning_that_says_so(self):
        event = only(watch(150, **CERTAIN, **ZERO_SUM), "entropy gone", "warning")
        assert "no evaluation tells" in event.sentence

    def test_a_warning_becomes_a_collapse_when_harm_is_measured_and_each_is_said_once(self):
        found = watch(250, nash_conv=lambda s: 0.9 if s >= 100 else None, **CERTAIN, **ZERO_SUM)
        said = [(e.severity, e.step) for e in found if e.kind == "entropy gone"]
        assert [severity for severity, _ in said] == ["warning", "collapse"]
        assert said[0][1] < 100 <= said[1][1] < 105

    def test_a_sharp_policy_that_still_mixes_lives(self):
        assert not watch(
            150, nash_conv=fall(0.9, 0.3, 10, over=120), entropy_p0=fall(0.7, 0.1), entropy_p1=fall(0.8, 0.1)
        )


QUIET = {"entropy_p0": fall(0.7, 0.05, 5), "entropy_p1": fall(0.7, 0.05, 5)}


STANDSTILL = {
    "nash_conv": fall(1.076, 1 / 3, 5, 30),
    "entropy_p0": fall(0.76, 0.35, 5),
    "entropy_p1": fall(0.76, 0.3, 5),
    "vs": flat(0.5),
}
"""Seed 7 of Kuhn poker without the anchor: a third for 500 steps, with 40% of its randomness and no match lost."""


class TestExploitable:
    def test_nash_conv_far_above_its_best(self):
        curve = lambda s: 0.9 - 0.008 * s if s <= 100 else 0.1 if s < 150 else 0.6  # noqa: E731
        event = only(watch(250, nash_conv=curve), "exploitable")
        assert event.sentence == "kuhn_poker: NashConv is 0.6, and was 0.1 at its best, since step 150."
        assert event.step == 150 + 2 * EVERY

    def test_circling_up_to_twice_the_best_is_how_self_play_learns(self):
        """The worst of fifteen healthy runs: 0.21 at its best, then up to 0.44."""
        assert not watch(600, nash_conv=lambda s: 0.95 - 0.0037 * s if s < 200 else 0.325 + 0.115 * math.sin(s / 40))

    def test_one_bad_evaluation_is_noise(self):
        assert not watch(300, nash_conv=lambda s: 0.7 if s == 200 else max(0.1, 0.9 - 0.008 * s))

    def test_standing_still_far_from_equilibrium_without_randomness(self):
        event = only(watch(100, nash_conv=fall(1.0, 0.667, 5), **QUIET), "exploitable")
        assert "NashConv stands still at 0.667 while play keeps only " in event.sentence
        assert (event.since, event.step) == (10, 40)

    def test_a_plateau_that_still_explores_is_learning(self):
        """Healthy Kuhn with the magnet: 0.666 for 50 steps at 0.57 of 0.76 nats."""
        assert not watch(
            100, nash_conv=fall(1.0, 0.667, 5), entropy_p0=fall(0.76, 0.5, 5), entropy_p1=fall(0.76, 0.5, 5)
        )

    def test_standing_still_with_moves_that_are_never_sampled(self):
        event = only(watch(100, rare_moves=fall(0.0, 0.25, 35), **STANDSTILL), "exploitable")
        clause = "NashConv stands still at 0.333 while 25% of the legal moves are next to never played"
        assert event.sentence == f"kuhn_poker: {clause}, since step 40."

    def test_standing_still_while_every_move_is_played_is_learning(self):
        """With the anchor no move is rare, so a plateau is one."""
        assert not watch(100, rare_moves=flat(0.0), **STANDSTILL)

    def test_moves_that_are_never_played_near_equilibrium_are_how_the_game_is(self):
        """A king never folds: at 0.03 of 1.08 that is arrival. While NashConv still moves it says nothing either."""
        arrived = {**STANDSTILL, "nash_conv": fall(1.076, 0.03, 5, 30)}
        assert not watch(100, rare_moves=flat(0.25), **arrived)
        moving = {**STANDSTILL, "nash_conv": lambda s: 1.076 * 0.995**s}
        assert not watch(300, rare_moves=flat(0.25), **moving)

    def test_where_nothing_is_hidden_mistakes_may_be_rare(self):
        """Tic-tac-toe stands at its worst for hundreds of steps while it learns, and most moves lose."""
        curves = {**STANDSTILL, "nash_conv": flat(1.93)}
        assert not watch(200, TTT, {TTT}, rare_moves=flat(0.5), **curves)

    def test_one_line_of_play_that_never_comes_up_is_no_collapse_while_matches_are_good(self):
        """Healthy tic-tac-toe ends at 1.39 of 1.94 with a fifth of its entropy; at 1.94 it deserves a look."""
        good = {"vs": fall(0.4, 0.8), **QUIET}
        assert not watch(200, TTT, {TTT}, nash_conv=fall(1.94, 1.39, 20), **good)
        only(watch(200, TTT, {TTT}, nash_conv=flat(1.94), **good), "exploitable", "warning")

    def test_standing_still_near_equilibrium_is_arrival(self):
        assert not watch(100, nash_conv=fall(1.0, 0.02, 5), **QUIET)

    def test_the_scale_is_the_games_own(self):
        curve = lambda s: 900.0 - 8 * s if s <= 100 else 100.0 if s < 150 else 600.0  # noqa: E731
        only(watch(250, nash_conv=curve), "exploitable")


class TestForgot:
    def test_losing_to_what_it_grew_out_of(self):
        event = only(watch(150, score_old=fall(0.6, 0.2), games_old=flat(50.0)), "forgot")
        assert "against its older snapshots (at most " in event.sentence

    def test_too_few_games_are_no_proof(self):
        assert not watch(150, score_old=fall(0.6, 0.3), games_old=flat(1.0))

    def test_a_hard_chair_from_the_start_was_not_forgotten(self):
        assert not watch(150, score_old=flat(0.2), games_old=flat(50.0))


class TestWorseAgainstBots:
    def test_a_fall_with_intervals_apart(self):
        event = only(watch(200, TTT, {TTT}, vs=fall(0.7, 0.35, 100)), "worse against bots")
        assert "the score against perfect fell from 70% at its best to " in event.sentence
        assert event.game == TTT

    def test_where_something_is_hidden_it_may_be_progress(self):
        only(watch(200, vs=fall(0.7, 0.35, 100)), "worse against bots", "warning")

    def test_and_is_while_nash_conv_falls(self):
        """Kuhn: the exploitable policy wins far more often against random play than the equilibrium does."""
        assert not watch(300, vs=fall(0.7, 0.35, 100), nash_conv=fall(1.0, 0.05, 20, over=200))

    def test_a_saturated_nash_conv_excuses_nothing(self):
        only(watch(200, TTT, {TTT}, vs=fall(0.7, 0.35, 100), nash_conv=fall(1.94, 1.99)), "worse against bots")

    @pytest.mark.parametrize("seed", range(20))
    def test_the_noise_of_forty_evaluations_is_silent(self, seed):
        rng = random.Random(seed)
        noisy = lambda s: sum(rng.random() < 0.6 for _ in range(20)) / 20  # noqa: E731
        assert not watch(40 * EVERY, TTT, {TTT}, vs=noisy, match_games=20)


class TestTheRest:
    def test_illegal_moves_of_a_player_that_knew_the_format(self):
        event = only(watch(150, illegal_p0=flat(0.01), illegal_p1=fall(0.02, 0.6)), "illegal replies")
        assert "player 1 loses " in event.sentence
        assert "by illegal replies, since" in event.sentence

    def test_illegal_replies_are_told_by_kind(self):
        """Cut off, without a move, or a move against the rules: each has another remedy."""
        replies = {"cut_off": flat(0.25), "unreadable": flat(0.5)}
        event = only(watch(150, illegal_p0=fall(0.02, 0.6), **replies), "illegal replies")
        assert "by illegal replies (of all replies 50% could not be read and 25% were cut off), since" in event.sentence

    def test_an_untrained_format_was_never_known(self):
        assert not watch(150, illegal_p0=flat(0.6), illegal_p1=fall(0.9, 0.5))

    def test_two_bad_steps_are_noise(self):
        """Kuhn without the magnet: 48% illegal at step 100, 0% at 125."""
        assert not watch(150, illegal_p0=lambda s: 0.48 if s in (100, 101) else 0.01)

    def test_replies_that_no_longer_end(self):
        only(watch(150, cut_off=fall(0.01, 0.9)), "replies cut off")
        assert not watch(150, cut_off=fall(0.3, 0.9))

    def test_no_signal_though_games_are_decided(self):
        only(watch(150, zero_share=fall(0.1, 1.0), **ZERO_SUM), "no signal", "warning")
        only(watch(70, zero_share=fall(0.1, 1.0), nash_conv=flat(0.9), **ZERO_SUM), "no signal")

    @pytest.mark.parametrize("draws", [0.95, 1.0])
    def test_all_draws_teach_nothing_and_need_not(self, draws):
        assert not watch(150, zero_share=fall(0.1, 1.0), draw_rate=fall(0.2, draws))

    def test_refused_updates_are_named_before_the_learner_gives_up_at_five(self):
        [event] = watch(60, run=lambda s: {"learner/refused": float(s >= 30)})
        assert (event.kind, event.game) == ("updates refused", "")
        assert event.step < 34
        assert event.sentence.startswith("updates are refused")
        assert not watch(60, run=lambda s: {"learner/refused": float(s == 30)})

    def test_updates_that_are_rounded_away_are_a_warning(self):
        """After half a window in which fewer than 1 in 10,000 weights with a gradient move; 1 in 1,000 may be all that
        bfloat16 needs, and a step without a gradient says nothing."""
        [event] = watch(60, run=lambda s: {"learner/moved": 1e-5})
        assert (event.kind, event.game, event.severity, event.step) == ("weights stand still", "", "warning", 9)
        assert event.sentence.startswith("0.00% of the weights that have a gradient move in a step")
        assert not watch(60, run=lambda s: {"learner/moved": 1e-3})
        assert not watch(60, run=lambda s: {"learner/moved": 0.0 if s in (10, 30) else 0.01})
        assert not watch(60, run=lambda s: {"learner/grad_norm": 0.0})


WINNING = {"win_p0": fall(0.5, 1.0, 60), "win_p1": fall(0.5, 0.0, 60), **ZERO_SUM}


class TestTime:
    def test_named_once_and_again_only_after_it_had_cleared(self):
        def wins(step):
            return 1.0 if 50 <= step < 150 or 250 <= step < 350 else 0.5

        found = watch(400, win_p0=wins, win_p1=lambda s: 1 - wins(s), **ZERO_SUM)
        assert [e.step // 100 for e in found] == [0, 2]

    def test_a_short_relief_does_not_make_it_news(self):
        def wins(step):
            return 0.5 if step < 50 or 150 <= step < 153 else 1.0

        assert len(watch(400, win_p0=wins, win_p1=lambda s: 1 - wins(s), **ZERO_SUM)) == 1

    def test_the_last_healthy_step_is_before_the_smoothed_sign_began_to_move(self):
        detector = Detector(20)
        [event] = watch(100, detector=detector, **WINNING)
        assert 20 < detector.last_healthy(99) < 60
        assert detector.last_healthy(10) == 10
        assert detector.last_healthy(event.step) == detector.last_healthy(99)

    def test_steps_between_a_good_and_a_bad_evaluation_are_not_known_to_be_healthy(self):
        detector = Detector(20)
        curve = lambda s: 0.9 - 0.008 * s if s <= 100 else 0.1 if s < 150 else 0.6  # noqa: E731
        watch(155, detector=detector, nash_conv=curve)
        assert detector.last_healthy(154) == 140

    def test_a_warning_leaves_steps_healthy(self):
        detector = Detector(20)
        assert watch(200, detector=detector, vs=fall(0.7, 0.35, 100))
        assert [detector.last_healthy(step) for step in range(200)] == list(range(200))

    def test_nothing_seen_is_nothing_known(self):
        assert Detector(20).last_healthy(5) == -1

    def test_health_returns(self):
        detector = Detector(20)
        wins = lambda s: 1.0 if 50 <= s < 150 else 0.5  # noqa: E731
        watch(300, detector=detector, win_p0=wins, win_p1=lambda s: 1 - wins(s), **ZERO_SUM)
        assert detector.last_healthy(299) == 299
        assert detector.last_healthy(150) < 50

    def test_the_window_is_about_how_long_it_takes(self):
        for window in (8, 20, 60):
            [event] = watch(300, detector=Detector(window), **WINNING)
            assert 60 + 0.5 * window <= event.step <= 60 + 1.5 * window

    def test_the_shortest_window_still_works(self):
        assert watch(300, detector=Detector(1), **WINNING)


# Kuhn poker without the magnet, seed 0, as it was: player 0's and player 1's entropy in each of the first 60 steps.
DEAD = """0.72 0.74 0.58 0.47 0.35 0.16 0.11 0.092 0.15 0.11 0.13 0.083 0.082 0.043 0.17 0.08 0.031 0.065 0.09 0.16 0.079 0.1 0.03 0.09 0.0037 0.017 0.017 0.017 0.0034 0.083 0.0033 0.044 0.0031 0.017 0.017 0.1 0.096 0.027 0.0025 0.075 0.017 0.0022 0.028 0.0021 0.017 0.002 0.064 0.023 0.028 0.0019 0.0018 0.025 0.045 0.0018 0.081 0.023 0.0016 0.0016 0.0015 0.0015
0.78 0.77 0.66 0.51 0.45 0.27 0.21 0.095 0.48 0.063 0.072 0.079 0.062 0.37 0.27 0.074 0.089 0.044 0.13 0.026 0.062 0.031 0.084 0.11 0.041 0.0035 0.099 0.071 0.003 0.059 0.0029 0.076 0.028 0.062 0.09 0.026 0.046 0.054 0.03 0.085 0.031 0.022 0.069 0.059 0.027 0.0019 0.0019 0.0018 0.053 0.021 0.0018 0.0018 0.025 0.0018 0.0018 0.03 0.023 0.027 0.074 0.0017"""


def test_the_recorded_death_of_a_run_without_a_magnet_is_seen():
    """NashConv went from 1.015 to 0.667 by step 25 and stayed; so did play."""
    entropies = [[float(x) for x in row.split()] for row in DEAD.strip().splitlines()]
    nash = {0: 1.0153, 25: 0.66662, 50: 0.66666, 75: 0.66669, 100: 0.66669}
    detector, said = Detector(20), []
    for step in range(101):
        row = {f"health/kuhn_poker/entropy_p{p}": entropies[p][step] for p in range(2) if step < 60}
        row |= {"eval/kuhn_poker/nash_conv": nash[step]} if step in nash else {}
        if event := detector.observe(step, row):
            said.append((event.kind, event.severity, event.step))
    assert said == [("entropy gone", "collapse", 59), ("exploitable", "collapse", 100)]
    assert detector.last_healthy(100) == 0


STOOD_STILL = """
0 0.95968 0.0 0.833 0.953
25 0.65542 0.0 0.709 0.779
50 0.65321 0.0 0.549 0.526
75 0.65834 0.0 0.442 0.398
100 0.64822 0.0 0.351 0.123
125 0.63692 0.042 0.397 0.275
150 0.60805 0.042 0.404 0.275
175 0.55141 0.042 0.538 0.35
200 0.50793 0.042 0.282 0.256
225 0.41588 0.083 0.405 0.161
250 0.29369 0.125 0.267 0.156
275 0.3118 0.125 0.069 0.003
300 0.31949 0.167 0.031 0.049
325 0.32752 0.167 0.002 0.042
350 0.3314 0.375 0.017 0.002
375 0.33291 0.417 0.037 0.051
400 0.33322 0.458 0.002 0.024
425 0.33331 0.5 0.001 0.001
450 0.33334 0.5 0.06 0.001
"""
"""Step, NashConv, share of rare moves, entropy of player 0 and 1: every evaluation of Kuhn poker's seed 6 up to step 450,
without anchor and state baseline. Queens call and jacks never bluff; the run ended there, at 0.333."""


def test_the_recorded_standstill_of_a_run_with_a_magnet_alone_is_seen():
    """Matches against a random player were as good as ever. The same without the rare moves is left to its matches."""

    def kinds(with_rare):
        detector, said = Detector(20), []
        for row in STOOD_STILL.strip().splitlines():
            step, nash, rare, *entropies = map(float, row.split())
            metrics = {"eval/kuhn_poker/nash_conv": nash}
            metrics |= {f"eval/kuhn_poker/vs/random/p{p}/win": 0.6 for p in range(2)}
            metrics |= {f"health/kuhn_poker/entropy_p{p}": entropies[p] for p in range(2)}
            metrics |= {"eval/kuhn_poker/rare_moves": rare} if with_rare else {}
            if event := detector.observe(int(step), metrics):
                said.append((event.kind, event.severity, event.step))
        return said

    assert ("exploitable", "collapse", 425) in kinds(True)
    assert ("exploitable", "collapse", 425) not in kinds(False)


SICK = {
    "win_p0": fall(0.5, 1.0), "win_p1": fall(0.5, 0.0), "draw_rate": flat(0.0), "entropy_p0": fall(0.7, 0.001),
    "zero_share": fall(0.0, 1.0), "illegal_p1": fall(0.01, 0.9), "cut_off": fall(0.0, 0.9), "vs": fall(0.7, 0.1),
    "score_old": fall(0.5, 0.1), "games_old": flat(40.0), "nash_conv": lambda s: 0.9 if s < 20 else 0.1 if s < 60 else 0.7,
}  # fmt: skip


def test_of_several_the_gravest_is_said_and_the_others_follow():
    run = {"learner/refused": float, "learner/moved": lambda bad: 1.0 - bad}
    found = watch(200, TTT, {TTT}, run=lambda s: {name: of(s > 50) for name, of in run.items()}, **SICK)
    assert {e.kind for e in found} == {rule.kind for rule in RULES.values()}
    assert len({e.step for e in found}) == len(found)
    assert all(e.sentence.endswith(f", since step {e.since}.") for e in found)
    both = {"zero_share": fall(0.1, 1.0), "illegal_p0": fall(0.0, 1.0), **ZERO_SUM}
    assert [(e.step, e.severity) for e in watch(90, detector=Detector(1), **both)] == [
        (41, "collapse"),
        (42, "warning"),
    ]


@pytest.mark.parametrize("cut", [0, 1, 39, 47, 60, 75, 119])
def test_restored_from_json_it_says_the_same(cut):
    whole, first, second = (Detector(20, 100, {TTT}) for _ in range(3))
    expected = watch(120, TTT, detector=whole, **SICK)
    found = watch(cut, TTT, detector=first, **SICK)
    second.state = json.loads(json.dumps(first.state))
    found += watch(120, TTT, detector=second, start=cut, **SICK)
    assert found == expected
    assert second.state == whole.state
    assert [second.last_healthy(s) for s in range(120)] == [whole.last_healthy(s) for s in range(120)]


VALUES = st.one_of(
    st.floats(), st.none(), st.booleans(), st.text(max_size=3), st.integers(-(10**400), 10**400), st.sampled_from([0.0, 0.5, 1.0])
)  # fmt: skip
NAMES = st.sampled_from(
    [*line(0, "a/b(c=1)", SICK), *line(0, "g", SICK), "learner/refused", "learner/grad_norm", "health//edge", "eval/x",
     "eval/g/vs/x/p0/win", "health/g/entropy_p12345678901234567890", "play/turns_per_game"]
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(0, 50), st.dictionaries(NAMES, VALUES, max_size=12)), max_size=40), st.integers(1, 9)
)
def test_no_subset_of_metrics_and_no_order_of_steps_is_too_much(rows, window):
    detector = Detector(window, 10, {"g"})
    for step, metrics in rows:
        if event := detector.observe(step, metrics):
            assert event.sentence.endswith(".")
            assert event.since <= event.step == step
        json.dumps(detector.state, allow_nan=False)
        assert -1 <= detector.last_healthy(step) <= step


def test_nothing_is_split_at_a_slash():
    game = "textarena/A-v0(x=eval/b/vs/c)"
    [event] = watch(90, game, illegal_p0=fall(0.0, 1.0))
    assert event.game == game


class TestTrace:
    def test_weighs_observations_by_their_games(self):
        trace = Trace(0.5)
        trace.add(0, 1.0, 30.0, 1)
        trace.add(1, 0.0, 30.0, 1)
        assert trace.mean == pytest.approx(15 / 45)
        assert trace.games == pytest.approx(45**2 / (30 * 0.5**2 + 30))

    def test_extremes_wait_until_the_mean_is_one(self):
        trace = Trace(0.8)
        for step, value in enumerate([1.0, 0, 0, 0, 0]):
            trace.add(step, value, 1.0, 1)
        assert trace.high == trace.low == trace.first == pytest.approx(trace.mean)

    def test_the_interval_by_hand(self):
        """Wilson 99% of 5 of 10: the middle stays 1/2, the half width is 2.576 sqrt(0.025 + 0.0166) / 1.6636."""
        assert interval(0.5, 10) == pytest.approx((0.5 - 0.3158, 0.5 + 0.3158), abs=1e-4)
        assert interval(0.3, 0) == (0, 1)
