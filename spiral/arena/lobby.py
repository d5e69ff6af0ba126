"""The arena at work: it pairs players that wait, lets the house play those that wait alone, and runs the matches."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spiral.api.errors import SpiralError
from spiral.api.text import printable_logger
from spiral.arena import match_log
from spiral.arena.connections import Member, Message, Outbox, RemoteSeat
from spiral.arena.database import NoAnswer
from spiral.arena.game_process import GameFault, GameHost
from spiral.arena.house import HousePlayer
from spiral.arena.matchmaking import Queue, Waiting, seated
from spiral.arena.records import Move, Player, StoredMatch
from spiral.arena.room import Room, Seat
from spiral.arena.store import Store

TRIAL_SEED = 0
"""Of the match by which a game is looked at."""
PAIRING_S = 0.2
"""Between two looks at the queue."""
HOUSE_AFTER_S = 3.0
"""How long a player waits for another one before the house plays."""
RETURN_S = 600.0
"""How long a server may be away until those that waited have to queue again."""
PLAYS = "you are in a match; finish it, or leave it, before you queue for another one"
MAX_MEMBERS = 10_000
"""Players of whom is remembered, while they are away, whom they played last."""

_logger = printable_logger(__name__)


@dataclass(frozen=True)
class GameInfo:
    """A game of the arena."""

    name: str
    """Its label, with its arguments."""
    num_players: int
    rules: str
    skills: Mapping[str, float] = field(default_factory=dict)
    """What it takes to be good at it, see `spiral.api.skills`."""

    @classmethod
    def of(cls, host: GameHost, name: str, remedy: str = "") -> GameInfo:
        """Of a game that the host plays. Raises SpiralError, with `remedy`, for one that cannot be started."""
        try:
            view, skills = host.open(0, name, TRIAL_SEED), host.skills(0)
        except GameFault as fault:
            raise SpiralError(f"the game {name} cannot be started: {fault}{remedy}") from fault
        host.close_match(0)
        return cls(name, len(view.observations), view.rules, skills)


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
        self.host, self._house, self._clock_s = host, house, clock_s
        self.queue = Queue({game.name: game.num_players for game in games})
        self.rooms: dict[int, Room] = {}
        self._members: dict[int, Member] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waited: dict[int, Waiting] = {}
        """Who waits, or whose match is being started, as it was queued."""
        self._starting: set[int] = set()
        """Players that left the queue, and whose match is not written yet."""
        self._rng = random.Random(secrets.randbits(64))

    def member(self, player: Player) -> Member:
        """The player as it is connected, or will be."""
        member = self._members.setdefault(player.id, Member(player))
        member.player = player  # its name may be another one by now
        if len(self._members) > MAX_MEMBERS:
            self._forget(member)
        return member

    def _forget(self, but: Member) -> None:
        """The half of those that are away: of each, who its last opponent was is all that is lost."""
        away = [one for one in self._members.values() if one.outbox is None and one.seat is None and one is not but]
        for one in away[: max(1, len(away) // 2)] if away else ():
            if one.player.id not in self._starting:
                del self._members[one.player.id]

    async def run(self) -> None:
        """Go on with the matches of a server that was killed, then pair players for ever."""
        await asyncio.to_thread(self.store.forget_waiting, time.time() - RETURN_S)
        for stored in await self._unfinished():
            try:
                await self._resume(stored)
            except Exception:  # one match that cannot go on does not keep the others from it
                _logger.exception("match %d could not go on", stored.id)
                await self.store.later(match_log.void_match, stored.id, "server")
        while True:
            try:
                await self.pair()
            except Exception:  # such as of a database that does not answer: players wait on
                _logger.exception("players could not be paired")
            await asyncio.sleep(PAIRING_S)

    async def _unfinished(self) -> list[StoredMatch]:
        while True:
            try:
                return await asyncio.to_thread(self.store.unfinished)
            except NoAnswer:  # a match that no server goes on with would keep its players from every other one
                _logger.exception("the matches in play could not be read")
                await asyncio.sleep(1.0)

    async def wait(self, member: Member, games: Sequence[str], since: float | None = None) -> None:
        """Put a player into the queue; `since`: on the clock of the machine, of one that waited already. Raises
        SpiralError for one that plays already, and for a game that is not here."""
        unknown = [game for game in games if game not in self.games]
        if unknown or not games:
            asked = f"there is no game '{unknown[0][:80]}'" if unknown else "no game was named"
            raise SpiralError(f"{asked}; there are: {', '.join(self.games)}")
        if self._plays(member):
            raise SpiralError(PLAYS)
        games, player, since = sorted(set(games)), member.player, since or time.time()
        ratings = await asyncio.to_thread(self.store.ratings, player.rated_as, games)
        await self.store.later(match_log.queued, player.id, games, since)
        # Looked at after the last wait: its match may have begun meanwhile, since it was queued already.
        if self._plays(member) or member.outbox is None:
            await self.store.later(match_log.unqueued, player.id)
            raise SpiralError(PLAYS)
        waited_s = max(0.0, time.time() - since)
        self._waited[player.id] = Waiting(player.id, ratings, time.monotonic() - waited_s, member.last_opponents)
        self.queue.join(self._waited[player.id])

    def _plays(self, member: Member) -> bool:
        return member.seat is not None or member.player.id in self._starting

    async def wait_again(self, member: Member) -> list[str]:
        """Queue a player for the games for which it waited when the server was killed; which those are."""
        kept = await asyncio.to_thread(self.store.waits, member.player.id)
        if kept is None or member.player.id in self.queue or self._plays(member):
            return []
        games, since = [game for game in kept[0] if game in self.games], kept[1]
        if games:
            await self.wait(member, games, since)
        return games

    async def messages(self, match: int, seat: int) -> Sequence[tuple[int, str, str]] | None:
        """What a seat was told, as (sender, text, kind); None where that cannot be said, or no longer."""
        try:
            return await self.host.amessages(match, seat)
        except GameFault:  # which the match is told of by its next move
            return None

    async def unqueue(self, member: Member, comes_back: bool = False) -> None:
        """Take a player out of the queue. `comes_back`: the server ends, and queues it again when it is there again."""
        self.queue.leave(member.player.id)
        if self._waited.pop(member.player.id, None) is not None and not comes_back:
            await self.store.later(match_log.unqueued, member.player.id)

    async def disconnected(self, member: Member, outbox: Outbox, comes_back: bool = False) -> None:
        """A connection is gone; a player without any waits no longer. `comes_back`: see `unqueue`."""
        member.disconnect(outbox)
        if member.outbox is None:
            await self.unqueue(member, comes_back)

    async def pair(self) -> None:
        """Start all matches that can be started now."""
        now = time.monotonic()
        pairings = self.queue.pairings(now)
        starts = [self._start(one.game, one.players, {}) for one in pairings]
        self._starting.update(player for one in pairings for player in one.players)
        for waiting in self.queue.longest(now, HOUSE_AFTER_S):
            possible = [game for game in waiting.ratings if self._suitable(game, waiting)]
            if possible:
                self.queue.leave(waiting.player)
                self._starting.add(waiting.player)
                starts.append(self._with_house(self._rng.choice(possible), waiting))
        # Together, so that they share a commit.
        for failed in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(failed, BaseException):
                raise failed

    async def past(self, seat: RemoteSeat) -> Message:
        """What a seat saw and moved so far, for a page that was opened anew."""
        stored = await asyncio.to_thread(self.store.match, seat.match)
        assert stored is not None
        moves = [move for move in stored.moves if move.legal]
        try:
            views = await asyncio.to_thread(self.host.replay, stored.game, stored.seed, [one.move for one in moves])
        except GameFault:
            views = []
        own = [one.move if one.seat == seat.seat else None for one in moves]
        seen = [[view.observations[seat.seat], view.to_move, move] for view, move in zip(views, own, strict=False)]
        return {"kind": "history", "match": seat.match, "seen": seen}

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
        people = [one for one in players if one not in house]
        try:
            taken = await asyncio.to_thread(self.store.seats_taken, game, players)
            order, seed = seated(players, taken, self._rng), self._rng.randrange(2**31)
            match = await self.store.later(match_log.start_match, game, seed, order)
        except Exception:
            for one in people:  # with the time that they have waited
                if one in self._waited and self._members[one].outbox is not None:
                    self.queue.join(self._waited[one])
            raise
        finally:
            self._starting.difference_update(people)
        for one in people:
            self._waited.pop(one, None)
        names = [house[one].player.name if one in house else self._members[one].player.name for one in order]
        self._open(match, game, seed, order, names, house, ())

    async def _resume(self, stored: StoredMatch) -> None:
        """Go on with a match of a server that was killed; voided where its game or a player of the house is gone."""
        known = {one.player.id: one for one in self._house.get(stored.game, ())}
        missing = [one for one in stored.players if one.kind == "house" and one.id not in known]
        if stored.game not in self.games or missing:
            await self.store.later(match_log.void_match, stored.id, "server")
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
                seats.append(house[player].seat(self.host, seed))
                continue
            member = self._members[player]
            member.last_opponents = frozenset(order) - {player}
            begun = {
                "kind": "match", "match": match, "game": game, "rules": self.games[game].rules, "seat": seat,
                "players": list(names), "clock_s": self._clock_s,
            }  # fmt: skip
            seats.append(RemoteSeat(member, begun))
        room = self.rooms[match] = Room(match, game, seed, seats, self.store, self.host, self._clock_s)
        task = asyncio.create_task(self._play(room, moves))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, room: Room, moves: Sequence[Move]) -> None:
        try:
            await room.run(moves)
        except Exception:
            _logger.exception("match %d was ended by an error of the arena", room.match)
            await room.fail()
        finally:
            # As soon as the end is told: whoever asks for the match then is shown its replay.
            self.rooms.pop(room.match, None)
            # And only then: a game's process that had to be killed is started again first.
            await self.host.aclose_match(room.match)
