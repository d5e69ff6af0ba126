"""Redraws what one player does not know: finds another match that the player cannot tell from the present one.

Only the player's own information states and moves go in. A random search goes through everything else - chance and
the others' moves - and turns back where the player would have seen something different.
"""

import functools
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from spiral_games.openspiel.catalogue import Loaded

MAX_VISITED = 5_000
"""Positions that one search may visit."""
MAX_CHANCE_NODES = 12
"""Chance nodes of a match beyond which no search is tried: of 52 cards dealt one by one, it guesses none right."""
CHANCE = -1
"""OpenSpiel's number for chance as a player."""
NUM_TRIALS = 3
"""Random matches, or their first 40 decisions, on which a resampler is tried."""

Resampler = Callable[[Any, int, random.Random], Any]
"""(state, player, rng) -> a new state that `player` cannot tell from the first; raises Unresampled."""


class Unresampled(Exception):
    """No other match was found within the limit."""


@functools.lru_cache(maxsize=256)
def resampler(loaded: Loaded) -> Resampler | None:
    """The resampler of this game, tried on a few matches; None where none is quick enough.

    For games of simultaneous choices `chosen_at_once`, else `search`. OpenSpiel's own
    `resample_from_infostate` is not used: in 2.0 that of colored_trails returns the true state, so that a search would
    peek, and that of hearts can return a state without a legal move.
    """
    if loaded.turned:
        return chosen_at_once
    quick = loaded.game.max_chance_nodes_in_history() <= MAX_CHANCE_NODES and _works(loaded, search)
    return search if quick else None


def _works(loaded: Loaded, resample: Resampler) -> bool:
    """Whether it finds a match at every decision tried."""
    rng = random.Random(0)
    for _ in range(NUM_TRIALS):
        state, decisions = loaded.game.new_initial_state(), 0
        while not state.is_terminal() and decisions < 40:
            if state.is_chance_node():
                state.apply_action(rng.choices(*zip(*state.chance_outcomes(), strict=True))[0])
                continue
            decisions += 1
            try:
                resample(state, decisions % loaded.num_players, rng)
            except Unresampled:
                return False
            state.apply_action(rng.choice(state.legal_actions()))
    return True


def search(state: Any, player: int, rng: random.Random) -> Any:
    """A new state with the same information state of `player`, the same past of it, and the same player to move.

    Chance is drawn by its probabilities and the others' moves uniformly, so far as that leads to the same sight.
    Raises Unresampled when the search takes too long.
    """
    sights, moves = _memory(state, player)
    mover, paid = state.current_player(), state.player_return(player) if state.is_terminal() else None
    # Depth-first with backtracking: an iterator of untried successors for each position on the way.
    branches: list[Iterator[_Place]] = [iter([_Place(state.get_game().new_initial_state(), 0, 0)])]
    for _ in range(MAX_VISITED):
        while branches and (place := next(branches[-1], None)) is None:
            branches.pop()
        if not branches or place is None:
            break
        at, seen, moved = place
        if not at.is_chance_node():
            sight = at.information_state_string(player)
            # The player's sight must stay as it is or become the next one remembered; at any other, turn back.
            if sight != sights[seen]:
                seen += 1
                if seen == len(sights) or sight != sights[seen]:
                    continue
            # All sights seen and all own moves made is not enough: the others may still have moves to make before the
            # match stands where it does. A finished match must also have paid the player the same.
            arrived = (seen, moved, at.current_player()) == (len(sights) - 1, len(moves), mover)
            if arrived and (paid is None or at.player_return(player) == paid):
                return at
        branches.append(_next(_Place(at, seen, moved), player, moves, rng))
    raise Unresampled


class _Place(NamedTuple):
    """A position of the search."""

    state: Any
    seen: int
    """Index of the player's sight."""
    moved: int
    """How many moves of its own the player has made."""


def _memory(state: Any, player: int) -> tuple[list[str], list[tuple[int, int]]]:
    """All that the player ever saw, each information state once, and (index of the sight, action) of its moves."""
    sights: list[str] = []
    moves: list[tuple[int, int]] = []
    at = state.get_game().new_initial_state()
    for action in [*state.history(), None]:
        if not at.is_chance_node():
            sight = at.information_state_string(player)
            if sights[-1:] != [sight]:
                sights.append(sight)
            if at.current_player() == player and action is not None:
                moves.append((len(sights) - 1, action))
        if action is not None:
            at.apply_action(action)
    return sights, moves


def _next(place: _Place, player: int, moves: list[tuple[int, int]], rng: random.Random) -> Iterator[_Place]:
    """The successors that agree with the player's own moves, in the order in which they are tried."""
    at, seen, moved = place
    if at.is_terminal():
        return
    if at.current_player() == player:
        if moved < len(moves) and moves[moved][0] == seen:
            yield _Place(at.child(moves[moved][1]), seen, moved + 1)
        return
    for action in _order(at, rng):
        yield _Place(at.child(action), seen, moved)


def _order(at: Any, rng: random.Random) -> list[int]:
    """The actions of chance, or of another player, in random order."""
    if at.is_chance_node():
        weights = dict(at.chance_outcomes())
        # Sorting by u ** (1 / weight) draws by weight without replacement (Efraimidis and Spirakis 2006).
        return sorted(weights, key=lambda action: -(rng.random() ** (1 / max(weights[action], 1e-12))))
    actions: list[int] = at.legal_actions()
    rng.shuffle(actions)
    return actions


def chosen_at_once(state: Any, player: int, rng: random.Random) -> Any:
    """Other choices of the players who chose before `player` in this round, for games that hide nothing else."""
    # Within a round the players choose in the order of their numbers: a number that does not rise begins the next one.
    history, at, start, last = state.history(), state.get_game().new_initial_state(), 0, -1
    for number, action in enumerate(history):
        if at.current_player() <= last or at.is_chance_node():
            start = number
        last = at.current_player()
        at.apply_action(action)
    if state.is_terminal() or state.current_player() <= last:
        return state.clone()
    at = state.get_game().new_initial_state()
    for number, action in enumerate(history):
        redrawn = number >= start and at.current_player() not in (player, CHANCE)
        at.apply_action(rng.choice(at.legal_actions()) if redrawn else action)
    return at
