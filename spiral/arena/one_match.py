"""Matches of one person against one policy in the browser: `spiral play --web`."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spiral.api.errors import SpiralError
from spiral.arena import match_log
from spiral.arena.database import Database
from spiral.arena.game_process import GameHost
from spiral.arena.game_worker import installed
from spiral.arena.house import BotChooser, Chooser, HousePlayer, PolicyChooser
from spiral.arena.lobby import GameInfo, Lobby
from spiral.arena.store import Store
from spiral.evaluation.loaded_policy import LoadedPolicy
from spiral.plugins.registry import label
from spiral.policies.reference import short_name

CLOCK_S = 3600.0
"""For one move: no other player waits."""
PAIRING_S = 0.05
"""Between two looks at who waits."""


class OneMatch(Lobby):
    """A person who comes plays the policy at once, in the seat and from the deal that were asked for; a next match has
    the next seed."""

    def __init__(
        self, store: Store, host: GameHost, game: GameInfo, policy: HousePlayer, player: int, seed: int
    ) -> None:
        super().__init__(store, host, [game], {game.name: [policy]}, CLOCK_S)
        self._game, self._policy, self._player, self._next_seed = game, policy, player, seed

    async def run(self) -> None:
        """Serve those that wait, for ever."""
        while True:
            await self.pair()
            await asyncio.sleep(PAIRING_S)

    async def pair(self) -> None:
        """Start a match for each that waits."""
        for waiting in self.queue.longest(time.monotonic(), 0.0):
            self.queue.leave(waiting.player)
            self._starting.add(waiting.player)
            own, policy, seats = (
                self._members[waiting.player].player,
                self._policy.player,
                range(self._game.num_players),
            )
            order = [own.id if seat == self._player else policy.id for seat in seats]
            names = [own.name if seat == self._player else policy.name for seat in seats]
            seed, self._next_seed = self._next_seed, self._next_seed + 1
            try:
                match = await self.store.later(match_log.start_match, self._game.name, seed, order)
            finally:
                self._starting.discard(waiting.player)
            self._waited.pop(waiting.player, None)
            self._open(match, self._game.name, seed, order, names, {policy.id: self._policy}, ())


@contextmanager
def one_match(loaded: LoadedPolicy, game: str | None, player: int, seed: int) -> Iterator[OneMatch]:
    """The lobby of a policy, which is kept nowhere. Raises SpiralError for a game that is not its, or a seat that the
    game does not have."""
    name = loaded.game(game)
    plugin = next(one for one in loaded.config.games if label(one.name, one.args) == name)
    with tempfile.TemporaryDirectory(prefix="spiral-play-") as folder:
        host, database = GameHost(installed([plugin])), Database(f"sqlite:///{Path(folder) / 'play.db'}")
        store = Store(database)
        try:
            info = GameInfo.of(host, name)
            if not 0 <= player < info.num_players:
                raise SpiralError(f"{name} has players 0 to {info.num_players - 1}, not {player}")
            policy = HousePlayer(store.house_player(short_name(loaded.policy)), _chooser(loaded))
            yield OneMatch(store, host, info, policy, player, seed)
        finally:
            host.close()
            store.close()
            database.close()


def _chooser(loaded: LoadedPolicy) -> Chooser:
    bot = loaded.players.pool.bot_of(loaded.policy)
    return (
        PolicyChooser(loaded.setup.completer, loaded.policy)
        if bot is None
        else BotChooser(bot, short_name(loaded.policy))
    )
