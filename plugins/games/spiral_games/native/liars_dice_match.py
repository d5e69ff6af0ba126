"""Liar's dice for a match: the loser of a challenge loses a die, and the last player with dice wins.

A round is `spiral_games.native.liars_dice`, whose bids and challenges it keeps. After a challenge every player who has
dice rolls again, from the generator of `reset`; the loser opens the next round, or the next player with dice if the
loser has none left. This is SPIRAL's and TextArena's form of the game.
"""

import random

from spiral import IllegalMove
from spiral_games.native.liars_dice import LiarsDice, bidding_rules, roll
from spiral_games.skills import skills_of

_MATCH = (
    "The loser loses a die, all roll again, and the loser bids first (or the next player, if the loser has no dice "
    "left). The last player with dice wins. The observation reads: you, your dice, the dice that each player has, who "
    "bid first, the bids so far; then the last challenge: all dice, who bid first, the bids. Your move is a bid or "
    "liar."
)


class LiarsDiceMatch:
    """Liar's dice until one player has dice; moves are bids such as `2x5`, and `liar`; returns add up to 0."""

    zero_sum = True
    skills = skills_of("liars_dice_match")

    def __init__(self, dice: int = 5, players: int = 2, faces: int = 6, wild: int = 0) -> None:
        self._round = LiarsDice(dice, players, faces, wild)
        self.num_players = players
        self.worst_return = -1 / (players - 1)
        self.rules = bidding_rules(dice, players, faces, wild) + _MATCH

    def reset(self, rng: random.Random) -> None:
        self._rng = rng
        self._last = ""  # the last challenge, as all players saw it
        self._left = (self._round.dice,) * self.num_players  # dice of each player
        self._open(0)

    def current_player(self) -> int | None:
        return None if self._is_over() else self._round.current_player()

    def observe(self, player: int) -> str:
        counts = "/".join(map(str, self._left))
        if self._is_over():
            return f"liar p{player} {counts} over; last {self._last}"
        hand, *bids = self._round.visible(player).split()
        words = " ".join(["liar", f"p{player}", hand, counts, f"p{self._opener}", *bids])
        return f"{words}; last {self._last}" if self._last else words

    def legal_moves(self) -> list[str]:
        return [] if self._is_over() else self._round.legal_moves()

    def play(self, move: str) -> None:
        if self._is_over():
            raise IllegalMove("the match is over")
        self._round.play(move)
        loser = self._round.loser
        if loser is None:
            return
        hands, *moves = self._round.visible(loser).split()
        self._last = " ".join([hands, f"p{self._opener}", *moves])
        # Before the next round opens, since `after` reads the hands of the one that has just ended.
        following = self._round.after(loser)
        self._left = tuple(left - (player == loser) for player, left in enumerate(self._left))
        if not self._is_over():
            self._open(loser if self._left[loser] else following)

    def returns(self) -> list[float]:
        """1 for the last player with dice, -1 / (players - 1) for each other; 0 while the match is on."""
        if not self._is_over():
            return [0.0] * self.num_players
        return [1.0 if left else self.worst_return for left in self._left]

    def resample(self, player: int, rng: random.Random) -> None:
        """Roll the dice of the others again, and all that will be rolled later."""
        if not self._is_over():
            self._round.resample(player, rng)
            self._rng = random.Random(rng.getrandbits(64))

    def _is_over(self) -> bool:
        return sum(left > 0 for left in self._left) == 1

    def _open(self, opener: int) -> None:
        self._opener = opener
        self._round.reset_to(tuple(roll(left, self._round.faces, self._rng) for left in self._left), opener)
