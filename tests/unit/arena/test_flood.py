"""What one connection or address does, no other player feels: floods, stalled readers, long messages, many sockets."""

import contextlib
import json
import logging
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from spiral.arena.limits import Limits, Rate
from spiral.arena.listening import MAX_FRAME
from spiral.arena.sockets import MAX_MESSAGE
from tests.unit.arena.conftest import running


@pytest.fixture
def strict(tmp_path, host, monkeypatch):
    """An arena of small limits."""
    limits = Limits(
        connections=3, openings=Rate(1000, 1000.0), requests=Rate(5, 0.01), registrations=Rate(2, 0.01),
        messages=Rate(20, 200.0), replays=Rate(2, 0.01), exports=Rate(1, 0.01), histories=Rate(2, 0.01),
    )  # fmt: skip
    with running(f"sqlite:///{tmp_path / 'arena.db'}", host, monkeypatch, limits=limits) as made:
        yield made


def test_one_address_registers_and_asks_no_more_than_the_limits_say(strict):
    """Beyond it is told how long to wait, and nothing is kept."""
    for name in ("ann", "bob"):
        strict.register(name)
    status, said = strict.ask("/api/players", {"name": "eve", "kind": "model"})
    assert (status, "too many requests from your address; wait" in said) == (429, True)
    assert strict.store.player_by_name("eve") is None
    assert [strict.ask("/api/games")[0] for _ in range(6)] == [200] * 5 + [429]


@pytest.mark.parametrize(("path", "num"), [("/matches/1", 2), ("/api/export", 1)])
def test_one_address_has_no_more_matches_played_again_than_the_limits_say(strict, path, num):
    """They are played in the process of the games, where matches in play would wait for them; other pages answer."""
    statuses = [strict.ask(path)[0] for _ in range(num)]
    assert 429 not in statuses
    status, said = strict.ask(path)
    assert (status, "asks for too many matches again; wait 100 s" in said) == (429, True)
    assert strict.ask("/matches")[0] == 200


def test_one_player_is_told_its_history_no_more_often_than_the_limits_say(strict):
    """A new connection gives it no more; its match goes on."""
    _, token = strict.store.add_player("ann", "model")
    with strict.connection(token) as ann:
        ann.send(kind="queue", games=["tic_tac_toe"])
        ann.until("turn")
        ann.send(kind="history")
        assert ann.until("history")
    with strict.connection(token) as ann:
        for kind in ("history", "error"):
            ann.send(kind="history")
            heard = ann.until(kind)
        assert heard["reason"] == "you ask for the history too often; wait 100 s"
        ann.send(kind="again")
        assert ann.play()["ending"] == "finished"


def test_one_address_has_no_more_connections_than_the_limits_say(strict, caplog):
    """One more is refused before it is opened, which is no error of the server; one that closes makes room."""
    tokens = [strict.store.add_player(name, "model")[1] for name in "abcd"]
    logging.getLogger("uvicorn.error").addHandler(caplog.handler)  # which hands nothing on
    with strict.connection(tokens[0]), strict.connection(tokens[1]):
        with strict.connection(tokens[2]) as third:
            third.until("welcome")
            with pytest.raises(InvalidStatus) as refused, strict.connection(tokens[3]):
                pass
            assert "your address has 3 connections already; close one" in refused.value.response.body.decode()
            assert refused.value.response.status_code == 429
            assert "handshake" not in caplog.text
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(InvalidStatus), strict.connection(tokens[3]) as fourth:
                assert fourth.until("welcome")
                break
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_flood_of_messages_loses_none_and_slows_no_other_player(strict):
    """The one who floods is read at its rate; another player's match goes on meanwhile."""
    tokens = [strict.store.add_player(name, "model")[1] for name in ("flood", "ann")]
    with strict.connection(tokens[0], close_timeout=0.5) as flood, strict.connection(tokens[1]) as ann:
        flood.until("welcome")
        stop = threading.Event()

        def send():
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                while not stop.is_set():
                    flood.send(kind="ping", filler="x" * 10_000)

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        ann.send(kind="queue", games=["tic_tac_toe"])
        assert ann.play()["ending"] == "finished"
        stop.set()


