"""Asks an opponent sampler for a line-up, and refuses in the sampler's name what is none."""

from __future__ import annotations

import random
from collections.abc import Sequence

from spiral.api.errors import PluginError
from spiral.api.policies import OpponentSampler
from spiral.api.records import LEARNER, PolicyId
from spiral.plugins.faults import blamed
from spiral.policies.pool import Pool


def line_up(
    sampler: OpponentSampler,
    name: str,
    game: str,
    num_players: int,
    pool: Pool,
    rng: random.Random,
    learner: PolicyId = LEARNER,
) -> list[PolicyId]:
    """One policy of the pool a player, for a game that is played for `learner`. `name`: how errors call the sampler.
    Raises PluginError for anything else."""
    with blamed(name):
        policies: object = sampler.seat(game, num_players, pool.view(learner), rng)
    gave = f"gave the line-up {policies!r} to a game for {num_players}"
    if not isinstance(policies, Sequence) or isinstance(policies, str) or len(policies) != num_players:
        raise PluginError(f"{name} {gave}; it must name one policy a player")
    for policy in policies:
        if not isinstance(policy, str) or policy not in pool:
            raise PluginError(f"{name} {gave}; the pool holds no {policy}")
    return list(policies)
