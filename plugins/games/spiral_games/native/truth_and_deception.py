"""Truth and deception: one player knows which of two statements is true, and talks the other into the wrong one.

Both players see two statements that differ in one word or two; exactly one is true, and the deceiver is told which.
They talk in turn, the deceiver first, `messages` messages in all. Then the guesser says 1 or 2: a right guess wins
for the guesser, a wrong one for the deceiver. After TruthAndDeception of TextArena and SPIRAL.

Chat is free text. It is shown to both as it was written, except that line breaks become spaces (a player cannot forge
a line of the observation) and only the first `max_chat` characters are kept, so an observation has at most
250 + messages * (max_chat + 5) characters.
"""

import random

from spiral import IllegalMove, SpiralError
from spiral_games.native.truth_and_deception_facts import FACT_PAIRS
from spiral_games.skills import skills_of

GUESSES = ("1", "2")
_CHAT = ("Hello.", "1 is true.", "2 is true.", "I am sure it is 1.", "I am sure it is 2.", "Which one?", "Why?")


class TruthAndDeception:
    """Talk, then guess which statement is true; moves are free text, then `1` or `2`; returns are +1 and -1."""

    num_players = 2
    zero_sum = True
    worst_return = -1.0
    skills = skills_of("truth_and_deception")

    def __init__(self, messages: int = 5, max_chat: int = 200, random_roles: bool = False) -> None:
        if messages < 1 or max_chat < 0:
            raise SpiralError(
                f"truth_and_deception got messages={messages}, max_chat={max_chat}; it needs messages >= 1 and "
                "max_chat >= 0."
            )
        self.messages = messages
        self.max_chat = max_chat
        self.random_roles = random_roles
        self.rules = (
            "Truth and deception for two players, a deceiver and a guesser. Both see two statements; exactly one is "
            "true, and only the deceiver is told which. The players talk in turn, the deceiver first, "
            f"{messages} messages in all; whatever you say is your move. Then the guesser says which statement is "
            "true: that move is 1 or 2. The guesser wins if the guess is right, else the deceiver wins. The "
            "observation reads: you, your role, the number of the move, the statements, then all that was said."
        )

    def reset(self, rng: random.Random) -> None:
        statement, right, wrong = rng.choice(FACT_PAIRS)
        self._true = rng.randrange(2)  # the place of the true statement
        words = (right, wrong) if self._true == 0 else (wrong, right)
        self._statements = "".join(f"\n{n}: {statement.format(word)}" for n, word in zip(GUESSES, words, strict=True))
        self._deceiver = rng.randrange(2) if self.random_roles else 0
        self._num_said = 0
        self._said = ""
        self._guess: int | None = None

    def current_player(self) -> int | None:
        if self._guess is not None:
            return None
        guessing = self._num_said == self.messages or self._num_said % 2 == 1
        return 1 - self._deceiver if guessing else self._deceiver

    def observe(self, player: int) -> str:
        role = "deceiver" if player == self._deceiver else "guesser"
        if self._guess is not None:
            when = f"over, {self._true + 1} is true"
        elif self._num_said == self.messages:
            when = "guess 1 or 2"
        else:
            when = f"{self._num_said + 1}/{self.messages}"
        secret = f", {self._true + 1} is true" if player == self._deceiver and self._guess is None else ""
        return f"truth p{player} {role} {when}{secret}{self._statements}{self._said}"

    def legal_moves(self) -> list[str] | None:
        """None while the players talk, since that is free text; then the two guesses."""
        if self._guess is not None:
            return []
        return list(GUESSES) if self._num_said == self.messages else None

    def sample_move(self, rng: random.Random) -> str:
        """A random guess, or something to say."""
        return rng.choice(GUESSES if self._num_said == self.messages else _CHAT)

    def play(self, move: str) -> None:
        player = self.current_player()
        if player is None:
            raise IllegalMove("the match is over")
        if self._num_said == self.messages:
            if move not in GUESSES:
                raise IllegalMove("the guess is 1 or 2")
            self._guess = GUESSES.index(move)
            self._said += f"\np{player}: {move}"
            return
        text = " ".join(move[: self.max_chat].splitlines()).strip()
        self._said += f"\np{player}:{' ' if text else ''}{text}"
        self._num_said += 1

    def returns(self) -> list[float]:
        if self._guess is None:
            return [0.0, 0.0]
        winner = 1 - self._deceiver if self._guess == self._true else self._deceiver
        return [1.0, -1.0] if winner == 0 else [-1.0, 1.0]

    def resample(self, player: int, rng: random.Random) -> None:
        """Draw anew which statement is said to be true, if `player` is still to guess; the deceiver knows all."""
        if self._guess is None and player != self._deceiver:
            self._true = rng.randrange(2)