def test_a_reader_that_stalls_is_dropped_and_slows_no_other_player(arena):
    """2,000 updates of 30 KB to a connection that reads nothing: few are kept, it is closed, and its socket too."""
    token = arena.register("slow")
    player = arena.store.player_by_token(token)
    with (
        arena.connection(token, max_queue=1, close_timeout=0.5) as slow,
        arena.connection(arena.register("ann")) as ann,
    ):
        slow.until("welcome")
        member, update = arena.lobby.member(player), {"kind": "state", "observation": "x" * 30_000}
        outbox = member.outbox
        arena.loop.call_soon_threadsafe(lambda: [member.send(update) for _ in range(2000)])
        ann.send(kind="queue", games=["tic_tac_toe"])
        assert ann.play()["ending"] == "finished"
        assert outbox.closed_for == "too slow"
        assert outbox._messages.qsize() <= 1
        end = time.monotonic() + 20
        while member.outbox is not None and time.monotonic() < end:
            time.sleep(0.02)
        assert member.outbox is None


@pytest.mark.parametrize(("size", "refused"), [(-1, False), (0, False), (1, True)])
def test_a_message_is_as_long_as_it_may_be(arena, size, refused):
    """One character more, and its sender is told so; the connection stays."""
    frame = json.dumps({"kind": "ping", "filler": ""})
    with arena.connection(arena.register("ann")) as ann:
        ann.until("welcome")
        ann.send(kind="ping", filler="x" * (MAX_MESSAGE + size - len(frame)))
        ann.send(kind="dance")
        reason = ann.until("error")["reason"]
        assert ("shorten it" in reason) == refused
        assert refused or "unknown message" in reason


def _sent(client, text):
    client.socket.send(text)
    client.until("never")


@pytest.mark.parametrize("size", [MAX_FRAME - 1, MAX_FRAME, MAX_FRAME + 1, 1 << 20])
def test_a_frame_beyond_the_limit_is_named_to_its_sender_and_in_the_log(arena, size, caplog):
    """It ends its connection and nothing else: the next one has the seat, and the clock went on."""
    token = arena.register("ann")
    with arena.connection(token) as ann:
        ann.send(kind="queue", games=["tic_tac_toe"])
        turn = ann.until("turn")
        if size <= MAX_FRAME:
            ann.socket.send("x" * size)
            assert "shorten it" in ann.until("error")["reason"]
        else:
            with pytest.raises(ConnectionClosed) as closed:
                _sent(ann, "x" * size)
            assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
            assert any("1009" in line.getMessage() for line in caplog.records)
    with arena.connection(token) as again:
        assert again.until("turn")["number"] == turn["number"]


@pytest.mark.parametrize("move", ["\ud800", "4\x00", "<script>alert(1)</script>", "\u202e\u2066\x1b[2J", "x" * 15_000])
def test_a_hostile_move_is_text(arena, move):
    """It is illegal, and the match goes on; the database takes it, and the page shows it as text."""
    with arena.connection(arena.register("ann")) as ann:
        ann.send(kind="queue", games=["tic_tac_toe"])
        turn = ann.until("turn")
        ann.send(kind="move", number=turn["number"], move=move, said=move[:100])
        ann.until("illegal")
        end = ann.play()
        assert end["ending"] == "finished"
    status, page = arena.ask(f"/matches/{end['match']}")
    assert (status, "<script>alert" in page, "\x1b" in page, "\u202e" in page) == (200, False, False, False)


def test_json_that_is_nested_too_deeply_and_bytes_are_no_message(arena):
    """The parser gives up, and the connection stays."""
    with arena.connection(arena.register("ann")) as ann:
        ann.socket.send("[" * 19_000)
        assert "no JSON" in ann.until("error")["reason"]
        ann.socket.send(b"\xff\x00")
        assert "send JSON as text" in ann.until("error")["reason"]
    assert arena.ask("/api/players", b"[" * 9_000)[0] == 400
    assert arena.ask("/api/matches/99999999999999999999")[0] == 404


