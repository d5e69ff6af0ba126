"""Exact best responses and NashConv by enumeration, from a table of move probabilities.

A table has one row an observation, because a language policy sees its prompt and nothing else. The adversary
is stronger: a best response remembers all its player saw and did, so NashConv is right even where an
observation forgets. A game is unfolded once, by `GameTree.of`, and evaluated as often as the policy changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from spiral.api.errors import SpiralError
from spiral.theory.game_tree import TOLERANCE, Decision, GameTree, Node

__all__ = [
    "Decision",
    "GameTree",
    "NashConv",
    "Node",
    "Outcome",
    "PolicyTable",
    "Profile",
    "Rows",
    "best_response",
    "nash_conv",
    "outcomes",
    "respond",
    "table_rows",
    "uniform",
    "values",
]

PolicyTable = Mapping[str, Mapping[str, float]]
"""observation -> {move: probability}; a legal move left out has probability 0, each row adds up to 1."""

Profile = Sequence[PolicyTable]
"""One table a player, where each has a policy of its own."""

Rows = list[list[float]]
"""For each of a tree's decisions, the probabilities of its moves."""


class Outcome(NamedTuple):
    """One way a match can go."""

    probability: float
    deal: int
    """Index into the game's `deals()`."""
    moves: tuple[tuple[int, str, str], ...]
    """(player, observation, move) in the order of play."""
    returns: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class NashConv:
    """How far a policy is from a Nash equilibrium; all numbers in units of the game's returns."""

    values: tuple[float, ...]
    """Each player's expected return when all follow the policy."""
    best_response_values: tuple[float, ...]
    """Each player's expected return when it alone plays a best response."""

    @property
    def gains(self) -> tuple[float, ...]:
        """What each player would win by deviating alone; never below 0 but for rounding."""
        return tuple(best - value for best, value in zip(self.best_response_values, self.values, strict=True))

    @property
    def nash_conv(self) -> float:
        """The sum of the gains; 0 exactly at a Nash equilibrium."""
        return sum(self.gains)

    @property
    def exploitability(self) -> float:
        """NashConv a player; for two players and zero sum, the mean loss to a best responder."""
        return self.nash_conv / len(self.values)


def values(tree: GameTree, table: PolicyTable) -> list[float]:
    """Each player's expected return when all follow the table. Raises SpiralError for a bad table."""
    return _values(tree, table_rows(tree, table))


def best_response(tree: GameTree, table: PolicyTable, player: int) -> tuple[float, dict[str, dict[str, float]]]:
    """The most `player` can expect while the others follow the table, and a table of its moves that gets it.

    The response is pure and has a row for each observation of `player`. Where moves tie, the first is taken.
    By backward induction over information states weighted by the others' reach (Johanson, Waugh, Bowling and
    Zinkevich 2011, "Accelerating Best Response Calculation in Large Extensive Games").

    Raises SpiralError for a bad table, or when the response must remember what an observation forgets, so
    that no table can hold it; `nash_conv` still gives its value.
    """
    rows = table_rows(tree, table)
    value, choices = respond(tree, rows, player)
    return value, _response_table(tree, rows, player, choices)


def nash_conv(tree: GameTree, table: PolicyTable | Profile) -> NashConv:
    """The distance of a policy, or of a profile of policies, from equilibrium: sum over players of (best response value
    - value).

    NashConv is from Lanctot et al. 2017, "A Unified Game-Theoretic Approach to Multiagent Reinforcement
    Learning"; exploitability as NashConv / players as in Timbers et al. 2022, "Approximate Exploitability".
    Raises SpiralError for a bad table.
    """
    rows = table_rows(tree, table)
    best = tuple(respond(tree, rows, player)[0] for player in range(tree.num_players))
    return NashConv(tuple(_values(tree, rows)), best)


def uniform(tree: GameTree) -> dict[str, dict[str, float]]:
    """The table that gives every legal move the same probability."""
    return {d.observation: dict.fromkeys(d.moves, 1 / len(d.moves)) for d in tree.decisions}


def outcomes(tree: GameTree, table: PolicyTable) -> Iterator[Outcome]:
    """Every terminal history with its probability under the table, also the impossible ones (probability 0).

    Histories, not nodes: tic-tac-toe has 255,168. Raises SpiralError for a bad table.
    """
    rows = table_rows(tree, table)
    for deal, (chance, root) in enumerate(tree.roots):
        stack: list[tuple[float, int, tuple[tuple[int, str, str], ...]]] = [(chance, root, ())]
        while stack:
            probability, at, moves = stack.pop()
            node = tree.nodes[at]
            if node.decision < 0:
                yield Outcome(probability, deal, moves, node.returns)
                continue
            decision = tree.decisions[node.decision]
            for move, p, child in zip(decision.moves, rows[node.decision], node.children, strict=True):
                made = (decision.player, decision.observation, move)
                stack.append((probability * p, child, (*moves, made)))


