"""The policies that opponent samplers seat, over many games, with a pool that remembers what it was asked."""

import random
from collections import Counter

import pytest
import spiral_opponents
from spiral_opponents.samplers.fixed import Fixed
from spiral_opponents.samplers.league import League
from spiral_opponents.samplers.mixture import Mixture
from spiral_opponents.samplers.past import LatestK, UniformPast
from spiral_opponents.samplers.rated import Pfsp, RatingWindow
from spiral_opponents.samplers.roles import Roles
from spiral_opponents.samplers.self_play import SelfPlay

from spiral import LEARNER, SpiralError
from spiral.api.policies import fixed_profile
from spiral.api.records import learner_id
from spiral.plugins.registry import Plugins
from spiral.policies.pool import Pool
from spiral.testing import ScriptedBot


class ScriptedPool:
    """Answers like the view of a pool, and remembers the bots it was asked for."""

    learner = LEARNER

    def __init__(self):
        self.asked = []

    def bot(self, name, **args):
        self.asked.append((name, args))
        return f"bot:{name}"


@pytest.mark.parametrize("num_players", [1, 2, 5])
def test_mirror_seats_the_learner_everywhere(num_players):
    pool = ScriptedPool()
    assert SelfPlay().seat("g", num_players, pool, random.Random(0)) == [LEARNER] * num_players
    assert pool.asked == []


@pytest.mark.parametrize("num_players", [2, 3])
def test_fixed_seats_one_learner_as_each_player_equally_often(num_players):
    rng, sampler, counts = random.Random(0), Fixed(), Counter()
    for _ in range(3000):
        seats = sampler.seat("g", num_players, ScriptedPool(), rng)
        assert sorted(seats) == ["bot:random"] * (num_players - 1) + [LEARNER]
        counts[seats.index(LEARNER)] += 1
    for player in range(num_players):
        assert counts[player] / 3000 == pytest.approx(1 / num_players, abs=0.05)  # over 5 standard deviations


def test_fixed_asks_the_pool_for_its_bot_with_its_arguments():
    pool = ScriptedPool()
    seats = Fixed("equilibrium", {"alpha": 0.2}).seat("g", 2, pool, random.Random(0))
    assert pool.asked == [("equilibrium", {"alpha": 0.2})]
    assert set(seats) == {LEARNER, "bot:equilibrium"}


def test_fixed_draws_only_from_the_generator_it_is_given():
    def seats(noise):
        random.seed(noise)
        rng = random.Random(4)
        return [Fixed().seat("g", 4, ScriptedPool(), rng) for _ in range(20)]

    assert seats(1) == seats(2)


def test_fixed_keeps_its_own_copy_of_the_arguments():
    args = {"alpha": 0.2}
    sampler = Fixed("equilibrium", args)
    args["alpha"] = 9
    pool = ScriptedPool()
    sampler.seat("g", 2, pool, random.Random(0))
    assert pool.asked == [("equilibrium", {"alpha": 0.2})]


def test_the_plugin_registers_samplers():
    samplers = {}
    spiral_opponents.register_opponents(samplers.__setitem__)
    assert sorted(samplers) == [
        "fixed", "latest_k", "league", "mirror", "mixture", "pfsp", "rating_window", "roles",
        "uniform_past",
    ]  # fmt: skip


# Samplers that choose from the pool: how often each opponent is met, against shares by hand

OLD, MID, NEW, BOT = "snapshot:0", "snapshot:10", "snapshot:20", "bot:b"
MIRROR = "itself"


def pool_of(*policies, scores=None, ratings=None, games=()):
    """A pool with these opponents; `scores`: the learner's recent ones in the game g, `ratings`: their mu."""
    pool = Pool(Plugins())
    for policy in policies:
        if policy.startswith("snapshot:"):
            pool.add_snapshot(int(policy.removeprefix("snapshot:")), 9, "last")
        else:
            pool.add_bot(policy, ScriptedBot([]))
            pool.add_member(policy, games, policy.removeprefix("bot:"))
    recent = {policy: [score * 1002 - 1, 1000.0] for policy, score in (scores or {}).items()}
    pool.results.state["recent"]["g"] = {LEARNER: recent}
    pool.results.state["ratings"]["g"] = {policy: [mu, 1.0] for policy, mu in (ratings or {}).items()}
    return pool


