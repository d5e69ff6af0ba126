"""Pig, a race with a die: roll on and risk the turn, or hold and keep it.

At a turn a player rolls as often as it likes. A roll of 2 or more adds to the turn's total; a 1 loses that total and
ends the turn; `hold` adds the total to the player's score and ends the turn. The first player with `target` points,
score and turn's total together, wins at once: holding then is the only sensible move. Play ends after `turns` turns of
both players together, with a win for the higher score or a draw.

The one decision is how much to risk, which T. Neller and C. Presser ("Optimal Play of the Dice Game Pig", The UMAP
Journal 25, 2004) solved: it depends on both scores, not on the turn's total alone.
"""

import random

from spiral import IllegalMove, SpiralError
from spiral_games.skills import skills_of

MOVES = ("roll", "hold")
FACES = 6


class PigDice:
    """Pig to `target` points; moves are `roll` and `hold`; returns are +1, -1 or 0."""

    num_players = 2
    zero_sum = True
    perfect_information = True
    worst_return = -1.0
    skills = skills_of("pig_dice")

    def __init__(self, target: int = 40, turns: int = 40) -> None:
        if target < 2 or turns < 2:
            raise SpiralError(f"pig_dice got target={target}, turns={turns}; it needs 2 or more of both.")
        self.target = target
        self.turns = turns
        self.rules = (
            "Pig for two players, p0 and p1, who take turns, p0 first. In your turn say roll or hold. Roll throws a "
            "die: 2 to 6 is added to the total of your turn; with 1 you lose that total and your turn ends. Hold adds "
            f"the total to your score and ends your turn. The first player who has {target} points, score and turn "
            f"together, wins. After {turns} turns of both players together the higher score wins. The observation "
            "reads: you, your score, the other's score, + the total of the turn, the number of the turn. Your move is "
            "one word: roll or hold."
        )

    def reset(self, rng: random.Random) -> None:
        self._rng = rng  # dice fall in play
        self._scores = (0, 0)
        self._total = 0  # of this turn
        self._turn = 0  # turns that have ended

    def current_player(self) -> int | None:
        return None if self._is_over() else self._turn % 2

    def observe(self, player: int) -> str:
        when = "over" if self._is_over() else f"+{self._total} {self._turn + 1}/{self.turns}"
        return f"pig p{player} {self._scores[player]} {self._scores[1 - player]} {when}"

    def legal_moves(self) -> list[str]:
        return [] if self._is_over() else list(MOVES)

    def play(self, move: str) -> None:
        if self._is_over():
            raise IllegalMove("the match is over")
        if move not in MOVES:
            raise IllegalMove("a move is roll or hold")
        if move == "hold":
            self._end_turn(self._total)
            return
        face = self._rng.randint(1, FACES)
        if face == 1:
            self._end_turn(0)
            return
        self._total += face
        if self._scores[self._turn % 2] + self._total >= self.target:
            self._end_turn(self._total)

    def returns(self) -> list[float]:
        """+1 for the higher score at the end, -1 for the other; 0 for equal scores and while the match is on."""
        first, second = self._scores
        if first == second or not self._is_over():
            return [0.0, 0.0]
        return [1.0, -1.0] if first > second else [-1.0, 1.0]

    def resample(self, player: int, rng: random.Random) -> None:
        """Nothing is hidden but how the dice will fall."""
        self._rng = random.Random(rng.getrandbits(64))

    def _is_over(self) -> bool:
        return max(self._scores) >= self.target or self._turn == self.turns

    def _end_turn(self, points: int) -> None:
        first, second = self._scores
        self._scores = (first + points, second) if self._turn % 2 == 0 else (first, second + points)
        self._total = 0
        self._turn += 1