def table_rows(tree: GameTree, table: PolicyTable | Profile) -> Rows:
    """The table's probabilities in the order of the tree's decisions and moves, checked."""
    rows: Rows = []
    tables = [table] * tree.num_players if isinstance(table, Mapping) else list(table)
    if len(tables) != tree.num_players:
        raise SpiralError(f"a profile of {tree.num_players} players was given {len(tables)} tables; give one a player")
    for player, own in enumerate(tables):
        seen = {d.observation for d in tree.decisions if isinstance(table, Mapping) or d.player == player}
        if unknown := own.keys() - seen:
            raise SpiralError(
                f"the table has a row for {min(unknown)!r}, and {len(unknown) - 1} more, which no decision of this "
                "game shows; leave them out, or unfold the game that they are of"
            )
    for decision in tree.decisions:
        found = tables[decision.player].get(decision.observation)
        if found is None:
            raise SpiralError(
                f"the table has no row for {decision.observation!r}, only {len(tables[decision.player])} others; give "
                "one for every decision in tree.decisions"
            )
        row = [found.get(move, 0.0) for move in decision.moves]
        # "not <=" rather than ">": a NaN must not pass.
        if min(row) < 0 or not abs(sum(row) - 1) <= TOLERANCE:
            raise SpiralError(
                f"the table's row for {decision.observation!r} gives the legal moves {decision.moves} the "
                f"probabilities {row}; renormalise over the legal moves so that they add up to 1"
            )
        rows.append(row)
    return rows


def _reach(tree: GameTree, rows: Rows, alone: int | None = None) -> list[float]:
    """The probability of coming to each node; with `alone`, that player's moves all count as certain."""
    reach = [0.0] * len(tree.nodes)
    for chance, root in tree.roots:
        reach[root] += chance
    for at in range(len(tree.nodes) - 1, -1, -1):
        decision, _, children, _ = tree.nodes[at]
        if decision < 0:
            continue
        here, certain = reach[at], tree.decisions[decision].player == alone
        for p, child in zip(rows[decision], children, strict=True):
            reach[child] += here if certain else here * p
    return reach


def _values(tree: GameTree, rows: Rows) -> list[float]:
    total = [0.0] * tree.num_players
    for reach, node in zip(_reach(tree, rows), tree.nodes, strict=True):
        for player, amount in enumerate(node.returns):
            total[player] += reach * amount
    return total


def respond(tree: GameTree, rows: Rows, player: int) -> tuple[float, dict[int, int]]:
    """A best response: its value, and the index of the move chosen in each information state of `player`."""
    reach = _reach(tree, rows, alone=player)
    value = [node.returns[player] if node.returns else 0.0 for node in tree.nodes]
    choices: dict[int, int] = {}
    for step in tree.orders[player]:
        if step < 0:
            members = [(reach[at], tree.nodes[at].children) for at in tree.states[~step]]
            moves = range(len(members[0][1]))
            worth = [sum(weight * value[children[k]] for weight, children in members) for k in moves]
            choices[~step] = worth.index(max(worth))
            continue
        decision, state, children, _ = tree.nodes[step]
        if tree.decisions[decision].player == player:
            value[step] = value[children[choices[state]]]
        else:
            value[step] = sum(p * value[child] for p, child in zip(rows[decision], children, strict=True))
    return sum(chance * value[root] for chance, root in tree.roots), choices


def _response_table(tree: GameTree, rows: Rows, player: int, choices: dict[int, int]) -> dict[str, dict[str, float]]:
    """The choices by observation. A state that play never comes to does not force its choice on others."""
    reached = [False] * len(tree.nodes)
    for chance, root in tree.roots:
        reached[root] |= chance > 0
    taken: dict[int, int] = {}
    for at in range(len(tree.nodes) - 1, -1, -1):
        decision, state, children, _ = tree.nodes[at]
        if decision < 0 or not reached[at]:
            continue
        if tree.decisions[decision].player != player:
            for p, child in zip(rows[decision], children, strict=True):
                reached[child] |= p > 0
        elif taken.setdefault(decision, choices[state]) == choices[state]:
            reached[children[choices[state]]] = True
        else:
            raise SpiralError(
                f"player {player}'s best response needs memory, so no table holds it: its move at "
                f"{tree.decisions[decision].observation!r} depends on what is "
                "forgotten there; nash_conv gives its value"
            )
    for state, chosen in choices.items():
        taken.setdefault(tree.nodes[tree.states[state][0]].decision, chosen)
    faced = [tree.decisions[d] for d in taken]
    return {
        d.observation: {move: float(k == chosen) for k, move in enumerate(d.moves)}
        for d, chosen in zip(faced, taken.values(), strict=True)
    }
