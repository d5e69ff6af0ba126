"""An arena over its sockets and pages: matches end and are rated, and nothing of a connection ends one."""

import json
import time

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from spiral.arena.database import NoAnswer
from spiral.arena.store import Store
from tests.unit.arena.conftest import running


def test_two_programs_play_a_rated_match(arena):
    """Each sees what its seat may know, and the leaderboard says what both were told."""
    with arena.meeting("kuhn_poker") as players:
        matches = [one.heard[-1] for one in players]
        assert sorted(one["seat"] for one in matches) == [0, 1]
        assert matches[0]["players"] == matches[1]["players"]
        first = players[0].until("turn")
        assert first["legal_moves"] == ["check", "bet"]
        assert "p1" not in first["observation"]
        players[0].send(kind="move", number=first["number"], move="bet")
        second = players[1].until("turn")
        players[1].send(kind="move", number=second["number"], move="fold")
        ends = [one.until("over") for one in players]
    assert [end["outcome"] for end in ends] == ["win", "loss"]
    board = {row["name"]: row for row in json.loads(arena.ask("/api/leaderboard?game=kuhn_poker")[1])}
    for end, name in zip(ends, matches[0]["players"], strict=True):
        (change,) = [one for one in end["ratings"] if one["game"] == "kuhn_poker"]
        assert change["after"] == [board[name]["mu"], board[name]["sigma"]]


def test_who_waits_alone_plays_the_house(arena):
    """And can be asked for its match afterwards, but not before it ended."""
    with arena.connection(arena.register("ann")) as ann:
        ann.send(kind="queue", games=["tic_tac_toe"])
        match = ann.until("match")
        assert "random" in match["players"]
        assert arena.ask(f"/api/matches/{match['match']}")[0] == 404
        ann.play()
    told = json.loads(arena.ask(f"/api/matches/{match['match']}")[1])
    assert told["players"] == match["players"]
    assert len(told["moves"]) >= 5
    assert arena.ask(f"/matches/{match['match']}")[0] == 200


def test_a_connection_that_is_lost_gives_the_seat_back(arena):
    """The match goes on meanwhile; the new connection is told the match and what is asked."""
    token = arena.register("ann")
    with arena.connection(token) as ann:
        ann.send(kind="queue", games=["tic_tac_toe"])
        turn = ann.until("turn")
    with arena.connection(token) as again:
        assert again.until("match")["match"] == turn["match"]
        asked = again.until("turn")
        assert (asked["number"], asked["observation"]) == (turn["number"], turn["observation"])
        assert asked["clock_s"] < turn["clock_s"]
        again.send(kind="move", number=asked["number"], move=asked["legal_moves"][0])
        assert again.play()["ending"] == "finished"


def test_a_second_connection_takes_the_place_of_the_first(arena):
    """Two seats with one token there are not."""
    token = arena.register("ann")
    with arena.connection(token) as first:
        first.until("welcome")
        with arena.connection(token) as second:
            second.until("welcome")
            with pytest.raises(ConnectionClosed, match="connected elsewhere"):
                first.until("nothing")
            second.send(kind="queue", games=["kuhn_poker"])
            assert second.until("match")


def test_a_move_is_answered_once_and_for_its_own_turn(arena):
    """What comes late, twice or unasked is refused, and the match goes on."""
    with arena.connection(arena.register("ann")) as ann:
        ann.send(kind="move", number=0, move="4")
        assert "not yours" in ann.until("error")["reason"]
        ann.send(kind="queue", games=["tic_tac_toe"])
        turn = ann.until("turn")
        ann.send(kind="move", number=turn["number"] + 1, move=turn["legal_moves"][0])
        assert "not yours" in ann.until("error")["reason"]
        ann.send(kind="move", number=turn["number"], move="no such square")
        assert "one digit from 0 to 8" in ann.until("illegal")["reason"]
        assert ann.play()["ending"] == "finished"


def test_a_program_that_moves_illegally_three_times_forfeits(arena):
    """Its opponent has won, and the offender is named."""
    with arena.connection(arena.register("ann")) as ann:
        ann.send(kind="queue", games=["tic_tac_toe"])
        seat = ann.until("match")["seat"]
        end = ann.play(choose=lambda turn: "\x1b[31m<script>")
    assert (end["ending"], end["offender"], end["outcome"]) == ("illegal", seat, "loss")
    assert "<script>" not in arena.ask(f"/matches/{end['match']}")[1]


def test_a_clock_that_runs_out_loses(tmp_path, host, monkeypatch):
    """A seat without a connection has no other."""
    with running(f"sqlite:///{tmp_path / 'a.db'}", host, monkeypatch, clock_s=0.5) as arena:
        token = arena.register("ann")
        with arena.connection(token) as ann:
            ann.send(kind="queue", games=["tic_tac_toe"])
            match = ann.until("turn")["match"]
        end = time.monotonic() + 10
        while arena.store.match(match).status == "playing" and time.monotonic() < end:
            time.sleep(0.05)
        assert arena.store.match(match).ending == "timeout"


@pytest.mark.parametrize("move", ["raise", "hang", "exit"])
def test_a_game_that_fails_counts_for_nobody(arena, move):
    """Both are told that the match is void, and can play on."""
    with arena.meeting("faulty") as players:
        turn = players[0].until("turn")
        players[0].send(kind="move", number=turn["number"], move=move)
        ends = [players[seat].until("over") for seat in (0, 1)]
        assert [end["outcome"] for end in ends] == ["voided", "voided"]
        players[0].send(kind="queue", games=["kuhn_poker"])
        assert players[0].play()["outcome"] in ("win", "loss")
    assert json.loads(arena.ask("/api/leaderboard?game=faulty")[1]) == []


