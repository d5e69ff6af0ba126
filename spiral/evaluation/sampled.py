"""Move probabilities and NashConv by sampling, with intervals: for policies in which many replies say one move.

Every decision of an unfolded game is asked many times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spiral.api.errors import SpiralError
from spiral.api.progress import Phase, Progress, no_progress
from spiral.api.records import PolicyId
from spiral.engines.waiting import Deadline, completions
from spiral.evaluation.move_probabilities import TRANSCRIPT, Probabilities
from spiral.policies.completer import Completer
from spiral.seeds import child, derive
from spiral.theory.best_response import NashConv, PolicyTable, nash_conv, respond, table_rows
from spiral.theory.game_tree import Decision, GameTree
from spiral.theory.intervals import TWO_SIDED_95, wilson_interval

Interval = tuple[float, float]


@dataclass(frozen=True)
class Sampled:
    """What was answered at each decision: observation -> the moves in the order of the samples, None for a reply
    that is no legal move."""

    moves: Mapping[str, tuple[str, ...]]
    """observation -> the legal moves"""
    answers: Mapping[str, tuple[str | None, ...]]

    def counts(self, observation: str) -> dict[str, int]:
        """How often each legal move was answered."""
        answers = self.answers[observation]
        return {move: answers.count(move) for move in self.moves[observation]}

    def illegal(self, observation: str) -> int:
        """Replies that were no legal move."""
        return sum(answer is None for answer in self.answers[observation])

    def table(self) -> Probabilities:
        """The shares of the legal moves among the legal replies; all alike where no reply was legal."""
        return {observation: _shares(self.counts(observation)) for observation in self.moves}

    def intervals(self) -> dict[str, dict[str, Interval]]:
        """Wilson's 95% interval of each share, each by itself."""
        found = {}
        for observation in self.moves:
            counts = self.counts(observation)
            total = sum(counts.values())
            found[observation] = {move: wilson_interval(count, total) for move, count in counts.items()}
        return found

    def illegal_mass(self) -> dict[str, Interval]:
        """Wilson's 95% interval of the chance of a reply that is no legal move, by observation."""
        return {o: wilson_interval(self.illegal(o), len(answers)) for o, answers in self.answers.items()}

    def mean_illegal_mass(self) -> tuple[float, float, float]:
        """(mean over the observations, low, high). Wilson's interval of the pooled share: wide enough, since replies of
        unequal decisions vary less in sum than those of equal ones would."""
        illegal = sum(map(self.illegal, self.answers))
        total = sum(map(len, self.answers.values()))
        return (illegal / total, *wilson_interval(illegal, total))

    def halves(self) -> tuple[Sampled, Sampled]:
        """Every other legal answer of each decision, and the rest: two independent samples."""
        legal = {o: tuple(a for a in answers if a is not None) for o, answers in self.answers.items()}
        return tuple(Sampled(self.moves, {o: a[k::2] for o, a in legal.items()}) for k in (0, 1))  # type: ignore[return-value]


@dataclass(frozen=True)
class NashConvEstimate:
    """NashConv of a policy that was sampled.

    `plug_in` is the NashConv of the sampled table. It is biased upwards: a best response to the sample also answers the
    sample's noise. `split` chooses the responses on one half of the sample and measures them on the other, both ways,
    and takes the mean; it is biased downwards, since what was chosen is at most as good as a best response.

    [`low`, `high`] covers NashConv with 95% confidence, each end with 97.5% (normal approximation of the sampled gains
    of fixed responses). `high` adds the deviation to the plug-in: that lies above the sampled gain of the true best
    response, which has no bias. `low` subtracts it from the split, whose mean lies below NashConv; the two halves'
    deviations are added as if they were one, since each half chose for the other.
    """

    theory: NashConv
    """Of the sampled table."""
    split: float
    low: float
    high: float

    @property
    def plug_in(self) -> float:
        return self.theory.nash_conv


def sample_moves(
    completer: Completer,
    policy: PolicyId,
    rules: str,
    decisions: Sequence[Decision],
    num_samples: int,
    seed: Sequence[int | str],
    deadline_s: float,
    progress: Progress = no_progress,
) -> Sampled:
    """Ask every observation `num_samples` times, all at once; the answers are a function of `seed` and the weights.

    A move counts as legal if it is one of the decision's moves, as `Game.legal_moves` promises. Raises RunError if the
    engine finishes no reply for `deadline_s` seconds, SpiralError for prompts that hold earlier turns.
    """
    if completer.prompter.has_history:
        raise SpiralError(TRANSCRIPT)
    moves = {decision.observation: decision.moves for decision in decisions}
    places: list[tuple[str, int]] = []
    for observation in moves:
        place = derive(*seed, observation)
        prompt = completer.prompt(rules, observation, moves[observation])
        for index in range(num_samples):
            completer.engine.submit(completer.request(len(places), policy, prompt, child(place, index)))
            places.append((observation, index))
    answers: dict[str, list[str | None]] = {observation: [None] * num_samples for observation in moves}
    num_read = 0
    progress(Phase("sampling", len(places), "replies", lambda: num_read))
    deadline = Deadline(deadline_s, "raise rollout.deadline_s or ask for fewer --samples")
    for completion in completions(completer.engine, len(places), deadline):
        observation, index = places[completion.request_id]
        move, num_read = completer.read(completion), num_read + 1
        answers[observation][index] = move if move in moves[observation] else None
    return Sampled(moves, {observation: tuple(given) for observation, given in answers.items()})


