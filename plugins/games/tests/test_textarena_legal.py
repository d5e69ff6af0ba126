"""Lists of legal moves of TextArena's environments against the environments themselves, move by move."""

import copy
import functools
import random

import pytest
from spiral_games.textarena import TextArenaGame, environment_ids
from spiral_games.textarena import importing as upstream
from spiral_games.textarena import legal_moves as legal
from spiral_games.textarena.move_candidates import CANDIDATES

pytest.importorskip("textarena")

BOUNDED = {"LiarsDiceEnv", "IteratedTwoThirdsAverageEnv", "SnakeEnv", "SurroundEnv"}
"""Classes whose lists leave out moves that upstream takes: they are bounded by intent, or upstream kills for the rest."""
SKIPS = {"OthelloEnv": ["skip"]}


@functools.cache
def ids():
    """Class -> the first id that can be played."""
    found = {}
    for env_id in environment_ids():
        found.setdefault(upstream.registry()[env_id].entry_point.split(":")[1], env_id)
    return found


def takes(game, move):
    """Whether the bare environment takes a move, tried on a copy."""
    spare = copy.deepcopy(game)
    with spare._chance:
        spare._env.step(f"[{move}]")
    return spare._env.state.error_count == 0


def test_every_list_belongs_to_a_registered_class():
    assert set(legal.LISTERS) | set(legal.RESAMPLERS) | set(CANDIDATES) | legal.CAN_GIVE_UP <= set(ids())


@pytest.mark.parametrize("name", sorted(legal.LISTERS))
def test_a_list_is_exactly_what_the_environment_takes(name):
    """Every listed move is taken; moves listed elsewhere in the match, but not here, are refused."""
    rng = random.Random(0)
    pool: dict[str, None] = {}
    for seed in range(3):
        game = TextArenaGame(ids()[name])
        game.reset(random.Random(seed))
        for _ in range(25):
            moves = game.legal_moves()
            if not moves or moves == [legal.GIVE_UP]:
                break
            pool.update(dict.fromkeys(moves))
            assert all(takes(game, move) for move in rng.sample(moves, min(12, len(moves))))
            if name not in BOUNDED and moves != SKIPS.get(name):
                others = [move for move in pool if move not in moves]
                assert not [move for move in rng.sample(others, min(12, len(others))) if takes(game, move)]
            game.play(rng.choice(moves))


def test_bids_of_liars_dice_name_no_more_dice_than_there_are():
    game = TextArenaGame("LiarsDice-v0-small")
    game.reset(random.Random(0))
    assert "call" not in game.legal_moves()
    assert len(game.legal_moves()) == 6 * 6
    game.play("Bid 6 5")
    assert game.legal_moves() == ["call", "bid: 6, 6"]


@pytest.mark.parametrize("text", ["A4 B6 C10", "[a4, b6, c10]", "A4,B6,C10"])
def test_spelling_does_not_matter(text):
    game = TextArenaGame("ColonelBlotto-v0-small")
    game.reset(random.Random(0))
    assert len(game.legal_moves()) == 231  # 22 choose 2: 20 units on 3 fields
    game.play(text)
    assert game.current_player() == 1


def test_allocations_that_are_too_many_are_sampled_instead():
    game = TextArenaGame("ColonelBlotto-v0-extreme")
    game.reset(random.Random(0))
    assert game.legal_moves() is None
