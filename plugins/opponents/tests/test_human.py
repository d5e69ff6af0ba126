"""A person at the terminal as a bot: shown what the player may know, asked again until the move is legal."""

import io
import random
import sys

import pytest
from spiral_games.native.kuhn_poker import KuhnPoker
from spiral_games.native.tic_tac_toe import TicTacToe
from spiral_opponents.bots.human import Human

from spiral import IllegalMove, SpiralError


def dealt(game, seed=0):
    game.reset(random.Random(seed))
    return game


def choose(monkeypatch, bot, game, typed, player=0):
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    return bot.choose(game, player, random.Random(0))


def test_a_person_sees_rules_observation_and_moves(monkeypatch, capsys):
    """The rules once, what the player may know each time, and the moves."""
    bot, game = Human(), dealt(KuhnPoker())
    assert choose(monkeypatch, bot, game, "bet\n") == "bet"
    shown = capsys.readouterr().out
    assert game.rules in shown
    assert game.observe(0) in shown
    assert ", ".join(game.legal_moves()) in shown
    assert "another match" not in shown
    choose(monkeypatch, bot, game, "check\n")
    shown = capsys.readouterr().out
    assert game.rules not in shown
    assert game.observe(0) in shown


def test_an_illegal_move_is_asked_again_and_changes_nothing(monkeypatch, capsys):
    """The game's reason is shown; the move that comes back is legal, and is not played yet."""
    game = dealt(TicTacToe())
    game.play("4")
    before = game.observe(1)
    assert choose(monkeypatch, Human(), game, "4\n\nhello\n  0 \n", player=1) == "0"
    shown = capsys.readouterr().out
    with pytest.raises(IllegalMove) as reason:
        game.play("4")
    assert f"not legal: {reason.value}" in shown
    assert shown.count("not legal") == 2
    assert game.observe(1) == before


@pytest.mark.parametrize("typed", ["", "nonsense\n"])
def test_the_end_of_the_input_is_a_sentence(monkeypatch, typed):
    with pytest.raises(SpiralError, match="human: the input ended"):
        choose(monkeypatch, Human(), dealt(KuhnPoker()), typed)


def test_a_change_of_match_is_said(monkeypatch, capsys):
    """Several matches may be in play at once."""
    bot = Human()
    for seed in (1, 2):
        choose(monkeypatch, bot, dealt(KuhnPoker(), seed), "bet\n")
    assert capsys.readouterr().out.count("another match") == 1


def test_words_of_others_do_not_steer_the_terminal(monkeypatch, capsys):
    """Rules and observations arrive as `spiral.printable` writes them; lines stay lines."""

    class Sneaky(KuhnPoker):
        def __init__(self):
            super().__init__()
            self.rules = "\x1b]0;mine\x07 rules"

        def observe(self, player):
            return "\x1b[2J\n" + super().observe(player)

    choose(monkeypatch, Human(), dealt(Sneaky()), "bet\n")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\\x1b]0;mine\\x07 rules" in shown
    assert "\\x1b[2J\n" in shown
