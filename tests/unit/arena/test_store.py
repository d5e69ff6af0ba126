"""What the arena keeps: each match is rated exactly once, with the ratings as they are when it ends."""

import threading

import pytest

from spiral.api.errors import SpiralError
from spiral.api.policies import Rating
from spiral.arena import match_log
from spiral.arena.records import HUMANITY, OVERALL, Move
from spiral.arena.store import NameTaken, Store
from spiral.theory.ratings import rate


def _players(store, *names):
    return [store.add_player(name, "model")[0].id for name in names]


def test_a_match_moves_the_ratings_of_its_game_and_of_all_games(store):
    """By the same rule as everywhere: the winner's mu rises, both sigmas fall."""
    a, b = _players(store, "a", "b")
    match = store.now(match_log.start_match, "kuhn_poker", 7, [a, b])
    changes = store.now(match_log.finish_match, match, [1.0, -1.0], "finished")
    expected = rate([Rating(), Rating()], [1.0, -1.0])
    for game in ("kuhn_poker", OVERALL):
        assert [store.rating(a, game), store.rating(b, game)] == expected
    assert [(c.seat, c.game, c.after) for c in changes[:2]] == [
        (0, "kuhn_poker", expected[0]),
        (1, "kuhn_poker", expected[1]),
    ]
    assert store.rating(a, "tic_tac_toe") == Rating()


def test_a_match_that_ends_on_several_ways_at_once_is_rated_once(store):
    """A last move, a clock and two lost connections may all report the end."""
    a, b = _players(store, "a", "b")
    for _ in range(20):
        before = store.rating(a, "g")
        found = _ended_at_once(store, store.now(match_log.start_match, "g", 0, [a, b]))
        assert found[0] == found[1] == found[2]
        assert found[0][0].before == before
        assert store.rating(a, "g") == found[0][0].after


def _ended_at_once(store, match):
    found, endings = [], [([1.0, -1.0], "finished"), ([-1.0, 1.0], "timeout"), ([0.0, 0.0], "left")]
    threads = [
        threading.Thread(target=lambda end=end: found.append(store.now(match_log.finish_match, match, *end)))
        for end in endings
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_a_rating_counts_the_match_that_was_played_meanwhile(store):
    """A player begins two matches at 25, loses the first, then wins the second: the win is added to the loss."""
    a, b, c = _players(store, "a", "b", "c")
    first, second = store.now(match_log.start_match, "g", 0, [a, b]), store.now(match_log.start_match, "g", 0, [a, c])
    lost = store.now(match_log.finish_match, first, [-1.0, 1.0], "finished")
    won = store.now(match_log.finish_match, second, [1.0, -1.0], "finished")
    assert won[0].before == lost[0].after
    assert store.rating(a, "g") == rate([lost[0].after, Rating()], [1.0, -1.0])[0]


def test_the_ratings_are_those_of_the_matches_in_the_order_of_their_ends(store):
    """Computed again from the log, they come out the same."""
    numbers = _players(store, "a", "b", "c")
    begun = [store.now(match_log.start_match, "g", n, [numbers[n % 3], numbers[(n + 1) % 3]]) for n in range(12)]
    log = []
    for n in (5, 3, 11, 0, 1, 2, 10, 9, 8, 7, 6, 4):
        returns = [1.0, -1.0] if n % 2 else [0.0, 0.0]
        store.now(match_log.finish_match, begun[n], returns, "finished")
        log.append((numbers[n % 3], numbers[(n + 1) % 3], returns))
    again = {number: Rating() for number in numbers}
    for first, second, returns in log:
        again[first], again[second] = rate([again[first], again[second]], returns)
    assert {number: store.rating(number, "g") for number in numbers} == again


def test_guests_are_rated_together_and_never_against_each_other(store):
    """Two guests in one match are one entry twice, of which nothing is learnt."""
    (one, _), (other, _) = store.add_player("g1", "guest"), store.add_player("g2", "guest")
    (bot,) = _players(store, "bot")
    assert (
        store.now(
            match_log.finish_match,
            store.now(match_log.start_match, "g", 0, [one.id, other.id]),
            [1.0, -1.0],
            "finished",
        )
        == []
    )
    store.now(match_log.finish_match, store.now(match_log.start_match, "g", 0, [one.id, bot]), [1.0, -1.0], "finished")
    store.now(
        match_log.finish_match, store.now(match_log.start_match, "g", 0, [bot, other.id]), [-1.0, 1.0], "finished"
    )
    (first, _) = store.leaderboard("g")
    assert (first.player.name, first.matches) == (HUMANITY, 2)


def test_a_match_in_play_survives_the_server(store, database):
    """Another process finds it with its moves, and goes on."""
    a, b = _players(store, "a", "b")
    match = store.now(match_log.start_match, "tic_tac_toe", 3, [a, b])
    store.now(match_log.add_move, match, 0, Move(0, "4", "the middle: 4", True))
    store.now(match_log.add_move, match, 1, Move(1, "9", "", False))
    (found,) = Store(database).unfinished()
    assert (found.id, found.game, found.seed, [p.name for p in found.players]) == (match, "tic_tac_toe", 3, ["a", "b"])
    assert found.moves == (Move(0, "4", "the middle: 4", True), Move(1, "9", "", False))
    store.now(match_log.void_match, match, "server")
    assert Store(database).unfinished() == []
    assert store.leaderboard() == []


def test_a_token_is_known_to_its_holder_alone(store, database, tmp_path):
    """The file holds its hash, and a token that is nearly right is nobody's."""
    player, token = store.add_player("a", "person")
    assert store.player_by_token(token) == player
    assert store.player_by_token(token[:-1]) is None
    assert store.player_by_token("\ud800") is None
    database.close()
    assert token.encode() not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_name_belongs_to_one_player(store):
    """The second is told, and nothing of it is kept."""
    store.add_player("a", "person")
    with pytest.raises(NameTaken, match="the name 'a' is taken"):
        store.add_player("a", "model")
    with pytest.raises(NameTaken, match="name of a person"):
        store.house_player("a")
    assert store.house_player("bot") == store.house_player("bot")
    path = "model:" + "folder/" * 27
    assert store.house_player(path).name == path
    with pytest.raises(SpiralError, match="has a name of 223 characters, and 200 are kept"):
        store.house_player(path + "four" * 7)


def test_two_writers_that_read_first_both_succeed(database):
    """On SQLite a transaction that reads before it writes would fail at once when another one wrote meanwhile."""
    counter = Store(database)
    a, b = _players(counter, "a", "b")
    begun = [counter.now(match_log.start_match, "g", n, [a, b]) for n in range(40)]
    halves = [begun[::2], begun[1::2]]
    threads = [
        threading.Thread(
            target=lambda half=half: [counter.now(match_log.finish_match, m, [1.0, -1.0], "finished") for m in half]
        )
        for half in halves
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.leaderboard("g")[0].matches == 40


def test_seats_taken_are_counted_by_player_and_game(store):
    """So that the next match can give each player the seat that it had less often."""
    a, b = _players(store, "a", "b")
    for players in ([a, b], [a, b], [b, a]):
        store.now(match_log.start_match, "g", 0, players)
    store.now(match_log.start_match, "other", 0, [b, a])
    assert store.seats_taken("g", [a, b]) == {a: {0: 2, 1: 1}, b: {1: 2, 0: 1}}