def met(sampler, pool, num=4000):
    """Opponent -> share of the two-player matches of the game g; MIRROR for the learner itself."""
    rng, count = random.Random(1), Counter()
    for _ in range(num):
        seats = sampler.seat("g", 2, pool.view(), rng)
        assert LEARNER in seats
        count[next((policy for policy in seats if policy != LEARNER), MIRROR)] += 1
    return {policy: number / num for policy, number in count.items()}


def about(**shares):
    names = {"old": OLD, "mid": MID, "new": NEW, "bot": BOT, "mirror": MIRROR}
    return pytest.approx({names[name]: share for name, share in shares.items()}, abs=0.04)  # 5 standard deviations


POOLED = [
    UniformPast(), LatestK(), Pfsp(), RatingWindow(), Mixture(),
    *(League(role) for role in ("main", "main_exploiter", "league_exploiter")),
]  # fmt: skip


@pytest.mark.parametrize("sampler", POOLED, ids=lambda sampler: type(sampler).__name__)
def test_without_opponents_the_learner_meets_itself(sampler):
    assert met(sampler, pool_of(), 50) == {MIRROR: 1.0}
    assert sampler.needs_pool


def test_uniform_past_meets_all_alike():
    pool = pool_of(OLD, NEW, BOT)
    assert met(UniformPast(), pool) == about(old=1 / 3, new=1 / 3, bot=1 / 3)
    assert met(UniformPast(mirror=0.4), pool) == about(old=0.2, new=0.2, bot=0.2, mirror=0.4)
    assert met(UniformPast(), pool_of(OLD, BOT, games=["another"])) == {OLD: 1.0}


def test_latest_k_meets_the_newest_snapshots_and_no_member():
    pool = pool_of(OLD, MID, NEW, BOT)
    assert met(LatestK(), pool) == {NEW: 1.0}
    assert met(LatestK(k=2, mirror=0.2), pool) == about(mid=0.4, new=0.4, mirror=0.2)


def test_pfsp_meets_in_proportion_to_the_weighting():
    """Scores 0.9, 0.2, and 1/2 for one never met: squared 0.01 : 0.64 : 0.25, linear 1 : 8 : 5, variance 9 : 16 : 25."""
    pool = pool_of(OLD, NEW, BOT, scores={OLD: 0.9, NEW: 0.2})
    assert met(Pfsp(mirror=0), pool) == about(old=0.011, new=0.711, bot=0.278)
    assert met(Pfsp("linear", mirror=0), pool) == about(old=1 / 14, new=8 / 14, bot=5 / 14)
    assert met(Pfsp("variance", mirror=0), pool) == about(old=0.18, new=0.32, bot=0.5)
    assert met(Pfsp("linear"), pool) == about(old=0.5 / 14, new=4 / 14, bot=2.5 / 14, mirror=0.5)


def test_rating_window_meets_those_near():
    """The learner has 25; at 20, 24 and 40 are the others."""
    pool = pool_of(OLD, NEW, BOT, ratings={LEARNER: 25.0, OLD: 20.0, NEW: 24.0, BOT: 40.0})
    assert met(RatingWindow(width=4, mirror=0), pool) == {NEW: 1.0}
    assert met(RatingWindow(width=5, mirror=0), pool) == about(old=0.5, new=0.5)
    assert met(RatingWindow(width=0.5, mirror=0), pool) == {NEW: 1.0}  # none is within: the nearest
    assert met(RatingWindow(width=99), pool) == about(old=1 / 6, new=1 / 6, bot=1 / 6, mirror=0.5)


def test_mixture_gives_each_group_its_share():
    weights = {"learner": 5, "snapshots": 3, "b": 2}
    assert met(Mixture(weights), pool_of(OLD, NEW, BOT)) == about(mirror=0.5, old=0.15, new=0.15, bot=0.2)
    # A group that is empty, and a member that does not play the game, leave their share to the others.
    assert met(Mixture(weights), pool_of(OLD, BOT, games=["another"])) == about(mirror=5 / 8, old=3 / 8)
    assert met(Mixture(weights), pool_of(BOT)) == about(mirror=5 / 7, bot=2 / 7)
    assert met(Mixture({"members": 1}), pool_of(OLD, BOT)) == {BOT: 1.0}


def test_mixture_gives_a_share_to_another_policy_in_training():
    pool = several(0)
    assert met_by(SECOND, Mixture({"learner": 1, "third": 3}), pool) == pytest.approx(
        {MIRROR: 0.25, THIRD: 0.75}, abs=0.04
    )


