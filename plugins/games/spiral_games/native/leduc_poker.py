"""Leduc hold'em, the smallest poker with a public card: two betting rounds on a deck of six cards.

Rules (Southey, Bowling, Larson, Piccione, Burch, Billings and Rayner 2005, "Bayes' Bluff: Opponent Modelling in
Poker"): the deck has J, Q and K in two suits. Each player antes 1 chip and gets one card; after a first betting
round a public card is turned, and a second round follows. Player 0 acts first in both. A bet or raise adds 2
chips in the first round, 4 in the second, and a round has two of them at most. At the showdown a pair with the
public card wins, else the higher card; equal cards split the pot.

Suits decide nothing, so neither the deal nor any observation has them: 24 deals and 288 information states (936
where suits are told apart, as OpenSpiel does by default). With best play player 0 loses 0.0856 chips a game.
"""

import random
from collections.abc import Iterator
from itertools import product

from spiral import IllegalMove
from spiral_games.skills import skills_of

CARDS = "JQK"
DECK = CARDS * 2
BETS = (2, 4)
"""Chips that a bet or raise adds, in each round."""
MAX_RAISES = 2
"""Bets and raises of a round, both players together."""


class LeducPoker:
    """Leduc hold'em; moves are `fold`, `call` (a check where there is nothing to call), `raise`; returns are chips."""

    num_players = 2
    zero_sum = True
    worst_return = -13.0
    skills = skills_of("leduc_poker")
    rules = (
        "Leduc poker for two players, p0 and p1. The deck has six cards: two J (lowest), two Q, two K (highest). "
        "Each player puts 1 chip into the pot and gets one card that the other does not see. There are two rounds "
        "of betting, and p0 moves first in both. Before the second round one public card is turned up. Say call "
        "to match the other player's chips (with nothing to match that is a check), raise to match them and add 2 "
        "chips more in the first round or 4 in the second, or fold to give up the pot once the other has raised. "
        "A round has at most two raises and ends with a call by the second player or a call of a raise. At the "
        "end a card equal to the public card wins; else the higher card; equal cards split the pot. You win or "
        "lose chips. The observation reads: player, own card, moves of the first round by their first letters, "
        "then the public card and the moves of the second round. Your move is one word: fold, call or raise."
    )

    def reset(self, rng: random.Random) -> None:
        """Deal all three cards now: all chance lies in the deal, so the game can be enumerated."""
        self.reset_to("".join(rng.sample(DECK, 3)))

    def deals(self) -> Iterator[tuple[float, str]]:
        """The 24 deals such as "KQJ": player 0's card, player 1's, the public card. Suits are summed over."""
        for first, second, public in product(CARDS, repeat=3):
            ways = 2 * (2 - (second == first)) * (2 - (public == first) - (public == second))
            if ways:
                yield ways / 120, first + second + public

    def reset_to(self, deal: str) -> None:
        self._cards, self._public = deal[:2], deal[2]
        self._rounds = ("", "")  # the moves of each round by their first letters
        self._paid = (1, 1)
        self._raises = 0  # in this round
        self._player: int | None = 0
        self._second = False  # whether the second round has begun, which turns the public card
        self._folded: int | None = None

    def current_player(self) -> int | None:
        return self._player

    def observe(self, player: int) -> str:
        other = ""
        if self._player is None:
            other = "?" if self._folded is not None else self._cards[1 - player]
        first, second = self._rounds
        words = ["leduc", f"p{player}", self._cards[player] + other, first]
        if self._second:
            words += [self._public, second]
        return " ".join(word for word in words if word)

    def legal_moves(self) -> list[str]:
        if self._player is None:
            return []
        fold = ["fold"] if self._paid[0] != self._paid[1] else []
        return [*fold, "call", "raise"] if self._raises < MAX_RAISES else [*fold, "call"]

    def play(self, move: str) -> None:
        player, options = self._player, self.legal_moves()
        if player is None:
            raise IllegalMove("the match is over")
        if move not in options:
            raise IllegalMove(f"the moves now are {', '.join(options[:-1])} and {options[-1]}")
        first, second = self._rounds
        opening = not (second if self._second else first)
        self._rounds = (first, second + move[0]) if self._second else (first + move[0], second)
        if move == "fold":
            self._folded, self._player = player, None
            return
        self._player = 1 - player
        owed = max(self._paid)
        if move == "raise":
            self._raises += 1
            owed += BETS[self._second]
        self._paid = (owed, self._paid[1]) if player == 0 else (self._paid[0], owed)
        if move == "call" and not opening:
            self._end_round()

    def returns(self) -> list[float]:
        """Net chips: what the loser paid, from -13 to 13, 0 after a tie."""
        if self._player is not None:
            return [0.0, 0.0]
        winner = self._winner()
        if winner is None:
            return [0.0, 0.0]
        chips = float(self._paid[1 - winner])
        return [chips, -chips] if winner == 0 else [-chips, chips]

    def resample(self, player: int, rng: random.Random) -> None:
        """Redraw the other's card unless it was shown, and the public card unless it was turned."""
        shown = self._player is None and self._folded is None
        left = list(DECK)
        left.remove(self._cards[player])
        if self._second:
            left.remove(self._public)
        if shown:
            left.remove(self._cards[1 - player])
        drawn = rng.sample(left, 2)
        other = self._cards[1 - player] if shown else drawn[0]
        self._cards = self._cards[0] + other if player == 0 else other + self._cards[1]
        self._public = self._public if self._second else drawn[1]

    def _end_round(self) -> None:
        if self._second:
            self._player = None
        else:
            self._second, self._raises, self._player = True, 0, 0

    def _winner(self) -> int | None:
        if self._folded is not None:
            return 1 - self._folded
        if self._cards[0] == self._cards[1]:
            return None
        if self._public in self._cards:
            return self._cards.index(self._public)
        return 0 if CARDS.index(self._cards[0]) > CARDS.index(self._cards[1]) else 1
