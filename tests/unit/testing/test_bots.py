"""The checks of bots: good ones pass, and each deliberately wrong one is reported."""

import itertools
import random

import pytest

from spiral import IllegalMove, SpiralError
from spiral.testing import check_bot


def assert_reported(violations, *words):
    """One of the violations has all the words."""
    assert any(all(word in text for word in words) for text in violations), violations or "no violation was reported"


class Cards:
    """Two of four cards are dealt, and each player says low or high once."""

    num_players = 2
    rules = ""

    def deals(self):
        return [(1 / 12, deal) for deal in itertools.permutations(range(4), 2)]

    def reset(self, rng):
        self.reset_to(tuple(rng.sample(range(4), 2)))

    def reset_to(self, deal):
        self.deal, self.moves = deal, []

    def current_player(self):
        return None if len(self.moves) == 2 else len(self.moves)

    def observe(self, player):
        return f"p{player} {self.deal[player]} {self.moves}"

    def legal_moves(self):
        return ["low", "high"] if len(self.moves) < 2 else []

    def play(self, move):
        if move not in self.legal_moves():
            raise IllegalMove("say low or high")
        self.moves.append(move)

    def returns(self):
        return [0.0, 0.0]


class Redrawn(Cards):
    """No listed deals: what is hidden is known from `resample` alone."""

    deals = None

    def resample(self, player, rng):
        own = self.deal[player]
        other = rng.choice([card for card in range(4) if card != own])
        self.deal = (own, other) if player == 0 else (other, own)


class ReadsObservation:
    def choose(self, game, player, rng):
        return "high" if " 3 " in game.observe(player) else rng.choice(game.legal_moves())


class ReadsDeal:
    def choose(self, game, player, rng):
        return "high" if game.deal[player] > game.deal[1 - player] else "low"


class Illegal:
    def choose(self, game, player, rng):
        return "mumble"


class Number:
    def choose(self, game, player, rng):
        return 1


class GlobalGenerator:
    def choose(self, game, player, rng):
        return random.choice(game.legal_moves())


class CountsCalls:
    num_calls = 0

    def choose(self, game, player, rng):
        self.num_calls += 1
        return game.legal_moves()[self.num_calls % 2]


class ChangesGame:
    def choose(self, game, player, rng):
        game.deal = game.deal[::-1]
        return "low"


class ChangesGameOnce:
    """Gives the other player the lowest card, and again whenever it is asked."""

    def choose(self, game, player, rng):
        game.deal = tuple(card if p == player else -1 for p, card in enumerate(game.deal))
        return "low"


class Plays:
    def choose(self, game, player, rng):
        game.play("low")
        return "low"


class Breaks:
    def choose(self, game, player, rng):
        game.deal = ()
        return "low"


class Nothing:
    def choose(self, game, player, rng):
        pass


class Raises:
    def choose(self, game, player, rng):
        raise KeyError("strategy")


class RefusesLate:
    def choose(self, game, player, rng):
        if game.moves:
            raise SpiralError("I only know the opening.")
        return "low"


class RefusesAll:
    def choose(self, game, player, rng):
        raise SpiralError("I play chess only.")


@pytest.mark.parametrize("game", [Cards, Redrawn])
def test_a_good_bot_passes(game):
    assert check_bot(ReadsObservation, {"cards": game}) == []


@pytest.mark.parametrize(
    ("bot", "words"),
    [
        (ReadsDeal, ["cards: choose reads what observe(", "hides", "decide from observe("]),
        (Illegal, ["cards: choose returned the illegal move 'mumble' (say low or high); return one of"]),
        (Number, ["choose returned 1; return the move as a str"]),
        (GlobalGenerator, ["for one position and one state of rng", "draw from rng alone"]),
        (CountsCalls, ["remember nothing between calls"]),
        (ChangesGame, ["choose changes the game", "work on a copy.deepcopy"]),
        (ChangesGameOnce, ["choose changes the game: observe(", "work on a copy.deepcopy"]),
        (Plays, ["choose changes the game: current_player() is 1 in one and 0 in the other"]),
        (Breaks, ["choose changes the game: observe(0)", "raised IndexError"]),
        (Nothing, ["choose returned None; return the move as a str"]),
        (Raises, ["choose raised KeyError: 'strategy'"]),
        (RefusesLate, ["choose raised SpiralError: I only know the opening.", "at the first move of a game"]),
        (RefusesAll, ["plays none of the games tried: cards (I play chess only.)", "`tried_on`"]),
    ],
)
def test_the_violation_of_a_bot_is_reported(bot, words):
    for game in (Cards, Redrawn):
        assert_reported(check_bot(bot, {"cards": game}), *words)


def test_a_bot_may_refuse_a_game_but_not_all():
    class RefusesOne(ReadsObservation):
        def choose(self, game, player, rng):
            if isinstance(game, Redrawn):
                raise SpiralError("not this one")
            return super().choose(game, player, rng)

    assert check_bot(RefusesOne, {"cards": Cards, "other": Redrawn}) == []
    assert_reported(check_bot(RefusesOne, {"other": Redrawn}), "other (not this one)")