def test_mixture_refuses_a_member_that_does_not_exist():
    """A misspelt name would silently have no share."""
    with pytest.raises(SpiralError, match=r"a weight for 'bb', which is none of .* and no member of the pool"):
        Mixture({"learner": 1, "bb": 1}).seat("g", 2, pool_of(BOT).view(), random.Random(0))


def test_the_main_role_meets_itself_its_past_and_what_it_has_forgotten():
    """35% itself; 50% PFSP, 0.64 : 0.25 for scores of 0.2 and 0.5; 15% the first of them, which now beats it."""
    pool = pool_of(OLD, NEW, scores={OLD: 0.2, NEW: 0.5})
    assert met(League(), pool) == about(mirror=0.35, old=0.5 * 0.64 / 0.89 + 0.15, new=0.5 * 0.25 / 0.89)
    remembered = pool_of(OLD, NEW, scores={OLD: 0.5, NEW: 0.5})
    assert met(League(), remembered) == about(mirror=0.35, old=0.325, new=0.325)


def test_a_main_exploiter_stays_with_its_target_while_it_can_win():
    """The newest member, or snapshot; below a score of 0.2 all by x(1 - x), here 0.09 : 0.25."""
    role = League("main_exploiter")
    assert met(role, pool_of(OLD, BOT, scores={BOT: 0.3})) == {BOT: 1.0}
    assert met(role, pool_of(OLD, NEW)) == {NEW: 1.0}
    assert met(role, pool_of(OLD, BOT, scores={BOT: 0.1})) == about(bot=0.09 / 0.34, old=0.25 / 0.34)
    assert met(role, pool_of(BOT, scores={BOT: 0.1})) == {BOT: 1.0}


def test_a_league_exploiter_meets_all_by_pfsp():
    pool = pool_of(OLD, BOT, scores={OLD: 0.2, BOT: 0.5})
    assert met(League("league_exploiter"), pool) == about(old=0.64 / 0.89, bot=0.25 / 0.89)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: UniformPast(mirror=1.5), "mirror=1.5"),
        (lambda: LatestK(k=0), "k=0"),
        (lambda: Pfsp("cubed"), "weighting='cubed'"),
        (lambda: RatingWindow(width=-1), "width=-1"),
        (lambda: Mixture({"learner": 0}), "not all of them 0"),
        (lambda: Mixture({"learner": -1, "members": 2}), "weights of 0 or more"),
        (lambda: League("chief"), "the role 'chief'"),
        (lambda: League(roles={"second": "chief"}), "the role 'chief'"),
        (lambda: Roles("learner"), "players='learner'"),
        (lambda: Roles({"g": []}), "name the policy of each player"),
    ],
)
def test_arguments_that_make_no_sense_are_one_sentence(make, reason):
    with pytest.raises(SpiralError, match=reason):
        make()


# Several policies in training

SECOND, THIRD = learner_id("second"), learner_id("third")


def several(*steps, scores=None, members=()):
    """A pool with three policies in training, each with snapshots of these steps; `scores`: (learner, opponent) -> the
    recent one in the game g."""
    pool = Pool(Plugins(), learners={LEARNER: 1.0, SECOND: 1.0, THIRD: 1.0})
    for learner in pool.learners:
        for step in steps:
            pool.add_snapshot(step, 9, "last", learner)
    for member in members:
        pool.add_bot(member, ScriptedBot([]))
        pool.add_member(member, (), member.removeprefix("bot:"))
    for (learner, opponent), score in (scores or {}).items():
        recent = pool.results.state["recent"].setdefault("g", {}).setdefault(learner, {})
        recent[opponent] = [score * 1002 - 1, 1000.0]
    return pool


def met_by(learner, sampler, pool, num=4000):
    """As `met`, of the games that are played for a learner."""
    rng, count = random.Random(1), Counter()
    for _ in range(num):
        seats = sampler.seat("g", 2, pool.view(learner), rng)
        assert learner in seats
        count[next((policy for policy in seats if policy != learner), MIRROR)] += 1
    return {policy: number / num for policy, number in count.items()}


