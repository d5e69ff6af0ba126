"""What the pages tell of the past."""

from spiral.arena import match_log
from spiral.arena.history import History
from spiral.arena.records import HUMANITY, OVERALL


def _played(store, players, returns, ending="finished", game="kuhn_poker"):
    match = store.now(match_log.start_match, game, 1, [one.id for one in players])
    if returns is None:
        store.now(match_log.void_match, match, ending)
    else:
        store.now(match_log.finish_match, match, returns, ending)
    return match


def test_results_are_counted_by_opponent(store):
    """Wins, draws and losses against each; a voided match counts for nobody, guests count together."""
    ann, bob, one, two = (
        store.add_player(name, kind)[0]
        for name, kind in (("ann", "model"), ("bob", "model"), ("Guest 1", "guest"), ("Guest 2", "guest"))
    )
    for returns in ([1.0, -1.0], [0.0, 0.0], [-1.0, 1.0], [-1.0, 1.0], None):
        _played(store, (ann, bob), returns)
    _played(store, (one, ann), [-1.0, 1.0])
    _played(store, (ann, two), [1.0, -1.0])
    _played(store, (one, two), [1.0, -1.0])
    history = History(store)
    told = [(row.opponent, row.wins, row.draws, row.losses, row.score) for row in history.results(ann)]
    assert told == [("bob", 1, 1, 2, 0.375), (HUMANITY, 2, 0, 0, 1.0)]
    humanity = store.player_by_name(HUMANITY)
    assert [(row.opponent, row.wins, row.losses) for row in history.results(humanity)] == [("ann", 0, 2)]


def test_in_a_match_of_several_each_other_player_is_an_opponent(store):
    """The second of three beat one and lost to one."""
    three = [store.add_player(name, "model")[0] for name in "abc"]
    _played(store, three, [3.0, 2.0, 1.0])
    results = {row.opponent: (row.wins, row.losses) for row in History(store).results(three[1])}
    assert results == {"a": (0, 1), "c": (1, 0)}


def test_matches_that_ended_are_listed_newest_first(store):
    """By game and by player; one in play is in none of the lists."""
    ann, bob, eve = (store.add_player(name, "model")[0] for name in ("ann", "bob", "eve"))
    first = _played(store, (ann, bob), [1.0, -1.0])
    second = _played(store, (eve, bob), [0.0, 0.0], game="tic_tac_toe")
    third = _played(store, (ann, bob), None, "server")
    store.now(match_log.start_match, "kuhn_poker", 1, [ann.id, bob.id])
    history = History(store)
    assert [one.id for one in history.recent()] == [third, second, first]
    assert [one.id for one in history.recent("kuhn_poker")] == [third, first]
    assert [one.id for one in history.recent(player=eve)] == [second]
    assert history.latest("kuhn_poker") == first
    assert history.latest("chess") is None
    assert [one.outcome(1) for one in history.recent()] == ["voided", "draw", "loss"]


def test_a_players_ratings_are_those_of_the_leaderboard(store):
    """Over all games first; what was changed last is what is shown."""
    ann, bob = (store.add_player(name, "model")[0] for name in ("ann", "bob"))
    _played(store, (ann, bob), [1.0, -1.0])
    _played(store, (ann, bob), [1.0, -1.0], game="tic_tac_toe")
    rows = History(store).ratings(ann)
    assert [(row.game, row.matches) for row in rows] == [(OVERALL, 2), ("kuhn_poker", 1), ("tic_tac_toe", 1)]
    for row in rows:
        (standing,) = [one for one in store.leaderboard(row.game) if one.player.id == ann.id]
        assert standing.rating == row.rating
