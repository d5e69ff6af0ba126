"""The part of the schema that tells what supervised updates drop out: how much, where, and when of the phase."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

PLACES = ("embeddings", "attention", "feed_forward")
"""Where dropout may act: on the embeddings, and on the output of attention and feed-forward; never on attention's
probabilities."""


@dataclass(frozen=True)
class DropoutConfig:
    """Dropout in supervised updates, by a schedule over the fraction of the phase that is done."""

    rate: float = 0.0
    """The highest rate of the schedule; 0 for no dropout."""
    schedule: Literal["constant", "early", "late", "linear_up", "linear_down", "triangle"] = "constant"
    """`early`: the rate up to `switch`, then none; `late`: none up to there, then the rate; `linear_up` and
    `linear_down`: from 0 to the rate, or back, until `ramp`; `triangle`: up and down again, `cycles` times."""
    switch: float = 0.2
    """Fraction of the phase at which `early` ends and `late` begins."""
    ramp: float = 1.0
    """Fraction of the phase at which a linear schedule has reached its end."""
    cycles: int = 3
    """Triangles in the phase."""
    places: list[str] = field(default_factory=lambda: list(PLACES))
    """Where it acts: on `embeddings`, and on the output of `attention` and of `feed_forward`."""
