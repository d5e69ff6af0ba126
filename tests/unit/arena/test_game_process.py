"""Games in processes of their own: what one match does, no other feels."""

import pytest

from spiral.api.games import IllegalMove
from spiral.arena.game_process import GameFault, GameHost
from spiral.arena.game_worker import installed
from spiral.config.schema import PluginConfig
from spiral.testing.faults import faulty_games


@pytest.fixture(scope="module")
def faulty():
    host = GameHost(faulty_games, limit_s=2.0)
    yield host
    host.close()


@pytest.mark.parametrize(
    ("move", "cause"),
    [("raise", "ZeroDivisionError: as it was told"), ("hang", "no answer within 2 s"), ("exit", "its process ended")],
)
def test_a_game_that_fails_ends_its_own_match(faulty, move, cause):
    """Another match of the same process goes on where it was."""
    faulty.open(1, "faulty", 0)
    faulty.open(2, "faulty", 0)
    faulty.play(2, "pass")
    with pytest.raises(GameFault, match=cause):
        faulty.play(1, move)
    view = faulty.play(2, "pass")
    assert (view.to_move, view.observations) == (0, ("player 0: 2 moves", "player 1: 2 moves"))
    assert faulty.play(2, "pass").returns is None
    assert faulty.play(2, "pass").returns == (1.0, -1.0)


def test_an_illegal_move_changes_nothing(faulty):
    """Its reason is the game's own."""
    view = faulty.open(3, "faulty", 0)
    with pytest.raises(IllegalMove, match="fly is not pass"):
        faulty.play(3, "fly")
    assert faulty.play(3, "pass").to_move == 1
    assert view.legal_moves == ("pass",)


def test_a_match_goes_on_after_its_moves_so_far(faulty):
    """As a server does that was killed."""
    assert faulty.open(4, "faulty", 0, ["pass", "pass"]).observations[0] == "player 0: 2 moves"
    assert faulty.copy(4).current_player() == 0
    faulty.close_match(4)


def test_installed_games_are_played_from_their_seed():
    """The same seed deals the same cards, and each seat sees its own."""
    host = GameHost(installed([PluginConfig("kuhn_poker", {})]))
    try:
        first, again = (host.open(match, "kuhn_poker", 5) for match in (1, 2))
        assert first == again
        assert first.observations[0] != first.observations[1]
        assert first.worst_return < 0
    finally:
        host.close()
