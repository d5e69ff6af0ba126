"""The kit on all three plug-ins, and what each is for."""

import random

import pytest

pytest.importorskip("acme_nim", reason="acme-nim is not installed")

from acme_nim import MeanBaseline, Nim, NimExpert

from spiral import IllegalMove
from spiral.testing import check_bot, check_estimator, check_game, make_trajectory


@pytest.mark.parametrize("args", [{}, {"heaps": 1, "most": 12}, {"heaps": 4, "most": 5}])
def test_nim_keeps_its_promises(args):
    assert check_game(lambda: Nim(**args), num_matches=20) == []


def test_the_bot_and_the_estimator_keep_theirs():
    assert check_bot(NimExpert, {"nim": Nim}) == []
    assert check_estimator(MeanBaseline) == []


def test_the_expert_wins_whatever_can_be_won():
    """The first player wins unless the exclusive or of the heaps is 0: Bouton's theorem, on all 9 deals."""
    for _, deal in Nim().deals():
        for expert in (0, 1):
            game, rng = Nim(), random.Random(0)
            game.reset_to(deal)
            while (player := game.current_player()) is not None:
                game.play(NimExpert().choose(game, player, rng) if player == expert else rng.choice(game.legal_moves()))
            if (expert == 0) == (deal[0] != deal[1]):
                assert game.returns()[expert] == 1.0


def test_a_heap_that_is_not_there():
    game = Nim()
    game.reset_to((2, 1))
    with pytest.raises(IllegalMove, match="a1 a2 b1"):
        game.play("b2")


def test_the_baseline_by_hand():
    """Mean of 1 and -0.5: 0.25."""
    assert MeanBaseline()([make_trajectory(1.0), make_trajectory(-0.5)]) == [[0.75], [-0.75]]
