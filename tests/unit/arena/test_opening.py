"""Which games an arena is opened with, and what the players of its house are asked with."""

import json

import pytest
import torch
from safetensors.torch import save_file
from spiral_games.textarena import environment_ids

from spiral.api.errors import SpiralError
from spiral.arena import opening
from spiral.arena.game_names import named_games
from spiral.arena.lobby import GameInfo
from spiral.arena.opening import _choosers, open_arena
from spiral.evaluation.loaded_policy import LoadedPolicy
from spiral.plugins.registry import Plugins
from spiral.policies.reference import PolicyRef


def test_a_pretrained_model_of_the_house_is_asked_as_everywhere(tmp_path, monkeypatch):
    """By the defaults that follow it: its chat template with the rules, for all games of the arena."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    save_file({"a": torch.zeros(1000, 1000)}, tmp_path / "model.safetensors")
    asked = []

    def opened(path, config):
        asked.append((path, config.prompt.name, [game.name for game in config.games]))
        raise SpiralError("enough")

    monkeypatch.setattr(LoadedPolicy, "of_model", opened)
    games = [GameInfo(name, 2, "") for name in ("kuhn_poker", "tic_tac_toe")]
    with pytest.raises(SpiralError, match="enough"):
        _choosers(PolicyRef("model", path=tmp_path), Plugins.installed(), games, None, print)
    assert asked == [(tmp_path, "chat", ["kuhn_poker", "tic_tac_toe"])]


@pytest.fixture(scope="module")
def plugins():
    return Plugins.installed()


def names(plugins, *words):
    return [one.game.name for one in named_games(plugins, words)]


def test_no_word_is_all_games_of_no_family(plugins):
    """As the pattern * is; the members of families are hundreds."""
    found = names(plugins)
    assert {"kuhn_poker", "tic_tac_toe"} <= set(found)
    assert not [name for name in found if "/" in name]
    assert found == names(plugins, "*")


def test_a_pattern_names_members_of_a_family(plugins):
    """Each once, whatever else names it too; a pattern of no family reaches into none."""
    assert names(plugins, "textarena/TicTacToe-v?") == ["textarena/TicTacToe-v0"]
    assert len(names(plugins, "textarena/*")) == len(environment_ids())
    assert names(plugins, "textarena/Poker-v0", "textarena/Poker-v0*")[:2] == [
        "textarena/Poker-v0",
        "textarena/Poker-v0-small",
    ]
    assert "leduc_poker" in names(plugins, "*poker*")
    assert not [name for name in names(plugins, "*poker*") if "/" in name]
    assert [one.game.args for one in named_games(plugins, ["kuhn_poker:rounds=5", "kuhn_poke*"])] == [{"rounds": 5}, {}]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("textarena/Chest*", "--games textarena/Chest* matches no game"),
        ("chest*", "families are named as 'FAMILY/*' (there are: openspiel, tasks, textarena)"),
        ("textarena", "is a family; name one of it, such as textarena/2048"),
        ("kuhn_poker:round=5", "its arguments are: rounds"),
    ],
)
def test_a_word_that_names_nothing_is_told(plugins, word, told):
    """In one sentence."""
    with pytest.raises(SpiralError) as error:
        named_games(plugins, [word])
    assert told in str(error.value)


def test_what_a_pattern_finds_and_is_unfit_is_left_out(tmp_path):
    """And told; by its own name it is an error."""
    told = []
    url = f"sqlite:///{tmp_path / 'arena.db'}"
    opened = open_arena(["textarena/TicTacToe-v0", "guess_the_n*"], ["random"], url, 60.0, 1, told.append)
    assert list(opened.lobby.games) == ["textarena/TicTacToe-v0"]
    assert "left out 1 that are for one player or cannot be started: guess_the_number" in told
    opened.close()
    with pytest.raises(SpiralError, match="guess_the_number is for one player"):
        open_arena(["tic_tac_toe", "guess_the_number"], ["random"], url, 60.0, 1, told.append)
    with pytest.raises(SpiralError, match="no game of two or more players is left"):
        open_arena(["guess_the_n*"], ["random"], url, 60.0, 1, told.append)


def test_a_bot_is_another_one_for_each_game(tmp_path):
    """One that remembers what it solved is full of a game that is too large for it, and would refuse the next."""
    url = f"sqlite:///{tmp_path / 'arena.db'}"
    opened = open_arena(["connect_four", "tic_tac_toe"], ["perfect"], url, 60.0, 1, print)
    assert opened.house == ["perfect (1)"]
    assert list(opened.lobby._house) == ["tic_tac_toe"]
    opened.close()


def test_a_search_that_is_too_large_is_not_waited_for(host, monkeypatch):
    """The bot does not play that game; what it would have chosen is not known."""

    class Thinks:
        def choose(self, game, player, rng):
            while True:
                rng.random()

    monkeypatch.setattr(opening, "TRIAL_S", 0.1)
    assert not opening._plays(Thinks(), host, "tic_tac_toe")
