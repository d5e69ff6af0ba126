"""Mends of environments for one player."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any


def bandit_pays_for_the_best_button(env: Any, as_shipped: Callable[[str], float], button: str) -> float:
    """The right answer is not recognised and the regret is paid, so that the worst button pays most (line 44)."""
    regret = as_shipped(button)
    return 1.0 if regret == 0 else -regret


def set_takes_three_cards(env: Any, as_shipped: Callable[[str], Any], action: str) -> Any:
    """One card named three times is a Set, and scores at every turn (line 118)."""
    cards = as_shipped(action)
    return cards if cards and len(set(cards)) == len(cards) else None


def fifteen_puzzle_can_be_won(env: Any, as_shipped: Callable[[], bool]) -> bool:
    """The last move raises AttributeError instead of paying 1 (line 84)."""
    if as_shipped():
        env.state.set_outcome(reward=1.0, reason="The puzzle is solved.")
    return False  # true would lead to the line that raises


def fifteen_puzzle_can_be_solved(env: Any, as_shipped: Callable[[], list[list[Any]]]) -> list[list[Any]]:
    """Half of the deals cannot be solved (line 50)."""
    tiles = [tile for row in as_shipped() for tile in row]
    gap = tiles.index(None)
    numbers = [tile for tile in tiles if tile is not None]
    inversions = sum(a > b for a, b in itertools.combinations(numbers, 2))
    # With the gap at home in the last row, a deal can be solved if inversions and rows below the gap add up to even.
    if (inversions + 3 - gap // 4) % 2:
        first, second = [place for place in range(3) if place != gap][:2]
        tiles[first], tiles[second] = tiles[second], tiles[first]
    return [tiles[i : i + 4] for i in range(0, 16, 4)]


def hangman_counts_wrong_words(env: Any, as_shipped: Callable[[str], Any], action: str) -> Any:
    """A wrong word costs no try, so that words can be guessed for ever (line 72)."""
    guess = re.search(r"\[([a-zA-Z]+)\]", action)
    state = env.state.game_state
    if guess and len(guess[1]) > 1 and guess[1].upper() != state["target_word"].upper():
        state["tries_left"] -= 1
    return as_shipped(action)


def lights_out_pays_no_less_than_nothing(env: Any, as_shipped: Callable[[], float]) -> float:
    """A grid left with more lights than it had pays below 0, and less than an illegal move costs (line 70)."""
    return max(0.0, as_shipped())


MENDS: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "BanditEnv": {"_regret": bandit_pays_for_the_best_button},
    "SetEnv": {"_parse_action": set_takes_three_cards},
    "FifteenPuzzleEnv": {"_is_solved": fifteen_puzzle_can_be_won, "_generate_board": fifteen_puzzle_can_be_solved},
    "HangmanEnv": {"step": hangman_counts_wrong_words},
    "LightsOutEnv": {"_get_percentage_completion": lights_out_pays_no_less_than_nothing},
}
