"""The random episodes of the checks."""

import random

import pytest

from spiral.api.records import LEARNER
from spiral.testing.episodes import GAMES, random_episode, unpaid


def test_episodes_are_what_rollouts_give():
    """One trajectory a player with the turns that `players` tells, rewards that include those of turns, an offender
    only if its last turn was illegal; and every kind that the docstrings of the checks list comes up."""
    rng, kinds = random.Random(0), set()
    for _ in range(200):
        for game, num in GAMES.items():
            e = random_episode(rng, game)
            assert len(e.policies) == len(e.returns) == len(e.trajectories) == num
            assert LEARNER in e.policies
            for player, t in enumerate(e.trajectories):
                assert (t.game, t.player, t.policy, t.deal) == (game, player, e.policies[player], e.deal)
                assert len(t.turns) == e.players.count(player)
                assert t.reward == pytest.approx(e.returns[player] + sum(turn.reward for turn in t.turns))
                kinds |= {("turns", len(t.turns)), ("policy", t.policy)}
                kinds |= {("turn", turn.move is None, turn.legal, bool(turn.reply)) for turn in t.turns}
            assert (e.ending == "illegal") == (e.offender is not None)
            if e.offender is not None:
                assert (e.players[-1], e.trajectories[e.offender].turns[-1].legal) == (e.offender, False)
            kinds |= {("ending", e.ending), ("mirror", num > 1 and set(e.policies) == {LEARNER})}
            kinds |= {("sum", sum(e.returns) == 0), ("shaped", any(u.reward for t in e.trajectories for u in t.turns))}
            assert all(t.reward == 0 for t in unpaid(e).trajectories)
    expected = {("turns", n) for n in range(4)} | {("policy", s) for s in (LEARNER, "bot:random", "snapshot:10")}
    expected |= {("turn", False, True, True), ("turn", True, False, True), ("turn", False, False, True)}
    expected |= {("turn", False, True, False), ("ending", "finished"), ("ending", "illegal"), ("ending", "cut")}
    expected |= {(what, value) for what in ("mirror", "sum", "shaped") for value in (True, False)}
    assert expected <= kinds
