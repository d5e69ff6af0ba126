"""Which player plays which group: oldest first, each counted once, whatever players come and go."""

from hypothesis import given, settings
from hypothesis import strategies as st

from spiral.cluster.dispatcher import Dispatcher, admitted
from spiral.cluster.orders import Ticket
from spiral.selfplay.draws import Draw


def _ticket(step, index, attempt=0, is_single=False):
    return Ticket(step, Draw(index, attempt, "kuhn", ("learner",), 7, 9), is_single=is_single)


def _made(num, *players, window=100):
    dispatcher = Dispatcher(window)
    for player in players:
        dispatcher.join(player)
    dispatcher.add(_ticket(0, index) for index in range(num))
    return dispatcher


def test_players_get_equal_parts_oldest_first():
    dispatcher = _made(7, "a", "b")
    assert [t.draw.index for t in dispatcher.take("a")] == [0, 1, 2, 3]
    assert [t.draw.index for t in dispatcher.take("b")] == [4, 5, 6]


def test_games_of_an_older_step_go_first():
    dispatcher = _made(0, "a")
    dispatcher.add([_ticket(2, 0), _ticket(1, 5), _ticket(1, 4)])
    assert [t.key for t in dispatcher.take("a")] == [(1, 4), (1, 5), (2, 0)]


def test_no_player_has_more_than_its_window():
    dispatcher = _made(10, "a", window=3)
    assert len(dispatcher.take("a")) == 3
    assert dispatcher.take("a") == []
    assert dispatcher.end("a", _ticket(0, 0))
    assert [t.draw.index for t in dispatcher.take("a")] == [3]


def test_a_group_counts_once_and_for_who_has_it():
    """Known failure (ray#44212 and others): work that is begun again is done twice. A report of a player that was
    thought lost does not count, nor does a second one, nor one of an older draw."""
    dispatcher = _made(1, "a", "b")
    [ticket] = dispatcher.take("a")
    assert dispatcher.leave("a") == [ticket]
    assert dispatcher.take("b") == [ticket]
    assert not dispatcher.end("a", ticket)
    assert not dispatcher.end("b", _ticket(0, 0, attempt=1))
    assert dispatcher.end("b", ticket)
    assert not dispatcher.end("b", ticket)
    assert dispatcher.num_open == 0


def test_what_one_player_alone_can_play_goes_to_the_one_that_is_there_longest():
    """By its own clock, so that all clients agree; to the next one when it is gone, also when it comes back."""
    dispatcher = Dispatcher(100)
    dispatcher.join("a", 5.0)
    dispatcher.join("b", 3.0)
    dispatcher.add(_ticket(0, index, is_single=index % 2 == 0) for index in range(6))
    assert [t.draw.index for t in dispatcher.take("a")] == [1, 3, 5]
    assert [t.draw.index for t in dispatcher.take("b")] == [0, 2, 4]
    dispatcher.leave("b")
    dispatcher.join("b", 9.0)
    assert dispatcher.take("b") == []
    assert [t.draw.index for t in dispatcher.take("a")] == [0, 2, 4]


def test_the_bound_admits_so_many_steps():
    assert [admitted(step, 2, 5) for step in range(5)] == [2, 3, 4, 4, 4]
    assert [admitted(step, 0, 5) for step in range(5)] == [0, 1, 2, 3, 4]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["join", "leave", "take", "end"]), st.integers(0, 3)), max_size=120))
def test_nothing_is_lost_and_nothing_twice(moves):
    """Players come, go, take and end at random; then those that are there finish: each group ended exactly once."""
    dispatcher, ended, held = _made(16, "p0", window=6), [], {f"p{n}": [] for n in range(4)}
    dispatcher.add(_ticket(0, index, is_single=True) for index in range(16, 20))
    for what, n in moves:
        player = f"p{n}"
        if what == "join":
            dispatcher.join(player)
        elif what == "leave":
            dispatcher.leave(player)
        elif what == "take" and player in dispatcher.players:
            held[player] += dispatcher.take(player)
        elif what == "end" and held[player]:
            ticket = held[player].pop(0)
            ended += [ticket.key] if dispatcher.end(player, ticket) else []
        assert dispatcher.num_open + len(ended) == 20
    dispatcher.join("last")
    for player in dispatcher.players:
        dispatcher.leave(player) if player != "last" else None
    while dispatcher.num_open:
        for ticket in dispatcher.take("last") or dispatcher.leases("last"):
            ended += [ticket.key] if dispatcher.end("last", ticket) else []
    assert sorted(ended) == [(0, index) for index in range(20)]
