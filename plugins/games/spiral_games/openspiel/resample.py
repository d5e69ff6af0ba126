"""Finds another match that one player cannot tell from the present one; it reads nothing that player does not see.

Only the player's own information states and moves go in. A random search goes through everything else - chance and
the others' moves - and turns back where the player would have seen something different.
"""

import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

from spiral_games.openspiel.loading import Loaded, pyspiel

MAX_VISITED = 2_000
"""Positions that one search may visit."""
MAX_CHANCE_NODES = 12
"""Chance nodes of a match beyond which no search is tried: of 52 cards dealt one by one, it guesses none right."""
CHANCE = -1
"""OpenSpiel's number for chance as a player."""
NUM_TRIALS = 3
"""Random matches, or their first 40 decisions, in which a way is tried."""

Resampler = Callable[[Any, int, random.Random], Any]
"""(state, player, rng) -> a new state that `player` cannot tell from the first; raises Unresampled."""


class Unresampled(Exception):
    """No other match was found within the limit."""


@functools.lru_cache(maxsize=256)
def resampler(loaded: Loaded) -> Resampler | None:
    """What redraws this game's hidden information quickly, tried on a few matches; None if nothing does.

    For games of choosing at once, other choices; else the search below where it is quick enough; else the game's own
    `resample_from_infostate`, if it has one and what comes out looks right.
    """
    if loaded.turned:
        return chosen_at_once
    ways = [search, inherited] if loaded.game.max_chance_nodes_in_history() <= MAX_CHANCE_NODES else [inherited]
    return next((how for how in ways if _works(loaded, how)), None)


def inherited(state: Any, player: int, rng: random.Random) -> Any:
    """OpenSpiel's own way for this game; a match that is over stays as it is, since nothing is left to decide.

    Raises Unresampled where there is none, or where the player would notice.
    """
    if state.is_terminal():
        return state.clone()
    try:
        other = state.resample_from_infostate(player, rng.random)
        same = other.information_state_string(player) == state.information_state_string(player)
    except pyspiel().SpielError as error:
        raise Unresampled from error
    if not same or other.current_player() != state.current_player():
        raise Unresampled
    return other


def search(state: Any, player: int, rng: random.Random) -> Any:
    """A new state with the same information state of `player` and the same player to move.

    Chance is drawn by its probabilities and the others' moves uniformly, so far as that leads to the same sight.
    Raises Unresampled when the search takes too long.
    """
    past = _past(state, player)
    mover, now = state.current_player(), state.information_state_string(player)
    paid = state.player_return(player) if state.is_terminal() else None
    branches: list[Iterator[tuple[Any, int]]] = [iter([(state.get_game().new_initial_state(), 0)])]
    for _ in range(MAX_VISITED):
        while branches and (found := next(branches[-1], None)) is None:
            branches.pop()
        if not branches or found is None:
            break
        at, moved = found
        same = moved == len(past) and at.current_player() == mover and at.information_state_string(player) == now
        if same and (paid is None or at.player_return(player) == paid):
            return at
        branches.append(_next(at, moved, player, past, rng))
    raise Unresampled


def chosen_at_once(state: Any, player: int, rng: random.Random) -> Any:
    """Other choices of those who chose before `player` in this round, for games that hide nothing else."""
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


def _works(loaded: Loaded, how: Resampler) -> bool:
    rng = random.Random(0)
    for _ in range(NUM_TRIALS):
        state, decisions = loaded.game.new_initial_state(), 0
        while not state.is_terminal() and decisions < 40:
            if state.is_chance_node():
                state.apply_action(rng.choices(*zip(*state.chance_outcomes(), strict=True))[0])
                continue
            decisions += 1
            try:
                how(state, decisions % loaded.num_players, rng)
            except Unresampled:
                return False
            state.apply_action(rng.choice(state.legal_actions()))
    return True


def _past(state: Any, player: int) -> list[tuple[str, int]]:
    """The player's information states and actions so far."""
    past = []
    at = state.get_game().new_initial_state()
    for action in state.history():
        if at.current_player() == player:
            past.append((at.information_state_string(player), action))
        at.apply_action(action)
    return past


def _next(
    at: Any, moved: int, player: int, past: list[tuple[str, int]], rng: random.Random
) -> Iterator[tuple[Any, int]]:
    """What may come next, the most favoured first; a player who would see something else has no next."""
    if at.is_terminal():
        return
    if at.current_player() == player:
        if moved < len(past) and past[moved][0] == at.information_state_string(player):
            yield at.child(past[moved][1]), moved + 1
        return
    for action in _order(at, rng):
        yield at.child(action), moved


def _order(at: Any, rng: random.Random) -> list[int]:
    """The actions of chance, or of another player, in random order."""
    if at.is_chance_node():
        weights = dict(at.chance_outcomes())
        # Sorting by u ** (1 / weight) draws by weight without replacement (Efraimidis and Spirakis 2006).
        return sorted(weights, key=lambda action: -(rng.random() ** (1 / max(weights[action], 1e-12))))
    actions: list[int] = at.legal_actions()
    rng.shuffle(actions)
    return actions
