"""Unfolds an `Enumerable` game into a tree of decisions, once for all policies.

`spiral.theory.best_response` evaluates policies on the tree, as often as they change.
"""

from __future__ import annotations

import copy
import logging
import random
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from spiral.api.errors import SpiralError
from spiral.api.games import Enumerable, Game, IllegalMove, has_perfect_information

logger = logging.getLogger(__name__)

TOLERANCE = 1e-6
"""How far from 1 a sum of probabilities may be."""
NUM_LINES = 3
"""Random lines of moves that are compared where two histories of a game of perfect information meet."""
TELL_EVERY = 50_000
"""Nodes, a few seconds' work, after which an unfolding says how far it is."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a player may face. Two players who face the same text have two decisions, one row of the table."""

    observation: str
    player: int
    moves: tuple[str, ...]
    """The legal moves."""


class Node(NamedTuple):
    """A point of the tree: a decision with a child a move, or an end with a return a player."""

    decision: int
    """Index into `GameTree.decisions`; -1 at an end."""
    state: int
    """The mover's information state: what it sees now, and all it saw and did before; -1 at an end."""
    children: tuple[int, ...]
    returns: tuple[float, ...]


@dataclass(frozen=True)
class GameTree:
    """A game unfolded. Build it once with `GameTree.of`; it holds no game and never changes."""

    num_players: int
    decisions: tuple[Decision, ...]
    """Every distinct (player, observation), in the order of discovery."""
    roots: tuple[tuple[float, int], ...]
    """(probability, node), one a deal, in the order of the game's `deals()`."""
    nodes: tuple[Node, ...] = field(repr=False)
    """Children stand before their parents."""
    states: tuple[tuple[int, ...], ...] = field(repr=False)
    """The nodes of each information state."""
    orders: tuple[tuple[int, ...], ...] = field(repr=False)
    """For each player, the steps of a best response: v values node v, ~s chooses the move in state s."""

    @classmethod
    def of(cls, game: Game, limit: int = 2_000_000) -> GameTree:
        """Unfold an `Enumerable` game; `game` itself is left alone.

        Information states have perfect recall: (player, its own observations and moves, what it sees now).

        A game that declares `perfect_information` is folded into a graph: histories after which the same
        player sees the same text become one node. That is sound because such an observation tells everything
        that matters for the rest of the match, so what can follow, and its returns, are the same (where two
        histories meet, their legal moves and a few random lines are compared); a policy sees only the text, so
        it goes on the same way; and a best response gains nothing from remembering the way there. Tic-tac-toe:
        4,520 decisions (5,478 boards with the ends) in place of 549,946 nodes.

        Raises SpiralError for a game that is not Enumerable, declares perfect information wrongly, has more
        than `limit` nodes, repeats a position, has free-text moves, whose observations hide what is legal, or
        whose deals do not add up to 1; and for a class.
        """
        if isinstance(game, type):
            raise SpiralError(f"exact theory takes a game, and {game.__name__} is a class; give {game.__name__}()")
        if not isinstance(game, Enumerable):
            raise SpiralError(
                f"exact theory was asked for {type(game).__name__}, which lists no deals; only games with "
                "deals() and reset_to(deal) can be enumerated: add both, or estimate by playing matches"
            )
        return _Builder(game, limit).build(game)


# What a player did last and how often it has moved: (information state, move, moves made).
_Past = tuple[int, str, int]


