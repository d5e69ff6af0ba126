"""A replay: what each seat saw, computed again in the game's process from seed and moves."""

import pytest

from spiral.api.games import IllegalMove
from spiral.arena.game_process import GameFault
from spiral.arena.records import Move
from spiral.arena.replay import news, replayed


def test_a_replay_holds_what_each_seat_saw_before_each_move(host):
    """Kuhn poker from a seed: the mover's own card, the other's where it differs, and both at the end. An illegal move
    stands where it was made, and changes nothing."""
    moves = [Move(0, "bet", "I bet", True), Move(1, "raise", "", False), Move(1, "call", "", True)]
    replay = replayed(host, "kuhn_poker", 3, moves)
    view = host.open(901, "kuhn_poker", 3)
    host.close_match(901)
    first, refused, last = replay.turns
    assert first.observation == view.observations[0]
    assert first.others == ((1, view.observations[1]),)
    assert (refused.move.legal, refused.observation) == (False, last.observation)
    assert last.observation.startswith(view.observations[1])
    assert "bet" in last.observation
    assert [one.split()[1] for one in replay.last] == ["p0", "p1"]


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ("", "a\nb", "a\nb"),
        ("a\nb", "a\nb\nc", "c"),
        ("a\nb", "a\nx\nc", "x\nc"),
        ("a", "a", "a"),
        ("a b", "a b c", "a b c"),
    ],
)
def test_what_is_new_is_told_in_whole_lines(before, now, new):
    """Games that show all that was ever said are read once; a board on one line is shown whole."""
    assert news(before, now) == new


def test_a_sample_match_is_drawn_from_legal_moves(host):
    """The same for the same seed, and every one of its moves is taken again."""
    moves = host.sample("tic_tac_toe", 1, 4)
    assert len(moves) == 4
    assert moves == host.sample("tic_tac_toe", 1, 4)
    assert len(host.replay("tic_tac_toe", 1, moves)) == 5


def test_a_game_that_plays_otherwise_than_it_did_has_no_replay(host):
    """The page says so; matches in play go on."""
    before = host.open(902, "tic_tac_toe", 0)
    with pytest.raises(GameFault, match="does not take a move any more"):
        host.replay("tic_tac_toe", 0, ["4", "4"])
    with pytest.raises(IllegalMove):
        host.play(902, "9")
    assert host.play(902, "4").to_move != before.to_move
    host.close_match(902)
