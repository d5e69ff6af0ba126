"""Guess the number, a game for one player: find a secret number in few guesses, each answered by where it lies.

The secret is drawn evenly from 1 to `numbers`. A wrong guess is answered by the range in which the secret then must
lie, and further guesses come from that range. The return is 1 for the first guess and falls evenly to -1 when
`guesses` guesses have missed: 1 - 2 * misses / guesses. The most that can be expected comes from bisection, always
guessing a middle of the range.
"""

import random
from collections.abc import Iterator

from spiral import IllegalMove, SpiralError
from spiral_games.skills import skills_of

MAX_NUMBERS = 1000


class GuessTheNumber:
    """Find a number from 1 to `numbers`; moves are numbers; the return is from -1 to 1, better for fewer guesses."""

    num_players = 1
    worst_return = -1.0
    skills = skills_of("guess_the_number")

    def __init__(self, numbers: int = 8, guesses: int = 4) -> None:
        if not 2 <= numbers <= MAX_NUMBERS or guesses < 1:
            raise SpiralError(
                f"guess_the_number got numbers={numbers}, guesses={guesses}; it needs 2 to {MAX_NUMBERS} numbers and "
                "1 guess or more."
            )
        self.numbers = numbers
        self.guesses = guesses
        self.rules = (
            f"Guess a secret number from 1 to {numbers}. You have {guesses} guesses; the fewer you need, the better. "
            "After a wrong guess you are told between which numbers the secret lies, and you guess one of those. The "
            "observation reads: the number of this guess, then the lowest and the highest number that the secret can "
            "be. Your move is a number."
        )

    def reset(self, rng: random.Random) -> None:
        self.reset_to(rng.randint(1, self.numbers))

    def deals(self) -> Iterator[tuple[float, int]]:
        """Each number, all equally likely."""
        return ((1 / self.numbers, secret) for secret in range(1, self.numbers + 1))

    def reset_to(self, deal: int) -> None:
        self._secret = deal
        self._low, self._high = 1, self.numbers  # the secret lies here, as far as the player knows
        self._misses = 0
        self._found = False

    def current_player(self) -> int | None:
        return None if self._found or self._misses == self.guesses else 0

    def observe(self, player: int) -> str:
        if self._found:
            return f"guess found {self._secret}"
        when = "over" if self._misses == self.guesses else f"{self._misses + 1}/{self.guesses}"
        return f"guess {when} {self._low}-{self._high}"

    def legal_moves(self) -> list[str]:
        return [] if self.current_player() is None else [str(n) for n in range(self._low, self._high + 1)]

    def play(self, move: str) -> None:
        if self.current_player() is None:
            raise IllegalMove("the match is over")
        if move not in self.legal_moves():
            raise IllegalMove(f"a move is a number from {self._low} to {self._high}")
        guess = int(move)
        if guess == self._secret:
            self._found = True
            return
        self._misses += 1
        if guess < self._secret:
            self._low = guess + 1
        else:
            self._high = guess - 1

    def returns(self) -> list[float]:
        """1 - 2 * misses / guesses: 1 if the first guess found it, -1 if none did."""
        return [1 - 2 * self._misses / self.guesses]

    def resample(self, player: int, rng: random.Random) -> None:
        """Draw the secret again from where it can lie."""
        if not self._found:
            self._secret = rng.randint(self._low, self._high)
