"""Spectators and pages: nothing hidden leaves the server before the end, and all of it does after."""

import asyncio
import json
import threading

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from spiral.arena import watching


def _watch(arena, match, **options):
    return connect(f"ws://127.0.0.1:{arena.port}/api/watch/{match}", **options)


def heard(spectator):
    """The next message that is more than a sign of life."""
    while (message := json.loads(spectator.recv(timeout=20)))["kind"] == "beat":
        pass
    return message


def test_of_a_game_with_hidden_cards_a_spectator_sees_who_is_to_move(arena):
    """Neither card nor move, in the socket and on the page; after the end the page shows both cards."""
    with arena.meeting("kuhn_poker") as players:
        turn = players[0].until("turn")
        match = turn["match"]
        with _watch(arena, match) as spectator:
            first = heard(spectator)
            assert (first["to_move"], first["number"], first["observation"]) == (0, 0, None)
            page = arena.ask(f"/matches/{match}")[1]
            assert "kuhn p0" not in page
            assert "shown when the match has ended" in page
            assert f"/matches/{match}" in arena.ask("/matches")[1]
            players[0].send(kind="move", number=turn["number"], move="bet")
            second = heard(spectator)
            assert (second["to_move"], second["number"]) == (1, 1)
            assert "bet" not in json.dumps(second)
            turn = players[1].until("turn")
            players[1].send(kind="move", number=turn["number"], move="fold")
            assert heard(spectator)["kind"] == "over"
        for one in players:
            one.until("over")
    page = arena.ask(f"/matches/{match}")[1]
    assert "kuhn p0" in page
    assert "kuhn p1" in page
    assert "fold" in page


def test_a_match_whose_end_was_told_is_a_replay_at_once(arena, monkeypatch):
    """Also while the game's process is being started again: a page of a match in play would wait for ever."""
    closing = threading.Event()

    async def slow(match):
        closing.set()
        await asyncio.sleep(3)

    monkeypatch.setattr(arena.lobby.host, "aclose_match", slow)
    with arena.meeting("kuhn_poker") as players:
        turn = players[0].until("turn")
        players[0].send(kind="move", number=turn["number"], move="bet")
        turn = players[1].until("turn")
        players[1].send(kind="move", number=turn["number"], move="fold")
        for one in players:
            one.until("over")
        assert closing.wait(10)
        assert "kuhn p0" in arena.ask(f"/matches/{turn['match']}")[1]


def test_a_game_of_perfect_information_is_seen_as_it_stands(arena):
    """What the player to move sees, with every move."""
    with arena.connection(arena.register("ann")) as ann:
        ann.send(kind="queue", games=["tic_tac_toe"])
        turn = ann.until("turn")
        with _watch(arena, turn["match"]) as spectator:
            first = heard(spectator)
            assert first["observation"] == turn["observation"]
            assert turn["observation"] in arena.ask(f"/matches/{turn['match']}")[1]
            ann.send(kind="move", number=turn["number"], move=turn["legal_moves"][0])
            assert heard(spectator)["to_move"] == 1 - first["to_move"]
        ann.play()


def test_a_spectator_hears_a_sign_of_life_while_nothing_happens(arena, monkeypatch):
    """By which its page knows that it is connected; it tells nothing of the match."""
    monkeypatch.setattr(watching, "BEAT_S", 0.05)
    with arena.meeting("kuhn_poker") as players:
        match = players[0].until("turn")["match"]
        with _watch(arena, match) as spectator:
            assert heard(spectator)["kind"] == "state"
            assert [json.loads(spectator.recv(timeout=20)) for _ in range(3)] == [{"kind": "beat"}] * 3
        players[0].send(kind="leave")
        players[0].until("over")


def test_a_match_that_many_watch_has_room_for_no_more(arena, monkeypatch):
    """One sentence, and another code than that of a match that is not in play: its page tries again later."""
    monkeypatch.setattr(watching, "MAX_WATCHERS", 1)
    with arena.meeting("kuhn_poker") as players:
        match = players[0].until("turn")["match"]
        with _watch(arena, match) as first, _watch(arena, match) as second:
            assert heard(first)["kind"] == "state"
            assert "watch already; try again later" in heard(second)["reason"]
            with pytest.raises(ConnectionClosed) as closed:
                second.recv(timeout=20)
            assert closed.value.rcvd.code == watching.FULL
        players[0].send(kind="leave")
        players[0].until("over")


def test_a_match_that_is_not_in_play_has_no_spectators(arena):
    """One sentence; and a page of another site gets no socket here either."""
    with _watch(arena, 99) as spectator:
        assert "not in play" in heard(spectator)["reason"]
    with pytest.raises(InvalidStatus, match="403"):
        _watch(arena, 1, origin="https://elsewhere.example")


def test_a_page_that_is_opened_anew_is_told_what_its_seat_saw_and_moved(arena):
    """Computed from the moves: the same observations as were sent, its own moves, and none of the opponent's."""
    token = arena.register("ann")
    with arena.connection(token) as ann:
        ann.send(kind="queue", games=["tic_tac_toe"])
        first = ann.until("turn")
        ann.send(kind="move", number=first["number"], move=first["legal_moves"][0])
        second = ann.until("turn")
    with arena.connection(token) as again:
        seat = again.until("match")["seat"]
        again.send(kind="history")
        told = again.until("history")
        assert told["match"] == first["match"]
        own = [(observation, move) for observation, to_move, move in told["seen"] if to_move == seat]
        assert own == [(first["observation"], first["legal_moves"][0])]
        assert [move for _, to_move, move in told["seen"] if to_move != seat] == [None] * (second["number"] - 1)
        again.send(kind="ping")
        assert again.until("pong")["standing"] == [second["match"], second["number"], True]
        again.send(kind="again")
        assert again.until("turn")["observation"] == second["observation"]


def test_a_player_gives_up_while_its_opponent_is_asked(arena):
    """It counts as soon as it would be its turn."""
    with arena.meeting("tic_tac_toe") as players:
        turn = players[0].until("turn")
        players[1].send(kind="leave")
        players[1].send(kind="ping")
        players[1].until("pong")
        players[0].send(kind="move", number=turn["number"], move=turn["legal_moves"][0])
        end = players[1].until("over")
        assert (end["ending"], end["offender"], players[0].until("over")["outcome"]) == ("left", 1, "win")


def test_every_page_answers_with_text_as_text(arena):
    """Player, game, matches, replay; what a program says with markup in it stays text."""
    with arena.connection(arena.register("ann")) as ann:
        ann.send(kind="queue", games=["tic_tac_toe"])
        turn = ann.until("turn")
        said = "<img src=x onerror=alert(1)>"
        ann.send(kind="move", number=turn["number"], move=turn["legal_moves"][0], said=said)
        match = ann.play()["match"]
    status, page = arena.ask(f"/matches/{match}")
    assert status == 200
    assert said not in page
    assert "&lt;img src=x" in page
    for path in ("/players/ann", "/players/random", "/matches", "/games/kuhn_poker", "/games/tic_tac_toe"):
        assert arena.ask(path)[0] == 200, path
    assert f"match {match}" in arena.ask("/games/tic_tac_toe")[1]
    assert "Random moves" in arena.ask("/games/kuhn_poker")[1]
    assert "provisional" in arena.ask("/players/ann")[1]
    assert arena.ask("/players/none")[0] == 404
