"""Legal moves of matrix games and guessing games, read off the environment's state."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MAX_ALLOCATIONS = 1000
"""With more ways to spread the troops the list would cost more than it helps."""


def rock_paper_scissors(env: Any) -> list[str]:
    return ["rock", "paper", "scissors"]


def pennies(env: Any) -> list[str]:
    return ["heads", "tails"]


def two_thirds(env: Any) -> list[str]:
    """Whole numbers of the range; the environment also reads decimals."""
    return [str(guess) for guess in range(math.ceil(env.min_guess), math.floor(env.max_guess) + 1)]


def chopsticks(env: Any) -> list[str]:
    """An attack of one living hand on another, or a split that changes the hands and keeps their sum."""
    player = env.state.current_player_id
    hands = env.state.game_state["hands"]
    own, other = hands[player], hands[1 - player]
    attacks = [f"attack {hand} {target}" for hand in (0, 1) for target in (0, 1) if own[hand] and other[target]]
    total = sum(own)
    return attacks + [f"split {left} {total - left}" for left in range(total + 1) if left != own[0]]


def guess_the_number(env: Any) -> list[str]:
    """Numbers not guessed yet."""
    return [str(n) for n in range(env.min_number, env.max_number + 1) if n not in env.guessed_numbers]


def bandit(env: Any) -> list[str]:
    return [str(button) for button in env.buttons]


def cups(env: Any) -> list[str]:
    return [str(cup) for cup in range(env.num_cups)]


def blotto(env: Any) -> list[str] | None:
    """Every way to spread the units over the fields, such as `A4 B2 C2`; None where there are too many ways."""
    units, fields = env.num_total_units, len(env.field_names)
    if math.comb(units + fields - 1, fields - 1) > MAX_ALLOCATIONS:
        return None
    return list(_allocations(units, tuple(env.field_names)))


@functools.cache
def _allocations(units: int, fields: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        " ".join(f"{name}{share}" for name, share in zip(fields, spread, strict=True))
        for spread in _spreads(units, len(fields))
    )


def _spreads(units: int, fields: int) -> Iterator[tuple[int, ...]]:
    for bars in itertools.combinations(range(units + fields - 1), fields - 1):
        ends = (-1, *bars, units + fields - 1)
        yield tuple(right - left - 1 for left, right in itertools.pairwise(ends))


LISTERS: Mapping[str, Callable[[Any], list[str] | None]] = {
    "IteratedRockPaperScissorsEnv": rock_paper_scissors,
    "IteratedMatchingPenniesEnv": pennies,
    "IteratedTwoThirdsAverageEnv": two_thirds,
    "ChopsticksEnv": chopsticks,
    "ColonelBlottoEnv": blotto,
    "GuessTheNumberEnv": guess_the_number,
    "BanditEnv": bandit,
    "ThreeCardMonteEnv": cups,
}
