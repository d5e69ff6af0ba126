"""A match whose end comes on several ways at once: it is ended once, and its players' ratings change once."""

import asyncio
import random
from dataclasses import replace

from sqlalchemy import func, select

from spiral.arena import database as db
from spiral.arena import match_log, rating_log
from spiral.arena.connections import Member, RemoteSeat
from spiral.arena.game_process import GameFault
from spiral.arena.game_worker import View
from spiral.arena.lobby import Lobby
from spiral.arena.room import Question, Room

MATCHES = 1000
START = View(0, ("you move", "you wait"), ("win",), "", -1.0, None)
END = View(None, ("won", "lost"), (), "", -1.0, (1.0, -1.0))


class Games:
    """Matches of one move, which takes a while to be made, or fails."""

    def __init__(self, rng):
        self.rng = rng

    async def aopen(self, match, game, seed, moves=()):
        return END if moves else START

    async def aplay(self, match, move):
        await asyncio.sleep(self.rng.random() * 0.004)
        if move == "fail":
            raise GameFault("as it was told")
        return END

    async def aclose_match(self, match):
        pass


def _seats(match, players):
    members = [Member(player) for player in players]
    for member in members:
        member.connect()
    return [RemoteSeat(member, {"kind": "match", "match": match, "seat": n}) for n, member in enumerate(members)]


async def _ended(store, players, match, rng):
    """Move, clock, a lost connection, giving up, a fault, an administrator: as chance will, within milliseconds."""
    seats = _seats(match, players)
    room = Room(match, "g", 0, seats, store, Games(rng), clock_s=0.001 + 0.004 * rng.random())
    running = asyncio.create_task(room.run())

    async def later(act, *args):
        await asyncio.sleep(rng.random() * 0.004)
        act(*args)

    acts = [
        later(seats[0].move, 0, "win"), later(seats[0].move, 0, "fail"), later(seats[0].leave), later(seats[1].leave),
        *(later(seat._member.disconnect, seat._member.outbox) for seat in seats),
    ]  # fmt: skip
    chosen = rng.sample(acts, rng.randint(1, len(acts)))
    for left_out in acts:
        if left_out not in chosen:
            left_out.close()
    await asyncio.gather(*chosen)
    if rng.random() < 0.1:
        await store.later(match_log.void_match, match, "administrator")
    return await running


async def _all(store, players, matches, rng):
    ends = []
    for at in range(0, len(matches), 50):
        some = matches[at : at + 50]
        ends += await asyncio.gather(*(_ended(store, players, m, rng) for m in some))
    return ends


def test_a_match_that_ends_on_several_ways_in_the_same_moment_ends_once(store, database):
    """A thousand matches with random delays: each has ended, each finished one has one change a rating, and the
    ratings are those of the matches one after another."""
    players = [store.add_player(name, "model")[0] for name in "ab"]
    submit, ids = store._writer.submit, [player.id for player in players]
    matches = [one.result() for one in [submit(match_log.start_match, "g", 0, ids) for _ in range(MATCHES)]]
    ends = asyncio.run(_all(store, players, matches, random.Random(7)))
    with database.read() as connection:
        status = dict(connection.execute(select(db.matches.c.status, func.count()).group_by(db.matches.c.status)).all())
        endings = set(connection.scalars(select(db.matches.c.ending)))
        changes = connection.scalar(select(func.count()).select_from(db.rating_changes))
        assert rating_log.differences(connection) == []
    assert set(status) == {"finished", "voided"}
    assert sum(status.values()) == MATCHES
    assert status["voided"] == sum(end.voided for end in ends)
    assert changes == 4 * status["finished"]
    assert {"finished", "timeout", "left", "administrator"} <= endings
    assert store.unfinished() == []


def test_a_match_that_an_administrator_voided_ends_with_its_next_move(store):
    """Its players are told, and free."""
    players = [store.add_player(name, "model")[0] for name in "ab"]
    match = store.now(match_log.start_match, "g", 0, [player.id for player in players])

    async def play():
        seats = _seats(match, players)
        running = asyncio.create_task(Room(match, "g", 0, seats, store, Games(random.Random(0)), 20.0).run())
        await store.later(rating_log.take_out, match)
        while not seats[0].move(0, "win"):
            await asyncio.sleep(0.001)
        return await running, [seat._member.seat for seat in seats]

    over, seats = asyncio.run(play())
    assert (over.voided, over.ending, seats) == (True, "administrator", [None, None])
    assert store.leaderboard("g") == []


def test_players_are_told_when_the_end_of_their_match_takes_long_to_be_written(store, monkeypatch):
    """The page says that the rating is pending; the end comes when the database is there again."""
    monkeypatch.setattr("spiral.arena.room.PENDING_S", 0.01)
    later, held = store.later, asyncio.Event()

    async def slow(write, *args, **options):
        if write is match_log.finish_match:
            await held.wait()
        return await later(write, *args, **options)

    monkeypatch.setattr(store, "later", slow)
    players = [store.add_player(name, "model")[0] for name in "ab"]
    match = store.now(match_log.start_match, "g", 0, [player.id for player in players])

    async def play():
        seats = _seats(match, players)
        running = asyncio.create_task(Room(match, "g", 0, seats, store, Games(random.Random(0)), 20.0).run())
        while not seats[0].move(0, "win"):
            await asyncio.sleep(0.001)
        heard = []
        while "over" not in heard:
            heard.append((await seats[1]._member.outbox.next())["kind"])
            if heard[-1] == "pending":
                held.set()
        await running
        return heard

    assert asyncio.run(play()) == ["match", "state", "pending", "over"]


def test_an_error_of_the_arena_in_a_match_voids_it(store, monkeypatch):
    """No match is stuck by a mistake of ours: it counts for no player, and both are free."""
    players = [store.add_player(name, "model")[0] for name in "ab"]
    match = store.now(match_log.start_match, "g", 0, [player.id for player in players])
    lobby = Lobby(store, Games(random.Random(0)), [], {}, 20.0)

    async def play():
        seats = _seats(match, players)
        monkeypatch.setattr(seats[1], "shown", lambda question: 1 // 0)
        room = lobby.rooms[match] = Room(match, "g", 0, seats, store, Games(random.Random(0)), 20.0)
        await lobby._play(room, ())
        return [seat._member.seat for seat in seats]

    assert asyncio.run(play()) == [None, None]
    assert lobby.rooms == {}
    assert (store.match(match).status, store.match(match).ending) == ("voided", "server")


def test_a_page_may_ask_how_its_match_stands_while_the_end_is_not_written(store):
    """There is no turn to compare with then, and the connection stays."""

    async def stands():
        (player, _), match = store.add_player("a", "model"), 1
        (seat,) = _seats(match, [player])
        seat.shown(Question(match, 3, 0, replace(START, to_move=1), 20.0))
        before = seat.standing
        seat.pending(match)
        return before, seat.standing

    assert asyncio.run(stands()) == ((1, 3, False), None)