def estimate(tree: GameTree, sampled: Sampled) -> NashConvEstimate:
    """NashConv from a sample of every decision of `tree`. Raises SpiralError for fewer than 2 samples a decision."""
    if min(map(len, sampled.answers.values())) < 2:
        raise SpiralError("NashConv cannot be estimated from less than 2 samples a decision; give --samples 200")
    whole = sampled.table()
    full = Responses.to(tree, whole)
    plug_in = nash_conv(tree, whole)
    split, error = 0.0, 0.0
    first, second = sampled.halves()
    for chosen_on, measured_on in ((first, second), (second, first)):
        gain, deviation = Responses.to(tree, chosen_on.table()).gain(measured_on)
        split, error = split + gain / 2, error + deviation / 2
    high = plug_in.nash_conv + _quantile(sampled) * full.gain(sampled)[1]
    return NashConvEstimate(plug_in, split, max(0.0, split - _quantile(first, second) * error), high)


@dataclass(frozen=True)
class Responses:
    """One pure response a player, fixed: its gain is a smooth function of the table, and so has a deviation."""

    tree: GameTree
    choices: tuple[Mapping[int, int], ...]
    """For each player, information state -> index of the move."""

    @classmethod
    def to(cls, tree: GameTree, table: PolicyTable) -> Responses:
        """Best responses to a table."""
        rows = table_rows(tree, table)
        return cls(tree, tuple(respond(tree, rows, player)[1] for player in range(tree.num_players)))

    def gain(self, sampled: Sampled) -> tuple[float, float]:
        """The sum of what the players gain by these responses against the sampled table, and its standard error.

        By the delta method: to first order a gain changes by the sum of its slopes times the changes of the shares, and
        the shares of different decisions were sampled independently.
        """
        rows = table_rows(self.tree, sampled.table())
        total = 0.0
        slopes: dict[str, dict[str, float]] = {o: dict.fromkeys(moves, 0.0) for o, moves in sampled.moves.items()}
        for player, choices in enumerate(self.choices):
            for sign, chosen in ((1.0, choices), (-1.0, None)):
                value = _Value(self.tree, rows, player, chosen)
                total += sign * value.total
                value.add_slopes(slopes, sign)
        squared = sum(_row_variance(sampled.counts(o), row) for o, row in slopes.items())
        return total, math.sqrt(squared)


class _Value:
    """A player's expected return and its slopes; with `choices` the player follows those in place of the table."""

    def __init__(
        self, tree: GameTree, rows: Sequence[Sequence[float]], player: int, choices: Mapping[int, int] | None
    ) -> None:
        self._tree, self._rows, self._player, self._choices = tree, rows, player, choices
        self._values: list[float] = []
        for at, node in enumerate(tree.nodes):
            if node.decision < 0:
                self._values.append(node.returns[player])
            else:
                self._values.append(sum(p * self._values[c] for p, c in self._moves(at)))
        self.total = sum(chance * self._values[root] for chance, root in tree.roots)

    def _moves(self, at: int) -> list[tuple[float, int]]:
        """(probability, child) of each move at a node."""
        node = self._tree.nodes[at]
        if self._choices is not None and self._tree.decisions[node.decision].player == self._player:
            return [(1.0, node.children[self._choices[node.state]])]
        return list(zip(self._rows[node.decision], node.children, strict=True))

    def add_slopes(self, slopes: dict[str, dict[str, float]], sign: float) -> None:
        """Add d value / d share of each move of each observation that the table decides."""
        reach = [0.0] * len(self._values)
        for chance, root in self._tree.roots:
            reach[root] += chance
        for at in range(len(reach) - 1, -1, -1):
            node = self._tree.nodes[at]
            if node.decision < 0 or not reach[at]:
                continue
            for p, child_ in self._moves(at):
                reach[child_] += reach[at] * p
            decision = self._tree.decisions[node.decision]
            if self._choices is not None and decision.player == self._player:
                continue
            row = slopes[decision.observation]
            for move, child_ in zip(decision.moves, node.children, strict=True):
                row[move] += sign * reach[at] * self._values[child_]


def _quantile(*samples: Sampled) -> float:
    """Student's 97.5% quantile for the smallest number of legal replies to a decision (Cornish and Fisher's expansion):
    the variances are estimates too."""
    fewest = min(sum(sampled.counts(o).values()) for sampled in samples for o in sampled.moves)
    freedom = max(1, fewest - 1)
    z = TWO_SIDED_95
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def _row_variance(counts: Mapping[str, int], slopes: Mapping[str, float]) -> float:
    """The variance that one decision's sampling adds.

    Half a reply is added to each move (Jeffreys): a move that was never seen in n replies may still have a chance of
    about 1 / n, and a variance of 0 would claim that it has none.
    """
    total = sum(counts.values())
    shares = {move: (count + 0.5) / (total + 0.5 * len(counts)) for move, count in counts.items()}
    mean = sum(shares[move] * slope for move, slope in slopes.items())
    return sum(shares[move] * (slope - mean) ** 2 for move, slope in slopes.items()) / max(1, total - 1)


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {move: count / total if total else 1 / len(counts) for move, count in counts.items()}
