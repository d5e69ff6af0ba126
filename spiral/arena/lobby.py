"""The arena at work: it pairs players that wait, lets the house play those that wait alone, and runs the matches."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spiral.api.errors import SpiralError
from spiral.arena.connections import Member, RemoteSeat
from spiral.arena.game_process import GameHost
from spiral.arena.house import HousePlayer
from spiral.arena.matchmaking import Queue, Waiting, seated
from spiral.arena.room import Room, Seat
from spiral.arena.store import Move, Player, Store, StoredMatch

PAIRING_S = 0.2
"""Between two looks at the queue."""
HOUSE_AFTER_S = 3.0
"""How long a player waits for another one before the house plays."""


@dataclass(frozen=True)
class GameInfo:
    """A game of the arena."""

    name: str
    """Its label, with its arguments."""
    num_players: int
    rules: str


class Lobby:
    """All players that are connected, the queue, and the matches in play."""

    def __init__(
        self,
        store: Store,
        host: GameHost,
        games: Sequence[GameInfo],
        house: Mapping[str, Sequence[HousePlayer]],
        clock_s: float,
    ) -> None:
        """`house`: its players by the label of the game. `clock_s`: for one move."""
        self.store, self.games = store, {game.name: game for game in games}
        self._host, self._house, self._clock_s = host, house, clock_s
        self.queue = Queue({game.name: game.num_players for game in games})
        self.rooms: dict[int, Room] = {}
        self._members: dict[int, Member] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._rng = random.Random(secrets.randbits(64))

    def member(self, player: Player) -> Member:
        """The player as it is connected, or will be."""
        return self._members.setdefault(player.id, Member(player))

    async def run(self) -> None:
        """Go on with the matches of a server that was killed, then pair players for ever."""
        for stored in await asyncio.to_thread(self.store.unfinished):
            await self._resume(stored)
        while True:
            await self.pair()
            await asyncio.sleep(PAIRING_S)

    async def wait(self, member: Member, games: Sequence[str]) -> None:
        """Put a player into the queue. Raises SpiralError for one that plays already, and for a game that is not
        here."""
        if member.seat is not None:
            raise SpiralError("you are in a match; finish it, or leave it, before you queue for another one")
        unknown = [game for game in games if game not in self.games]
        if unknown or not games:
            asked = f"there is no game '{unknown[0]}'" if unknown else "no game was named"
            raise SpiralError(f"{asked}; there are: {', '.join(self.games)}")
        ratings = {
            game: await asyncio.to_thread(self.store.rating, member.player.rated_as, game) for game in set(games)
        }
        self.queue.join(Waiting(member.player.id, ratings, time.monotonic(), member.last_opponents))

    async def pair(self) -> None:
        """Start all matches that can be started now."""
        now = time.monotonic()
        for pairing in self.queue.pairings(now):
            await self._start(pairing.game, pairing.players, {})
        for waiting in self.queue.longest(now, HOUSE_AFTER_S):
            possible = [game for game in waiting.ratings if self._suitable(game, waiting)]
            if possible:
                self.queue.leave(waiting.player)
                await self._with_house(self._rng.choice(possible), waiting)

    def _suitable(self, game: str, waiting: Waiting) -> list[HousePlayer]:
        """Players of the house for all other seats; one that was met last only where there is no other."""
        house = list(self._house.get(game, ()))
        fresh = [one for one in house if one.player.id not in waiting.last_opponents]
        return fresh or house

    async def _with_house(self, game: str, waiting: Waiting) -> None:
        possible = self._suitable(game, waiting)
        missing = self.games[game].num_players - 1
        # Each of the house once before any twice: with one player of it, that one takes all other seats.
        chosen = [possible[n % len(possible)] for n in self._rng.sample(range(max(missing, len(possible))), missing)]
        distinct = {one.player.id: one for one in chosen}
        await self._start(game, [waiting.player, *(one.player.id for one in chosen)], distinct)

    async def _start(self, game: str, players: Sequence[int], house: Mapping[int, HousePlayer]) -> None:
        taken = await asyncio.to_thread(self.store.seats_taken, game, players)
        order, seed = seated(players, taken, self._rng), self._rng.randrange(2**31)
        match = await asyncio.to_thread(self.store.start_match, game, seed, order)
        names = [house[one].player.name if one in house else self._members[one].player.name for one in order]
        self._open(match, game, seed, order, names, house, ())

    async def _resume(self, stored: StoredMatch) -> None:
        """Go on with a match of a server that was killed; voided where its game or a player of the house is gone."""
        known = {one.player.id: one for players in self._house.values() for one in players}
        missing = [one for one in stored.players if one.kind == "house" and one.id not in known]
        if stored.game not in self.games or missing:
            await asyncio.to_thread(self.store.void_match, stored.id, "server")
            return
        for player in stored.players:
            if player.kind != "house":
                self.member(player)
        order = [player.id for player in stored.players]
        names = [player.name for player in stored.players]
        house = {one: known[one] for one in order if one in known}
        self._open(stored.id, stored.game, stored.seed, order, names, house, stored.moves)

    def _open(
        self,
        match: int,
        game: str,
        seed: int,
        order: Sequence[int],
        names: Sequence[str],
        house: Mapping[int, HousePlayer],
        moves: Sequence[Move],
    ) -> None:
        seats: list[Seat] = []
        for seat, player in enumerate(order):
            if player in house:
                seats.append(house[player].seat(self._host, seed))
                continue
            member = self._members[player]
            member.last_opponents = frozenset(order) - {player}
            begun = {
                "kind": "match", "match": match, "game": game, "rules": self.games[game].rules, "seat": seat,
                "players": list(names), "clock_s": self._clock_s,
            }  # fmt: skip
            seats.append(RemoteSeat(member, begun))
        room = self.rooms[match] = Room(match, game, seed, seats, self.store, self._host, self._clock_s)
        task = asyncio.create_task(self._play(room, moves))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, room: Room, moves: Sequence[Move]) -> None:
        try:
            await room.run(moves)
        finally:
            self.rooms.pop(room.match, None)
