"""OpenSpiel's exact theory for its own games: NashConv of a table, and tables solved by CFR+; it plays no match.

`spiral.theory` computes the same NashConv by other code, so each is a check of the other.
"""

import copy
import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from spiral import SpiralError
from spiral.theory import NashConv, Table
from spiral_games.openspiel import chance
from spiral_games.openspiel.game import OpenSpielGame
from spiral_games.openspiel.loading import Loaded, pyspiel

MAX_HISTORIES = 3e6
"""Histories of a game whose tables are walked: tic-tac-toe's 549,946 take about half a minute."""
MAX_CFR_VISITS = 2e7
"""Histories times iterations of one CFR+ run: about half a minute; Leduc with 200 iterations has 1.9e6."""

Rows = dict[str, list[tuple[int, float]]]
"""Information state -> (action, probability), as OpenSpiel keeps policies."""


class Decision(NamedTuple):
    """An information state of the player to move, in OpenSpiel's words and in ours."""

    information: str
    observation: str
    actions: dict[str, int]
    """Move -> action."""


def decisions(game: OpenSpielGame) -> Iterator[Decision]:
    """Every information state of a game, once. Raises SpiralError for a game that is too large or shows none."""
    name = game.loaded.name
    if not game.loaded.game.get_type().provides_information_state_string:
        raise SpiralError(f"openspiel/{name} has no information states, so exact theory does not apply; play matches")
    histories = chance.shape(game.loaded).histories
    if histories > MAX_HISTORIES:
        raise SpiralError(
            f"openspiel/{name} has about {histories:.0e} histories, and exact theory goes to {MAX_HISTORIES:.0e}; "
            "choose smaller params, or play matches"
        )
    probe, seen = copy.copy(game), set()
    stack = [game.loaded.game.new_initial_state()]
    while stack:
        state = stack.pop()
        if state.is_terminal():
            continue
        if not state.is_chance_node():
            information = state.information_state_string()
            if information not in seen:
                seen.add(information)
                probe.show(state)
                yield Decision(information, probe.observe(state.current_player()), probe.actions())
        stack += [state.child(action) for action in state.legal_actions()]


def openspiel_nash_conv(game: OpenSpielGame, table: Table) -> NashConv:
    """NashConv of a table {observation: {move: probability}}, by OpenSpiel's best responses.

    Its tables have a row an information state, which remembers everything; ours have a row an observation, and all
    information states that look alike get the same row. Raises SpiralError for a table without a row that is needed.
    """
    library, loaded = pyspiel(), game.loaded.game
    rows: Rows = {}
    for decision in decisions(game):
        row = table.get(decision.observation)
        if row is None:
            raise SpiralError(f"the table has no row for {decision.observation!r}; give one for every observation")
        rows[decision.information] = [(action, row.get(move, 0.0)) for move, action in decision.actions.items()]
    policy, root = library.TabularPolicy(rows), loaded.new_initial_state()
    values = library.expected_returns(root, policy, -1, True)
    best = [
        library.TabularBestResponse(loaded, player, policy).value_from_state(root) for player in range(game.num_players)
    ]
    return NashConv(tuple(values), tuple(best))


def cfr_table(game: OpenSpielGame, iterations: int) -> dict[str, dict[str, float]]:
    """The average policy of CFR+ as a table {observation: {move: probability}}, for `spiral.theory` and the like.

    Raises SpiralError also where one observation stands for many information states, as with perfect information: a
    policy that need not be the same in all of them has no such table.
    """
    if game.loaded.sight != "information":
        raise SpiralError(
            f"openspiel/{game.loaded.name} shows the same text for several information states, so what CFR plays there "
            "has no table by observation; use the bot, or spiral.theory"
        )
    rows = cfr_rows(game.loaded, iterations)
    return {d.observation: by_move(rows[d.information], d.actions) for d in decisions(game)}


def by_move(row: list[tuple[int, float]], actions: Mapping[str, int]) -> dict[str, float]:
    """A row of OpenSpiel's by move."""
    probabilities = dict(row)
    return {move: probabilities.get(action, 0.0) for move, action in actions.items()}


@functools.lru_cache(maxsize=16)
def cfr_rows(loaded: Loaded, iterations: int) -> Rows:
    """The average policy of CFR+ (Tammelin 2014), which nears a Nash equilibrium with two players and zero sum.

    Solved once a process. Raises SpiralError for a game that has no information states or would take too long.
    """
    if not loaded.game.get_type().provides_information_state_string:
        raise SpiralError(f"openspiel/{loaded.name} has no information states, so CFR cannot solve it")
    visits = chance.shape(loaded).histories * iterations
    if visits > MAX_CFR_VISITS:
        raise SpiralError(
            f"CFR would visit about {visits:.0e} histories of openspiel/{loaded.name} in {iterations} iterations, and "
            f"{MAX_CFR_VISITS:.0e} is the most; choose smaller params, fewer iterations, or another bot"
        )
    solver = pyspiel().CFRPlusSolver(loaded.game)
    for _ in range(iterations):
        solver.evaluate_and_update_policy()
    table: Any = solver.tabular_average_policy().policy_table()
    return dict(table)
