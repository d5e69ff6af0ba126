"""Equal (prompt, reply) pairs of a step become one sample, whose advantages are added: positive and negative ones
apart, so that a clipped objective stays the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import sub
from typing import Any

from spiral.api.records import Trajectory

SAME_LOGPROBS = 1e-3
"""Nats up to which the log-probabilities of two equal replies are one computation, rounded. In bf16 an engine's batches
differ by more: such replies have importance weights of their own, so they are samples of their own."""


@dataclass(slots=True)
class Sample:
    """One distinct (prompt, reply) and what all its occurrences add up to."""

    prompt: tuple[int, ...]
    reply: tuple[int, ...]
    logprobs: tuple[float, ...]
    """At sampling; of the first occurrence, the others differ by `SAME_LOGPROBS` at most."""
    positive: float = 0.0
    """Sum of the advantages above 0."""
    negative: float = 0.0
    """Sum of the advantages below 0."""
    count: int = 0
    legal_replies: tuple[tuple[int, ...], ...] | None = None
    """Those of the turn, where they were recorded."""
    forced: tuple[int, ...] = ()
    """Places in `reply` of ids that were not sampled, and are not trained."""

    @property
    def num_trained(self) -> int:
        """Ids of the reply that are trained."""
        return len(self.reply) - len(self.forced)

    def trained(self) -> Iterator[tuple[int, int, float]]:
        """(place in the reply, id, its log-probability at sampling) of each id that is trained."""
        for place, (token, logprob) in enumerate(zip(self.reply, self.logprobs, strict=True)):
            if place not in self.forced:
                yield place, token, logprob


def merge(trajectories: Sequence[Trajectory], advantages: Sequence[Sequence[float]]) -> list[Sample]:
    """Distinct samples that are trained, in the order of their ids, so that nothing depends on the order of episodes.

    `advantages[i][k]` belongs to turn k of trajectory i. Raises ValueError when the shapes differ.
    """
    samples: dict[tuple[Any, ...], list[Sample]] = {}
    for trajectory, row in zip(trajectories, advantages, strict=True):
        for turn, advantage in zip(trajectory.turns, row, strict=True):
            if not turn.trained or not turn.reply:  # a bot's turn has no reply
                continue
            # With the legal replies, which a game may let depend on more than the player was shown.
            key = (turn.prompt, turn.reply, turn.legal_replies or (), turn.forced)
            same = samples.setdefault(key, [])
            for sample in same:
                if _are_same(sample.logprobs, turn.logprobs):
                    break
            else:
                sample = Sample(
                    turn.prompt, turn.reply, turn.logprobs, legal_replies=turn.legal_replies, forced=turn.forced
                )
                same.append(sample)
            sample.count += 1
            # Apart, since a clipped objective treats the two signs differently: see `surrogate`.
            if advantage > 0:
                sample.positive += advantage
            else:
                sample.negative += advantage
    # Sorted, so that equal beginnings are neighbours, and float sums do not depend on the order of the episodes. By the
    # whole sequence, so that the turns of a transcript follow each other.
    keys = sorted(samples, key=lambda key: (key[0] + key[1], len(key[0]), *key[2:]))
    return [sample for key in keys for sample in sorted(samples[key], key=lambda sample: sample.logprobs)]


def _are_same(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two equal replies' log-probabilities are within `SAME_LOGPROBS`."""
    # By maps: once for every turn of a step.
    return one == other or all(map(SAME_LOGPROBS.__ge__, map(abs, map(sub, one, other))))
