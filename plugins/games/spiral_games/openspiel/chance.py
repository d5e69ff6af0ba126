"""Lists the deals of a game, all its chance up front, where that is sound and small.

A deal is the chance outcomes of a match in the order in which they come. That works where no outcome and no
probability depends on what the players do: cards yes, the dice of a game in which players decide when to roll no.
"""

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from spiral import SpiralError
from spiral_games.openspiel.catalogue import Loaded
from spiral_games.openspiel.observations import words

Deal = tuple[int, ...]

NUM_SAMPLES = 100
MAX_SAMPLED = 4_000
"""Positions visited by all sample matches together; one with many actions counts more."""
MAX_HISTORIES = 1e6
"""Matches, cut at any point, of a game with hidden information that is still listed."""
MAX_PERFECT_HISTORIES = 1e10
"""The same for perfect information, where many histories are one position (tic-tac-toe: 549,946 and 5,478)."""
MAX_WALKED = 100_000
"""Positions that the exact listing may visit: a fraction of a second for most games."""


@dataclass(frozen=True)
class Shape:
    """What a few random matches tell about a game."""

    histories: float
    """Estimated number of histories, chance included (Knuth 1975); no more than a lower bound once it is huge."""
    returning: bool
    """Whether an observation came back within a match."""
    moves: tuple[str, ...]
    """The moves seen, in the order of discovery."""


class Listing(NamedTuple):
    """The deals of a game, or why it has none."""

    deals: tuple[tuple[float, Deal], ...]
    refusal: str


class _Dependent(Exception):
    """Chance that depends on moves."""


@functools.lru_cache(maxsize=256)
def shape(loaded: Loaded) -> Shape:
    """Sample a few matches, always the same ones."""
    # Knuth's estimator: the numbers of choices along a random match, chance included, multiply to an estimate of the
    # number of histories of each length.
    rng = random.Random(0)
    sizes: list[float] = []
    moves: dict[str, None] = {}
    returning, visited = False, 0
    while len(sizes) < NUM_SAMPLES and visited < MAX_SAMPLED:
        if len(sizes) == 3 and min(sizes) > MAX_PERFECT_HISTORIES:
            break  # a game this large is listed in no case, and its matches are long
        state, width, size, seen = loaded.game.new_initial_state(), 1.0, 1.0, set()
        while not state.is_terminal() and visited < MAX_SAMPLED:
            legal = state.legal_actions()
            visited += 1 + len(legal) // 50
            width *= len(legal)
            size += width
            if state.is_chance_node():
                state.apply_action(rng.choices(*zip(*state.chance_outcomes(), strict=True))[0])
                continue
            player = state.current_player()
            if len(moves) < 64:
                moves |= dict.fromkeys(words(state, player, legal))
            if loaded.sight == "observation":
                text = player, state.observation_string(player)
                returning = returning or text in seen
                seen.add(text)
            state.apply_action(rng.choice(legal))
        sizes.append(size)
    return Shape(sum(sizes) / len(sizes), returning, tuple(moves))


@functools.lru_cache(maxsize=256)
def listing(loaded: Loaded) -> Listing:
    """The deals with their probabilities, or the sentence that says why this game cannot be enumerated."""
    largest = MAX_PERFECT_HISTORIES if loaded.perfect_information else MAX_HISTORIES
    histories = shape(loaded).histories
    if histories > largest:
        return Listing((), f"it has about {histories:.0e} histories, and {largest:.0e} is the most that is listed")
    if not loaded.stochastic:
        return Listing(((1.0, ()),), "")
    try:
        return Listing(tuple(_sequences(_tree(loaded), ())), "")
    except _Dependent as reason:
        return Listing((), str(reason))


def deals(loaded: Loaded) -> tuple[tuple[float, Deal], ...]:
    """(probability, deal), every sequence of chance outcomes. Raises SpiralError where it is not sound or too large."""
    listed = listing(loaded)
    if listed.refusal:
        raise SpiralError(
            f"OpenSpiel's {loaded.name} cannot be enumerated: {listed.refusal}; choose smaller params, or estimate "
            "by playing matches"
        )
    return listed.deals


_Tree = dict[Deal, tuple[tuple[int, float], ...]]
"""The outcomes so far -> the next chance outcomes and their probabilities."""


def _tree(loaded: Loaded) -> _Tree:
    """Walk all histories as far as chance may still come, and check that moves do not change it."""
    most = loaded.game.max_chance_nodes_in_history()
    tree: _Tree = {}
    stack: list[tuple[Any, Deal, bool]] = [(loaded.game.new_initial_state(), (), False)]
    walked = 0
    while stack:
        state, drawn, moved = stack.pop()
        if state.is_terminal() or len(drawn) == most:
            continue
        walked += 1
        if walked > MAX_WALKED:
            raise _Dependent(f"chance comes too late or too often to be listed within {MAX_WALKED:,} positions")
        if not state.is_chance_node():
            stack += [(state.child(action), drawn, True) for action in state.legal_actions()]
            continue
        # A dealt match has no generator, so a bot that searches copies of it would foresee the dice of later turns.
        if moved and loaded.perfect_information:
            raise _Dependent("dice are thrown between moves, and what is still to be thrown cannot lie in a deal")
        # Every history with the same outcomes so far must come to the same chance node, whatever moves lie between.
        outcomes = tuple(state.chance_outcomes())
        if tree.setdefault(drawn, outcomes) != outcomes:
            raise _Dependent("its chance depends on the moves, so it cannot be dealt up front")
        stack += [(state.child(action), (*drawn, action), moved) for action, p in outcomes if p > 0]
    return tree


def _sequences(tree: _Tree, drawn: Deal) -> Iterator[tuple[float, Deal]]:
    if drawn not in tree:
        yield 1.0, drawn
        return
    for action, probability in tree[drawn]:
        if probability > 0:
            for rest, deal in _sequences(tree, (*drawn, action)):
                yield probability * rest, deal
