"""Random finished games of every shape that rollouts produce, for the checks of plug-ins that read episodes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from spiral.api.records import LEARNER, Ending, Episode, PolicyId, Trajectory, Turn

GAMES = {"solo": 1, "duel": 2, "trio": 3}
"""Game -> its number of players; no such game exists."""
OTHERS: Sequence[PolicyId] = ("bot:random", "snapshot:10")
RETURNS: Sequence[Sequence[Sequence[float]]] = (
    ((1.0,), (0.0,), (-1.0,), (0.25,)),
    ((1.0, -1.0), (-1.0, 1.0), (0.0, 0.0), (-1.5, 0.5), (2.0, 1.0)),
    ((1.0, -0.5, -0.5), (-1.0, 0.5, 0.5), (0.0, 0.0, 0.0), (1.0, 1.0, -2.0)),
)
"""`RETURNS[n - 1]`: returns of n players, won, lost and drawn, with sums of 0 and others."""


def random_episode(rng: random.Random, game: str) -> Episode:
    """A finished game of `GAMES[game]` players: the learner plays for all of them or for one, with 0 to 3 turns a
    player, some illegal, some unreadable, some with rewards from an earlier shaper."""
    num, deal = GAMES[game], rng.getrandbits(63)
    policies = _policies(rng, num)
    returns = rng.choice(RETURNS[num - 1])
    shaped = rng.random() < 0.5
    order = [player for player in range(num) for _ in range(rng.randrange(4))]
    rng.shuffle(order)
    turns: list[list[Turn]] = [[] for _ in range(num)]
    for player in order:
        turns[player].append(_turn(rng, policies[player] != "bot:random", shaped))
    trajectories = tuple(
        Trajectory(game, player, policies[player], amount + sum(turn.reward for turn in own), tuple(own), deal)
        for player, (amount, own) in enumerate(zip(returns, turns, strict=True))
    )
    offender = order[-1] if order and not turns[order[-1]][-1].legal else None
    whole: Ending = rng.choice(("finished", "cut"))
    ending = whole if offender is None else "illegal"
    return Episode(game, deal, tuple(policies), tuple(returns), trajectories, tuple(order), ending, offender)


def unpaid(episode: Episode) -> Episode:
    """The same game with all returns and rewards 0."""
    trajectories = tuple(
        replace(t, reward=0.0, turns=tuple(replace(turn, reward=0.0) for turn in t.turns)) for t in episode.trajectories
    )
    return replace(episode, returns=(0.0,) * len(trajectories), trajectories=trajectories)


def _policies(rng: random.Random, num: int) -> list[PolicyId]:
    if num == 1 or rng.random() < 0.5:
        return [LEARNER] * num
    learner = rng.randrange(num)
    return [LEARNER if player == learner else rng.choice(OTHERS) for player in range(num)]


def _turn(rng: random.Random, has_tokens: bool, shaped: bool) -> Turn:
    """A turn; 1 in 4 is illegal, and half of those of a model are unreadable. A bot's move is always readable."""
    legal = rng.random() < 0.75
    readable = legal or not has_tokens or rng.random() < 0.5
    ids = tuple(range(rng.randrange(1, 600))) if has_tokens else ()
    return Turn(
        "observation",
        ids[:4],
        ids,
        (-0.5,) * len(ids),
        "move" if readable else None,
        legal,
        "stop" if readable else "length",
        0,
        rng.choice((-0.5, 0.25)) if shaped else 0.0,
    )
