"""What chance decides of a group of games before it is played: the game, its deal and who plays.

Apart from play, since the two may be in different processes: who draws knows the samplers and the results so far, who
plays knows the weights.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from spiral.api.errors import PluginError
from spiral.api.games import Game
from spiral.api.policies import OpponentSampler, is_single
from spiral.api.records import PolicyId
from spiral.api.training import GameSampler
from spiral.plugins.faults import blamed
from spiral.policies.line_up import line_up
from spiral.policies.pool import Pool
from spiral.seeds import child


@dataclass(frozen=True, slots=True)
class Draw:
    """One game, deal and line-up, for all games of a group, so that the returns of a player can be compared."""

    index: int
    """Of the group in its step."""
    attempt: int
    """Counts how often the group was drawn again, since a match of it was voided or declined."""
    game: str
    policies: tuple[PolicyId, ...]
    """One a player."""
    deal: int
    """The seed of the game's own chance."""
    seed: int
    """64 bits; those of the games' replies and quick bots descend from it."""


class Draws:
    """Draws groups: a function of the step's seed, the group's number and attempt, and what the samplers know."""

    def __init__(
        self,
        games: Mapping[str, Callable[[], Game]],
        curriculum: GameSampler,
        opponents: OpponentSampler,
        pool: Pool,
        names: tuple[str, str] = ("the curriculum", "the opponent sampler"),
    ) -> None:
        """`names`: how errors call the curriculum and the opponent sampler."""
        self._games, self._curriculum, self._opponents, self._pool = games, curriculum, opponents, pool
        self._names = names
        self._num_players: dict[str, int] = {}

    def draw(self, root: int, index: int, attempt: int = 0) -> Draw:
        """`root`: the seed of the step. Raises PluginError for a sampler that names what there is not."""
        seed = child(child(root, index), attempt)
        rng = random.Random(seed)
        name = self._chosen_game(rng)
        deal = rng.getrandbits(63)
        learner = self._pool.learner_of(index)
        policies = line_up(self._opponents, self._names[1], name, self._players_of(name), self._pool, rng, learner)
        return Draw(index, attempt, name, tuple(policies), deal, seed)

    def is_single(self, draw: Draw) -> bool:
        """Whether a bot plays of which only one process can have the matches."""
        return any(is_single(self._pool.bot_of(policy)) for policy in draw.policies)

    def _chosen_game(self, rng: random.Random) -> str:
        with blamed(self._names[0]):
            name: object = self._curriculum.choose(rng)
        if not isinstance(name, str) or name not in self._games:
            raise PluginError(f"{self._names[0]} chose {name!r}, which is no game of the run: {', '.join(self._games)}")
        return name

    def _players_of(self, name: str) -> int:
        if name not in self._num_players:
            self._num_players[name] = self._games[name]().num_players
        return self._num_players[name]
