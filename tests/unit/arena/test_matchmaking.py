"""Who plays whom: near ratings first, farther ones the longer a player waits, and nobody twice at once."""

import random

from spiral.api.policies import Rating
from spiral.arena.matchmaking import DISTANCE, REMATCH_S, Pairing, Queue, Waiting, seated

GAMES = {"two": 2, "three": 3, "one": 1}


def _queue(*waiting):
    queue = Queue(GAMES)
    for one in waiting:
        queue.join(one)
    return queue


def _waiting(player, mu=25.0, since=0.0, games=("two",), last=()):
    return Waiting(player, {game: Rating(mu) for game in games}, since, frozenset(last))


def test_the_nearest_of_those_that_wait_is_the_opponent():
    """The one who waits longest chooses."""
    queue = _queue(_waiting(1, 25, since=0), _waiting(2, 29, since=1), _waiting(3, 26, since=2))
    assert queue.pairings(3) == [Pairing("two", (1, 3))]
    assert len(queue) == 1


def test_a_distance_that_is_too_large_is_not_once_they_have_waited():
    """It widens by a point a second."""
    queue = _queue(_waiting(1, 20), _waiting(2, 20 + DISTANCE + 3))
    assert queue.pairings(2.9) == []
    assert queue.pairings(3.0) == [Pairing("two", (1, 2))]


def test_the_last_opponent_comes_again_only_after_a_while():
    """Whichever of the two remembers the other."""
    queue = _queue(_waiting(1), _waiting(2, last=[1]))
    assert queue.pairings(REMATCH_S - 1) == []
    queue.join(_waiting(3, since=REMATCH_S - 1))
    assert queue.pairings(REMATCH_S - 1) == [Pairing("two", (1, 3))]
    queue.join(_waiting(1, since=REMATCH_S - 1, last=[2]))
    assert queue.pairings(REMATCH_S) == [Pairing("two", (2, 1))]


def test_nobody_meets_itself_or_sits_in_two_matches():
    """Joining twice, and leaving and coming back, is one entry; it keeps the time that it waited."""
    queue = _queue(_waiting(1, since=0), _waiting(1, since=5))
    assert queue.pairings(100) == []
    queue.leave(1)
    queue.join(_waiting(1, since=6))
    queue.join(_waiting(2, since=7))
    assert queue.pairings(8) == [Pairing("two", (1, 2))]
    assert queue.pairings(8) == []
    queue.join(_waiting(3, since=0))
    queue.join(_waiting(3, since=50))
    assert [one.since for one in queue.longest(60, 55)] == [0]


def test_a_match_of_three_waits_for_three():
    """And players that would play several games take the one that can begin."""
    queue = _queue(_waiting(1, games=("three", "two")), _waiting(2, games=("three",)))
    assert queue.pairings(1) == []
    queue.join(_waiting(3, games=("three",)))
    assert queue.pairings(1) == [Pairing("three", (1, 2, 3))]


def test_every_player_gets_the_seat_it_had_less_often():
    """Over many matches of two, no seat is had more than once more often."""
    taken = {1: {}, 2: {}}
    for n in range(21):
        for seat, player in enumerate(seated([1, 2], taken, random.Random(n))):
            taken[player][seat] = taken[player].get(seat, 0) + 1
    assert all(abs(seats.get(0, 0) - seats.get(1, 0)) <= 1 for seats in taken.values())


def test_who_is_new_sits_by_chance():
    """Neither the first in the queue nor the lower number has a seat of its own."""
    assert {seated([1, 2], {}, random.Random(n)) for n in range(20)} == {(1, 2), (2, 1)}