class _Builder:
    """Unfolds a game depth first, by recursion: an endless game soon meets Python's limit on depth."""

    def __init__(self, game: Game, limit: int) -> None:
        self.name = type(game).__name__
        self.merge = has_perfect_information(game)
        self.num_players = game.num_players
        self.limit = limit
        self.entered = 0
        self.moves_of: dict[str, tuple[str, ...]] = {}
        self.decisions: dict[tuple[int, str], int] = {}
        self.faced: list[tuple[int, str]] = []
        """The keys of `decisions`, by their index."""
        self.rng = random.Random(0)
        self.nodes: list[Node] = []
        self.ends: dict[tuple[float, ...], int] = {}
        self.state_of: dict[tuple[int, str, _Past], int] = {}
        self.states: list[list[int]] = []
        self.depths: list[tuple[int, ...]] = []

    def build(self, game: Game) -> GameTree:
        roots: list[tuple[float, int]] = []
        for probability, deal in cast(Enumerable, copy.deepcopy(game)).deals():
            start = copy.deepcopy(game)
            cast(Enumerable, start).reset_to(deal)
            try:
                roots.append((float(probability), self._visit(start, ((-1, "", 0),) * self.num_players)))
            except RecursionError as endless:
                raise SpiralError(
                    f"{self.name} is too long to unfold; give its matches a limit of a few hundred moves"
                ) from endless
        total = sum(probability for probability, _ in roots)
        if not abs(total - 1) <= TOLERANCE:
            raise SpiralError(f"the probabilities of {self.name}.deals() add up to {total}; make that 1")
        return GameTree(
            num_players=self.num_players,
            decisions=tuple(Decision(seen, player, self.moves_of[seen]) for player, seen in self.faced),
            roots=tuple(roots),
            nodes=tuple(self.nodes),
            states=tuple(tuple(members) for members in self.states),
            orders=tuple(self._order(player) for player in range(self.num_players)),
        )

    def _visit(self, game: Game, pasts: tuple[_Past, ...]) -> int:
        """The node of a position, unfolded with all that follows it unless it is known already."""
        player = game.current_player()
        if player is None:
            self._count()
            return self._end(tuple(float(amount) for amount in game.returns()))
        observation = game.observe(player)
        state = self.state_of.setdefault((player, observation, pasts[player]), len(self.states))
        if state == len(self.states):
            self.states.append([])
        elif self.merge:
            at = self._known(state, observation)
            for _ in range(NUM_LINES):
                self._check_same_future(game, at)
            return at
        self._count()
        moves = self._moves(observation, game.legal_moves())
        decision = self.decisions.setdefault((player, observation), len(self.decisions))
        if decision == len(self.faced):
            self.faced.append((player, observation))
        children = []
        for move in moves:
            now = pasts
            if not self.merge:
                now = (*pasts[:player], (state, move, pasts[player][2] + 1), *pasts[player + 1 :])
            after = copy.deepcopy(game)
            _play(after, move)
            children.append(self._visit(after, now))
        self.states[state].append(len(self.nodes))
        self.depths.append(tuple(past[2] for past in pasts))
        self.nodes.append(Node(decision, state, tuple(children), ()))
        return len(self.nodes) - 1

    def _known(self, state: int, observation: str) -> int:
        """The one node of a state in a graph; a state without its node yet is an ancestor."""
        if not self.states[state]:
            raise SpiralError(
                f"{self.name} can come back to {observation!r}, so it has no end to unfold to; put the "
                "number of moves made into the observation and a limit on it"
            )
        return self.states[state][0]

    def _check_same_future(self, game: Game, at: int) -> None:
        """Compare the legal moves of a position, and of those that follow along one random line, with what is known of
        another position in which the player to move saw the same. Raises SpiralError where they differ."""
        game = copy.deepcopy(game)
        while (player := game.current_player()) is not None and (known := self.nodes[at]).decision >= 0:
            mover, seen = self.faced[known.decision]
            moves = self.moves_of[seen]
            if (mover, seen) != (player, game.observe(player)) or set(moves) != set(game.legal_moves() or ()):
                break
            chosen = self.rng.randrange(len(moves))
            _play(game, moves[chosen])
            at = known.children[chosen]
        else:
            if player is None and self.nodes[at].returns == tuple(float(amount) for amount in game.returns()):
                return
        raise SpiralError(
            f"{self.name} declares perfect_information, and after two histories in which the player to move saw the "
            "same text the same moves led to other moves or returns; let the observation tell all that matters (run: "
            "spiral check), or do not declare it"
        )

    def _end(self, returns: tuple[float, ...]) -> int:
        """Ends with equal returns are one node: nothing follows that could tell them apart."""
        if len(returns) != self.num_players:
            raise SpiralError(
                f"{self.name} gave {len(returns)} returns for {self.num_players} players; give one a player"
            )
        if returns not in self.ends:
            self.ends[returns] = len(self.nodes)
            self.nodes.append(Node(-1, -1, (), returns))
            self.depths.append(())
        return self.ends[returns]

    def _moves(self, observation: str, legal: list[str] | None) -> tuple[str, ...]:
        """The legal moves in the order of the first position with this observation."""
        if not legal:
            raise SpiralError(
                f"{self.name} lists no legal moves at {observation!r}; only a game whose legal_moves() lists "
                "every move can be enumerated"
            )
        moves = self.moves_of.setdefault(observation, tuple(dict.fromkeys(legal)))
        if set(moves) != set(legal):
            raise SpiralError(
                f"the observation {observation!r} of {self.name} hides what is legal: {sorted(moves)} in one "
                f"position, {sorted(set(legal))} in another; let the observation tell them apart"
            )
        return moves

    def _count(self) -> None:
        self.entered += 1
        if self.entered % TELL_EVERY == 0:  # a warning, so that it shows without any set-up
            logger.warning("unfolding %s: %s nodes, of %s at most", self.name, f"{self.entered:,}", f"{self.limit:,}")
        if self.entered > self.limit:
            raise SpiralError(
                f"{self.name} has more than {self.limit:,} nodes; raise the limit, choose smaller arguments "
                "for the game, or estimate by playing matches"
            )

    def _order(self, player: int) -> tuple[int, ...]:
        """The steps of a best response of `player`, each after everything that it needs.

        A choice needs the values of the children of its state's nodes, and by perfect recall each of those
        has one more move of the player behind it; a value needs the children and, at the player's own nodes,
        the choice. So: by the player's moves made, most first; in those, choices, then values in the order of
        nodes. In a graph moves made do not count (all are 0): a state is one node, chosen right before it.
        """
        steps = [(-depth[player], at, at) for at, depth in enumerate(self.depths) if depth]
        own = {decision for (mover, _), decision in self.decisions.items() if mover == player}
        for state, members in enumerate(self.states):
            first = members[0]
            if self.nodes[first].decision in own:
                steps.append((-self.depths[first][player], first if self.merge else -1, ~state))
        return tuple(step for _, _, step in sorted(steps))


def _play(game: Game, move: str) -> None:
    try:
        game.play(move)
    except IllegalMove as refused:
        raise SpiralError(
            f"{type(game).__name__} lists {move!r} as legal and then refuses it ({refused}); make the two agree"
        ) from refused