def test_a_match_in_play_goes_on_after_a_restart(tmp_path, host, monkeypatch):
    """From its moves so far, with the same cards; the queue is asked for again by who waits."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with running(url, host, monkeypatch) as arena:
        token = arena.register("ann")
        with arena.connection(token) as ann:
            ann.send(kind="queue", games=["tic_tac_toe"])
            turn = ann.until("turn")
            ann.send(kind="move", number=turn["number"], move=turn["legal_moves"][0])
            before = ann.until("turn")
    with running(url, host, monkeypatch) as arena, arena.connection(token) as ann:
        after = ann.until("turn")
        assert (after["match"], after["number"]) == (before["match"], before["number"])
        assert after["observation"] == before["observation"]
        ann.send(kind="move", number=after["number"], move=after["legal_moves"][0])
        assert ann.play()["ending"] == "finished"


def test_a_match_in_play_goes_on_when_the_database_is_away_as_the_server_starts(url, host, monkeypatch):
    """It is asked for again: a match that no server goes on with would keep its players from every other one."""
    unfinished, asked = Store.unfinished, []

    def away_at_first(store):
        asked.append(1)
        if len(asked) == 1:
            raise NoAnswer("the arena's database does not answer; try again in a moment")
        return unfinished(store)

    with running(url, host, monkeypatch) as arena:
        token = arena.register("ann")
        with arena.connection(token) as ann:
            ann.send(kind="queue", games=["tic_tac_toe"])
            ann.until("turn")
    monkeypatch.setattr(Store, "unfinished", away_at_first)
    with running(url, host, monkeypatch) as arena, arena.connection(token) as ann:
        assert ann.play()["ending"] == "finished"
    assert len(asked) == 2


def test_a_page_of_another_site_gets_no_socket(arena):
    """A browser sends that to anybody; a program names no origin."""
    token = arena.register("ann")
    with pytest.raises(InvalidStatus, match="403"), arena.connection(token, origin="https://elsewhere.example"):
        pass
    with arena.connection(token, origin=f"http://127.0.0.1:{arena.port}") as own:
        assert own.until("welcome")["name"] == "ann"


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"name": "<b>", "kind": "model"}, 400, "a name has 1 to 32 letters"),
        ({"name": "a\u202eb", "kind": "model"}, 400, "a name has 1 to 32 letters"),
        ({"name": "x" * 33}, 400, "a name has 1 to 32 letters"),
        ({"name": 7}, 400, "a name has 1 to 32 letters"),
        ({"name": "random", "kind": "person"}, 409, "is taken"),
        ({"name": "a", "kind": "house"}, 400, "kind is person, guest or model"),
        (b"no json", 400, "no JSON"),
        (b"[1]", 400, "a JSON object"),
        (b"x" * 20_000, 413, "at most 10,000 bytes"),
    ],
)
def test_a_registration_that_makes_no_sense_is_told_why(arena, body, status, reason):
    """One sentence, and nothing is kept."""
    assert (arena.ask("/api/players", body)[0], reason in arena.ask("/api/players", body)[1]) == (status, True)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("no json", "no JSON"), ("[]", "a JSON object"), ('{"kind": "dance"}', "unknown message 'dance'"),
        ('{"kind": "queue"}', "say which games"), ('{"kind": "queue", "games": ["chess"]}', "there is no game 'chess'"),
        ('{"kind": "move", "number": "0"}', "a move is"), ("x" * 30_000, "shorten it"),
    ],
)  # fmt: skip
def test_a_message_that_makes_no_sense_is_told_why(arena, message, reason):
    """And the connection stays."""
    with arena.connection(arena.register("ann")) as ann:
        ann.socket.send(message)
        assert reason in ann.until("error")["reason"]
        ann.send(kind="queue", games=["kuhn_poker"])
        assert ann.until("match")


def test_a_token_that_nobody_has_gets_no_seat(arena):
    """It is told so."""
    with arena.connection("guess") as nobody:
        assert "no player has this token" in nobody.until("error")["reason"]


def test_pages_answer(arena):
    """With what keeps the browser from loading or running anything else."""
    for path in ("/", "/play", "/leaderboard", "/leaderboard?game=kuhn_poker", "/games/kuhn_poker", "/api/games"):
        assert arena.ask(path)[0] == 200
    assert arena.ask("/games/none")[0] == arena.ask("/matches/7")[0] == arena.ask("/leaderboard?game=x")[0] == 404
    more_than_a_database_counts_to = 10**30
    for path in ("/matches", "/api/matches"):
        assert arena.ask(f"{path}/{more_than_a_database_counts_to}")[0] == 404
    assert arena.ask("/api/export?after=999999999999999") == (200, "")
    for no_letter in ("%00", "%ff", "%ed%a0%80"):
        assert arena.ask(f"/players/a{no_letter}")[0] == 404


def test_a_description_holds_what_a_database_takes(arena):
    """A NUL and half a character are replaced, and the player is there."""
    for name, description in (("ann", "a\0b"), ("bob", "\ud800")):
        assert arena.ask("/api/players", {"name": name, "description": description})[0] == 200
    assert [arena.store.player_by_name(name).description for name in ("ann", "bob")] == ["a\ufffdb", "?"]
