"""Liar's dice for two to six players: bids on the dice of all players, of which each sees its own, until a challenge.

Each player rolls `dice` dice in secret. In turn, player 0 first, a player bids that at least so many of all
dice show a face (`2x5`: at least two fives), more than the last bid: a larger quantity, or the same quantity and a
higher face. No bid exceeds the number of dice. Instead of bidding a player may say `liar`: all dice are shown,
and the bidder loses if the bid does not hold, else the challenger does. Dice that show the face `wild` count as
every face (0: no wild face; OpenSpiel's liars_dice has `wild` equal to `faces`).

The challenge ends the match: the loser gets -1 and each other player 1 / (players - 1), which adds up to 0. The game
in which the loser only loses a die is `spiral_games.native.liars_dice_match`.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations_with_replacement, product

from spiral import IllegalMove, SpiralError
from spiral_games.skills import skills_of

Deal = tuple[str, ...]
"""What each player rolled, the lowest die first, such as ("36", "11"); a player without dice has ""."""

MAX_PLAYERS = 6
MAX_DICE = 5
_BID = re.compile(r"([1-9][0-9]?)x([1-9])")


class LiarsDice:
    """One round of liar's dice; moves are bids such as `2x5`, and `liar`; returns add up to 0."""

    zero_sum = True
    worst_return = -1.0
    skills = skills_of("liars_dice")

    def __init__(self, dice: int = 1, players: int = 2, faces: int = 6, wild: int = 0) -> None:
        if not (1 <= dice <= MAX_DICE and 2 <= players <= MAX_PLAYERS and 2 <= faces <= 9 and 0 <= wild <= faces):
            raise SpiralError(
                f"liars_dice got dice={dice}, players={players}, faces={faces}, wild={wild}; it needs 1 to {MAX_DICE} "
                f"dice, 2 to {MAX_PLAYERS} players, 2 to 9 faces, and as wild one of the faces or 0."
            )
        self.dice = dice
        self.num_players = players
        self.faces = faces
        self.wild = wild
        self.rules = "".join(
            (
                bidding_rules(dice, players, faces, wild),
                "That ends the match. The observation reads: you, your dice, the bids so far. ",
                "Your move is a bid or liar.",
            )
        )

    def reset(self, rng: random.Random) -> None:
        self.reset_to(tuple(roll(self.dice, self.faces, rng) for _ in range(self.num_players)))

    def deals(self) -> Iterator[tuple[float, Deal]]:
        """Every combination of hands, the orders of a hand's dice summed over: 36 for two dice of six faces."""
        hands = ["".join(hand) for hand in combinations_with_replacement(_sides(self.faces), self.dice)]
        total = self.faces ** (self.dice * self.num_players)
        for deal in product(hands, repeat=self.num_players):
            yield math.prod(map(_num_orders, deal)) / total, deal

    def reset_to(self, deal: Deal, opener: int = 0) -> None:
        """Start from these dice; `opener`, who has dice, bids first."""
        self._hands = deal
        self._player: int | None = opener
        self._bidder = opener  # of the last bid
        self._bids: tuple[str, ...] = ()
        self.loser: int | None = None
        """Who lost the challenge; None before it."""

    def current_player(self) -> int | None:
        return self._player

    def observe(self, player: int) -> str:
        return f"liar p{player} {self.visible(player)}"

    def visible(self, player: int) -> str:
        """The dice that `player` sees, its own or after a challenge all, and the moves."""
        hands = (self._hands[player],) if self.loser is None else self._hands
        moves = self._bids if self.loser is None else (*self._bids, "liar")
        return " ".join(["/".join(hand or "-" for hand in hands), *moves])

    def legal_moves(self) -> list[str]:
        """Every higher bid, lowest first, then `liar` if there is a bid to doubt."""
        if self._player is None:
            return []
        quantity, face = self._last_bid()
        same = [f"{quantity}x{higher}" for higher in range(face + 1, self.faces + 1)] if self._bids else []
        more = [f"{n}x{side}" for n in range(quantity + 1, self._total() + 1) for side in range(1, self.faces + 1)]
        return [*same, *more, "liar"] if self._bids else more

    def play(self, move: str) -> None:
        player = self._player
        if player is None:
            raise IllegalMove("the match is over")
        if move == "liar":
            if not self._bids:
                raise IllegalMove("there is no bid to doubt yet")
            self.loser = player if self._holds() else self._bidder
            self._player = None
            return
        self._check_bid(move)
        self._bids += (move,)
        self._bidder, self._player = player, self.after(player)

    def returns(self) -> list[float]:
        """-1 for the loser of the challenge, 1 / (players - 1) for each other; 0 before the challenge."""
        if self.loser is None:
            return [0.0] * self.num_players
        share = 1 / (self.num_players - 1)
        return [-1.0 if player == self.loser else share for player in range(self.num_players)]

    def resample(self, player: int, rng: random.Random) -> None:
        """Roll the dice of the others again, as long as they are hidden."""
        if self.loser is None:
            self._hands = tuple(
                hand if other == player else roll(len(hand), self.faces, rng) for other, hand in enumerate(self._hands)
            )

    def after(self, player: int) -> int:
        """The next player who has dice."""
        following = [(player + step) % self.num_players for step in range(1, self.num_players + 1)]
        return next(other for other in following if self._hands[other])

    def _total(self) -> int:
        return sum(map(len, self._hands))

    def _last_bid(self) -> tuple[int, int]:
        if not self._bids:
            return 0, 0
        quantity, face = self._bids[-1].split("x")
        return int(quantity), int(face)

    def _check_bid(self, move: str) -> None:
        """Raise IllegalMove unless `move` is a bid, higher than the last and no more than all dice."""
        read = _BID.fullmatch(move)
        if read is None or int(read[2]) > self.faces:
            raise IllegalMove(f"a move is liar, or a bid such as 1x2: a quantity, x, and a face from 1 to {self.faces}")
        bid = int(read[1]), int(read[2])
        if bid[0] > self._total():
            raise IllegalMove(f"there are only {self._total()} dice in play")
        if bid <= self._last_bid():
            raise IllegalMove(f"a bid must be higher than {self._bids[-1]}")

    def _holds(self) -> bool:
        quantity, face = self._last_bid()
        counted = {str(face), str(self.wild)}
        return sum(die in counted for die in "".join(self._hands)) >= quantity


def roll(dice: int, faces: int, rng: random.Random) -> str:
    """A hand, the lowest die first."""
    return "".join(sorted(rng.choices(_sides(faces), k=dice)))


def bidding_rules(dice: int, players: int, faces: int, wild: int) -> str:
    """The rules of a round, up to what the challenge leads to."""
    names = ", ".join(f"p{player}" for player in range(players))
    joker = f"A die that shows {wild} counts as every face. " if wild else ""
    return (
        f"Liar's dice for {players} players, {names}, who move in turn, p0 first. Each player secretly rolls "
        f"{'one die' if dice == 1 else f'{dice} dice'} with the faces 1 to {faces}. A bid such as 1x2 says that among "
        "all dice of all players at least 1 shows a 2. Each bid must have a larger quantity than the last bid, or the "
        f"same quantity and a higher face; no quantity is larger than the number of dice in play. {joker}Instead of "
        "bidding, say liar to doubt the last bid: the dice are shown; if the bid was true the doubter loses, else "
        "the bidder. "
    )


def _sides(faces: int) -> str:
    return "123456789"[:faces]


def _num_orders(hand: str) -> int:
    """In how many orders a sorted hand can be rolled."""
    return math.factorial(len(hand)) // math.prod(map(math.factorial, Counter(hand).values()))
