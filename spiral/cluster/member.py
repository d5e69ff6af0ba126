"""A player as one of its clients knows it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from spiral.api.records import PolicyId, Request
from spiral.cluster.crew import Call
from spiral.cluster.orders import Facts


@dataclass
class Member:
    """What it was told, and what is awaited from it."""

    facts: Facts | None = None
    """None until it said what it is, after each start."""
    held: dict[PolicyId, int] = field(default_factory=dict)
    """The loads that it has, or was told of."""
    calls: list[Call] = field(default_factory=list)
    asked: dict[int, Request] = field(default_factory=dict)
    heard: float = field(default_factory=time.monotonic)

    @property
    def plays(self) -> bool:
        """Whether it can be given games."""
        return self.facts is not None and self.facts.plays

    @property
    def answers(self) -> bool:
        """Whether it can be given weights, and asked single replies."""
        return self.facts is not None and self.facts.answers

    @property
    def where(self) -> str:
        """For errors: the process that it is."""
        return "not started yet" if self.facts is None else f"process {self.facts.pid} on {self.facts.host}"

    def is_gone(self) -> None:
        """Its process ended: the one that takes its place has nothing of it."""
        self.facts, self.held, self.asked = None, {}, {}
        self.heard = time.monotonic()