def test_one_token_used_by_many_connections_at_once_has_one_seat(arena):
    """Twenty at the same time, all queueing: one of them plays, in one match."""
    token, matches, lock = arena.register("ann"), set(), threading.Lock()

    def use():
        with contextlib.suppress(ConnectionClosed, TimeoutError), arena.connection(token) as one:
            one.send(kind="queue", games=["tic_tac_toe"])
            match = one.until("match", within=20)["match"]
            with lock:
                matches.add(match)

    threads = [threading.Thread(target=use) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(matches) == 1
    assert len(arena.store.unfinished()) == 1


def test_a_player_that_queues_while_its_match_begins_is_in_one_match(arena):
    """Leaving and joining in one moment leaves it once in the queue, or in a match, and never in both."""
    with arena.connection(arena.register("ann")) as ann:
        ann.until("welcome")
        for n in range(20):
            ann.send(kind="queue", games=["tic_tac_toe"])
            if n % 3 == 0:
                ann.send(kind="unqueue")
            time.sleep(0.01)
        ann.send(kind="queue", games=["tic_tac_toe"])
        ann.until("match")
        time.sleep(0.3)
        assert len(arena.store.unfinished()) == 1
        assert len(arena.lobby.queue) == 0


def test_a_match_whose_player_closes_after_its_last_move_is_rated(arena):
    """Ten times: nothing of the end is lost with the connection."""
    token, matches = arena.register("ann"), []
    for _ in range(10):
        with arena.connection(token) as ann:
            ann.send(kind="queue", games=["kuhn_poker"])
            matches.append(ann.until("match")["match"])
            turn = ann.until("turn")
            ann.send(kind="move", number=turn["number"], move=turn["legal_moves"][-1])
            # A bet is answered by the house, and a call ends the match: there is no other turn, or it is left.
            ann.send(kind="leave")
        end = time.monotonic() + 20
        while arena.store.match(matches[-1]).status == "playing" and time.monotonic() < end:
            time.sleep(0.01)
    assert [arena.store.match(match).status for match in matches] == ["finished"] * 10
    (mine,) = [one for one in arena.store.leaderboard("kuhn_poker") if one.player.name == "ann"]
    assert mine.matches == 10


def test_a_queue_comes_back_after_a_restart(tmp_path, host, monkeypatch):
    """Who waited is queued again by its next connection, without asking, with the time that it has waited."""
    url = f"sqlite:///{tmp_path / 'arena.db'}"
    with running(url, host, monkeypatch, house_after_s=1e6) as arena:
        tokens = [arena.register(name) for name in ("ann", "bob")]
        with arena.connection(tokens[0]) as ann:
            ann.send(kind="queue", games=["kuhn_poker"])
            ann.until("queued")
            since = arena.store.waits(arena.store.player_by_token(tokens[0]).id)
            arena.stop()
    with running(url, host, monkeypatch, house_after_s=1e6) as arena, arena.connection(tokens[0]) as ann:
        assert ann.until("queued")["games"] == ["kuhn_poker"]
        assert arena.store.waits(arena.store.player_by_token(tokens[0]).id) == since
        with arena.connection(tokens[1]) as bob:
            bob.send(kind="queue", games=["kuhn_poker"])
            assert bob.until("match")["match"] == ann.until("match")["match"]
        assert arena.store.waits(arena.store.player_by_token(tokens[0]).id) is None


def test_a_player_that_closes_its_page_waits_no_longer(arena):
    """And is not queued again when it comes back."""
    token = arena.register("ann")
    with arena.connection(token) as ann:
        ann.send(kind="queue", games=["faulty"])  # which the house does not play
        ann.until("queued")
    player, end = arena.store.player_by_token(token).id, time.monotonic() + 20
    while arena.store.waits(player) is not None and time.monotonic() < end:
        time.sleep(0.01)
    assert (arena.store.waits(player), len(arena.lobby.queue)) == (None, 0)
