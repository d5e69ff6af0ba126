"""TextArena's environments: seeds, copies, and that nothing reaches the network, the terminal or the process's generators."""

import copy
import os
import pickle
import random
import socket
import subprocess
import sys

import pytest
from spiral_games.textarena import TextArenaGame

pytest.importorskip("textarena")

ONE_OF_EACH_KIND = [
    "TicTacToe-v0",
    "KuhnPoker-v0",
    "Snake-v0",
    "GuessTheNumber-v0",
    "ThreePlayerGOPS-v0",
    "LiarsDice-v0-small",
    "SimpleNegotiation-v0",
    "TwoDollar-v0",
    "Countdown-v0",
    "Poker-v0",
    "SecretMafia-v0",
    "PigDice-v0-short",
]


def begun(env, seed=0, **args):
    game = TextArenaGame(env, **args)
    game.reset(random.Random(seed))
    return game


def played(game, seed, limit=60):
    """Random legal moves to the end, at most `limit`; the moves made."""
    rng, moves = random.Random(seed), []
    while game.current_player() is not None and len(moves) < limit:
        moves.append(game.sample_move(rng))
        game.play(moves[-1])
    return moves


def seen(game):
    return [game.observe(player) for player in range(game.num_players)], game.current_player()


# --- chance -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", ONE_OF_EACH_KIND)
def test_interleaved_matches_go_as_they_go_alone_and_the_process_generators_rest(env):
    import numpy

    alone = []
    for seed in (1, 2):
        game = begun(env, seed)
        alone.append((played(game, seed, 20), seen(game)))
    before = random.getstate(), numpy.random.get_state()[1].tolist()
    games = [begun(env, seed) for seed in (1, 2)]
    rngs = [random.Random(seed) for seed in (1, 2)]
    moves = [[], []]
    for _ in range(20):
        for game, rng, made in zip(games, rngs, moves, strict=True):
            if game.current_player() is not None:
                made.append(game.sample_move(rng))
                game.play(made[-1])
    assert [(made, seen(game)) for made, game in zip(moves, games, strict=True)] == alone
    assert (random.getstate(), numpy.random.get_state()[1].tolist()) == before


@pytest.mark.parametrize("env", ONE_OF_EACH_KIND)
def test_copies_and_pickles_go_on_alike_and_apart(env):
    game = begun(env, 4)
    played(game, 4, 5)
    copied, pickled = copy.deepcopy(game), pickle.loads(pickle.dumps(game))
    expected = played(game, 9, 15), seen(game)
    assert (played(copied, 9, 15), seen(copied)) == expected
    assert (played(pickled, 9, 15), seen(pickled)) == expected


def test_numpys_generator_is_the_matchs_own():
    """Spelling bee draws its letters with numpy, which its seed does not reach upstream."""
    first = begun("SpellingBee-v0", 1).observe(0)
    assert begun("SpellingBee-v0", 1).observe(0) == first
    assert begun("SpellingBee-v0", 2).observe(0) != first


# --- quiet, offline ---------------------------------------------------------------------------------------------------


def test_word_games_play_without_a_network_and_share_one_dictionary(monkeypatch):
    def refuse(*args):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    import nltk

    download = nltk.download
    for env in ("WordChains-v0", "Wordle-v0", "Hangman-v0"):
        played(begun(env, 1), 1, 4)
    assert nltk.download is download
    one, two = begun("WordChains-v0", 1), begun("Wordle-v0", 1)
    assert copy.deepcopy(one)._env.dictionary is one._env.dictionary
    assert one._env.dictionary.us_words is two._env.dictionary.us_words
    assert len(pickle.dumps(begun("SpellingBee-v0"))) < 50_000


def test_nothing_is_printed(capfd):
    played(begun("SettlersOfCatan-v0"), 0, 3)
    played(begun("NewRecruit-v0"), 0, 3)
    assert capfd.readouterr() == ("", "")


def test_listing_the_environments_imports_nothing_of_textarena():
    code = (
        "import sys, spiral_games, spiral_games.textarena as t; assert len(t.environment_ids()) > 150; "
        "assert not {'textarena', 'nltk', 'numpy'} & set(sys.modules), 'imported'"
    )
    environment = {**os.environ, "SPIRAL_PLUGINS": "none"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
