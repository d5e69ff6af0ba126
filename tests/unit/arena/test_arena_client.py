"""The Python client of the arena's own protocol, against a running arena."""

import random
import threading

import pytest
from websockets.sync import client as websockets_client

from spiral.api.errors import SpiralError
from spiral.api.policies import SaidMove
from spiral.arena import lobby
from spiral.arena_client import PLAYS, play, register


def url(arena):
    return f"http://127.0.0.1:{arena.port}"


def first(turn):
    return turn.legal_moves[0]


def test_a_player_is_a_function(arena):
    """A name, the games and what chooses are all that it takes; each match comes back as the leaderboard has it."""
    seen = []
    ended = play(url(arena), "ann", ["kuhn_poker", "tic_tac_toe"], lambda turn: seen.append(turn) or first(turn), 3)
    assert len(ended) == 3
    assert all(one.ending == "finished" and one.players[one.seat] == "ann" for one in ended)
    assert {turn.game for turn in seen} == {one.game for one in ended}
    assert all(turn.number >= 0 and turn.observation and turn.clock_s > 0 for turn in seen)
    (row,) = [one for one in arena.store.leaderboard() if one.player.name == "ann"]
    assert ended[-1].ratings[""] == (row.rating.mu, row.rating.sigma)
    assert row.matches == 3


def test_two_clients_play_each_other(arena):
    """Over the threads of one process; what one wins the other loses."""
    results = {}

    def run(name):
        results[name] = play(url(arena), name, ["kuhn_poker"], lambda turn: random.choice(turn.legal_moves), 1)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("ann", "bob")]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    (ann,), (bob,) = results["ann"], results["bob"]
    assert ann.match == bob.match or {*ann.players, *bob.players} >= {"ann", "bob", "random"}
    if ann.match == bob.match:
        assert ann.returns == bob.returns
        assert {ann.outcome, bob.outcome} == {"win", "loss"}


def test_a_player_with_a_token_stays_the_same(arena):
    """Its name is taken for others, and its rating goes on."""
    token = register(url(arena), "ann")
    play(url(arena), token, ["kuhn_poker"], first, 1)
    play(url(arena), token, ["kuhn_poker"], first, 1)
    (row,) = [one for one in arena.store.leaderboard() if one.player.name == "ann"]
    assert row.matches == 2
    with pytest.raises(SpiralError, match="does not register 'ann'.*is taken"):
        play(url(arena), "ann", ["kuhn_poker"], first, 1)


def test_a_lost_connection_is_made_again(arena, monkeypatch):
    """In the middle of a match, which goes on; no turn is lost and none is answered twice."""
    sockets, connect = [], websockets_client.connect
    monkeypatch.setattr(websockets_client, "connect", lambda address: sockets.append(connect(address)) or sockets[-1])

    def choose(turn):
        if turn.number <= 1 and len(sockets) == 1:
            sockets[-1].socket.close()  # without a goodbye, as a network does
        return first(turn)

    (match,) = play(url(arena), "ann", ["tic_tac_toe"], choose, 1)
    assert match.ending == "finished"
    assert len(sockets) == 2
    moves = arena.store.match(match.match).moves
    assert all(move.legal for move in moves)


def test_a_second_connection_with_the_token_ends_the_call(arena):
    """They would take each other's place for ever; one that was only too slow is made again."""
    token = register(url(arena), "ann")

    def choose(turn):
        with arena.connection(token) as other:
            other.until("turn")
        return first(turn)

    with pytest.raises(SpiralError, match="another connection plays with the same token"):
        play(url(arena), token, ["tic_tac_toe"], choose, 1)
    assert lobby.PLAYS.startswith(PLAYS)  # said to one whose match begins as it queues again: no reason to end


def test_an_illegal_move_is_told_with_the_reason(arena):
    """And the turn is asked again."""
    reasons = []

    def choose(turn):
        reasons.append(turn.refused)
        return "no such square" if len(reasons) == 1 else first(turn)

    (match,) = play(url(arena), "ann", ["tic_tac_toe"], choose, 1)
    assert match.ending == "finished"
    assert reasons[0] == ""
    assert "one digit from 0 to 8" in reasons[1]
    assert not any(reasons[2:])


def test_what_a_model_wrote_is_kept_with_its_move(arena):
    """As `SaidMove` carries it."""
    (match,) = play(url(arena), "ann", ["kuhn_poker"], lambda turn: SaidMove(first(turn), "I think."), 1)
    own = [one for one in arena.store.match(match.match).moves if one.seat == match.seat]
    assert [one.said for one in own] == ["I think."] * len(own)


def test_what_choose_raises_gives_the_match_up(arena):
    """The opponent has won, at once and not when the clock has run out."""
    numbers = []

    def choose(turn):
        numbers.append(turn.match)
        raise ValueError("no idea")

    with pytest.raises(ValueError, match="no idea"):
        play(url(arena), "ann", ["tic_tac_toe"], choose, 1)
    for _ in range(200):
        if arena.store.match(numbers[0]).status != "playing":
            break
        threading.Event().wait(0.05)
    assert arena.store.match(numbers[0]).ending == "left"


@pytest.mark.parametrize(
    ("token", "games", "reason"),
    [("x" * 32, ["kuhn_poker"], "no player has this token"), ("ann", ["chess"], "there is no game 'chess'")],
)
def test_what_the_arena_refuses_is_told(arena, token, games, reason):
    """In its own words, and the call ends."""
    with pytest.raises(SpiralError, match=reason):
        play(url(arena), token, games, first, 1)


def test_an_address_without_an_arena_is_told(monkeypatch):
    """At registration at once, in a match after a while."""
    with pytest.raises(SpiralError, match="no arena answers"):
        play("http://127.0.0.1:9", "ann", ["kuhn_poker"], first)
    monkeypatch.setattr("spiral.arena_client.PATIENCE_S", 0.1)
    with pytest.raises(SpiralError, match="no arena answers"):
        play("http://127.0.0.1:9", "x" * 32, ["kuhn_poker"], first)
