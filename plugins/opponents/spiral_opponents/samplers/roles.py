"""An opponent sampler that gives each player of a game to one policy for good, registered as `roles`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from spiral import LEARNER, PolicyId, PoolView, SpiralError


class Roles:
    """`players` names the policy of each player: `learner`, one of `learners`, or a member as in pool.members; one list
    for all games, or a mapping of games to lists. Without it the main policy is every player.

    So the attacker and the defender of a game are policies of their own, each trained on its side alone.
    """

    def __init__(self, players: Sequence[str] | Mapping[str, Sequence[str]] | None = None) -> None:
        by_game: Any = dict(players) if isinstance(players, Mapping) else {} if players is None else {"": players}
        if not all(_is_list_of_names(names) for names in by_game.values()):
            raise SpiralError(
                f"roles got players={players!r}; name the policy of each player, such as [learner, defender], or such "
                "a list for each game"
            )
        self._players: dict[str, list[str]] = {game: list(names) for game, names in by_game.items()}

    def seat(self, game: str, num_players: int, pool: PoolView, rng: random.Random) -> Sequence[PolicyId]:
        return self.profile(game, num_players, pool)

    def profile(self, game: str, num_players: int, pool: PoolView) -> Sequence[PolicyId]:
        """The line-up of every match of a game."""
        return [_policy(name, pool) for name in self._names(game, num_players)]

    def _names(self, game: str, num_players: int) -> list[str]:
        if not self._players:
            return [LEARNER] * num_players
        names = self._players.get(game, self._players.get(""))
        if names is None or len(names) != num_players:
            given = "none" if names is None else f"{len(names)} ({', '.join(names)})"
            raise SpiralError(f"roles needs {num_players} policies for {game}, one a player, and players has {given}")
        return names


def _policy(name: str, pool: PoolView) -> PolicyId:
    policy = pool.named(name)
    if policy is None:
        raise SpiralError(
            f"roles names '{name}', which is no policy in training ({', '.join(pool.learners)}) and no member of the "
            "pool; add it to learners, or to pool.members"
        )
    return policy


def _is_list_of_names(names: object) -> bool:
    return (
        isinstance(names, Sequence)
        and not isinstance(names, str)
        and bool(names)
        and all(isinstance(name, str) and name for name in names)
    )