def test_a_sampler_for_one_learner_plays_for_each_of_several():
    """Mirror is each learner against itself; the past is a learner's own first, then that of the others."""
    pool = several(0)
    assert met_by(SECOND, SelfPlay(), pool, 20) == {MIRROR: 1.0}
    assert pool.view(SECOND).opponents("g") == ["snapshot:second:0", "snapshot:0", "snapshot:third:0"]
    assert met_by(SECOND, LatestK(), pool, 20) == {"snapshot:second:0": 1.0}


def test_scores_are_those_of_the_learner_that_the_game_is_played_for():
    """PFSP by 1 - x: 0.9 and 0.5 of the second policy give 1 : 5, whatever the main policy scores."""
    past = {(SECOND, "snapshot:second:0"): 0.9, (SECOND, "snapshot:0"): 0.5, (SECOND, "snapshot:third:0"): 1.0}
    pool = several(0, scores=past | {(LEARNER, "snapshot:second:0"): 0.0})
    found = met_by(SECOND, Pfsp("linear", mirror=0), pool)
    expected = {"snapshot:second:0": 1 / 6, "snapshot:0": 5 / 6}
    assert {policy: share for policy, share in found.items() if share > 0.01} == pytest.approx(expected, abs=0.04)


def test_a_league_of_three_policies():
    """The main policy meets itself in 35%, and what beats it in 15%, a snapshot of its exploiter here; the main exploiter
    meets it as it is while it wins now and then, else its past by x(1 - x); the league exploiter meets all past ones."""
    league = League(roles={"second": "main_exploiter", "third": "league_exploiter"})
    scores = {(LEARNER, "snapshot:second:0"): 0.1, (SECOND, LEARNER): 0.4}
    pool = several(0, scores=scores)
    pfsp = 0.81 + 0.25 + 0.25
    main = {MIRROR: 0.35, "snapshot:second:0": 0.15 + 0.5 * 0.81 / pfsp, "snapshot:0": 0.5 * 0.25 / pfsp}
    main["snapshot:third:0"] = main["snapshot:0"]
    assert met_by(LEARNER, league, pool) == pytest.approx(main, abs=0.04)
    assert met_by(SECOND, league, pool, 100) == {LEARNER: 1.0}
    thirds = dict.fromkeys(["snapshot:0", "snapshot:second:0", "snapshot:third:0"], 1 / 3)
    assert met_by(THIRD, league, pool) == pytest.approx(thirds, abs=0.04)
    beaten = several(0, 10, scores={(SECOND, LEARNER): 0.1, (SECOND, "snapshot:0"): 0.5, (SECOND, "snapshot:10"): 0.1})
    weights = {"snapshot:0": 0.25 / 0.34, "snapshot:10": 0.09 / 0.34}
    assert met_by(SECOND, league, beaten) == pytest.approx(weights, abs=0.04)


def test_a_role_of_a_policy_that_is_not_trained_is_refused():
    with pytest.raises(
        SpiralError, match=r"a role for 'fourth', which is none of .*\(learner, learner:second, learner:third\)"
    ):
        League(roles={"fourth": "main_exploiter"}).seat("g", 2, several().view(), random.Random(0))


def test_roles_give_each_player_to_one_policy_for_good():
    """By list or by game; a member too, and the profile of those in training is told."""
    pool, rng = several(members=[BOT]), random.Random(0)
    assert Roles(["third", "learner"]).seat("g", 2, pool.view(SECOND), rng) == [THIRD, LEARNER]
    by_game = Roles({"g": ["learner", "second"], "h": ["b", "second", "learner"]})
    assert by_game.seat("h", 3, pool.view(), rng) == [BOT, SECOND, LEARNER]
    assert fixed_profile(by_game, "g", 2, pool.view()) == [LEARNER, SECOND]
    assert fixed_profile(SelfPlay(), "g", 2, pool.view()) is None
    assert Roles().seat("g", 2, pool.view(), rng) == [LEARNER, LEARNER]


@pytest.mark.parametrize(
    ("players", "reason"),
    [
        (["learner"], r"needs 2 policies for g, one a player, and players has 1 \(learner\)"),
        ({"h": ["learner", "second"]}, "needs 2 policies for g, one a player, and players has none"),
        (
            ["learner", "fourth"],
            r"names 'fourth', which is no policy in training \(learner, learner:second, learner:third\)",
        ),
    ],
)
def test_roles_that_do_not_fit_are_one_sentence(players, reason):
    with pytest.raises(SpiralError, match=reason):
        Roles(players).seat("g", 2, several().view(), random.Random(0))
