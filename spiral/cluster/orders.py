"""The records that cross between the learner's process and the players: groups of games to play, weights to load,
requests to answer, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spiral.api.records import Completion, Episode, PolicyId, Request, VoidedGame
from spiral.cluster.buckets import Layout
from spiral.selfplay.draws import Draw

Key = tuple[int, int]
"""A group of games of a run: its step, and its number in the step."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A group of games to be played by one player, and counted once."""

    step: int
    draw: Draw
    epoch: int = 0
    """Counts how often the run went back: games of an earlier one count no more."""
    is_single: bool = False
    """Whether it is for the one player that has the bots which only one process can play."""

    @property
    def key(self) -> Key:
        return self.step, self.draw.index


@dataclass(frozen=True, slots=True)
class Load:
    """Weights of a policy to be loaded."""

    policy: PolicyId
    version: int
    serial: int
    """Of all loads of a run, counted alike by each of its learner's processes: a version may be loaded twice, with
    other weights, as in a warm start."""
    buckets: Sequence[tuple[Layout, Any]]
    """The layout of some tensors, and what a player fetches them by."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a player is to do next, in this order; it works on what it has in any case."""

    incarnation: str
    """The process they are meant for: one that took its place has none of its weights."""
    loads: Sequence[Load] = ()
    drops: Sequence[PolicyId] = ()
    needs: Mapping[PolicyId, int] = field(default_factory=dict)
    """Policy -> the load without which the tickets and requests must wait."""
    tickets: Sequence[Ticket] = ()
    requests: Sequence[Request] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What a player did for one client since its last report."""

    incarnation: str
    spans: Sequence[Span] = ()
    """What was done meanwhile, the player's own without a name for its lane."""
    finished: Sequence[tuple[Ticket, Sequence[Episode]]] = ()
    returned: Sequence[Ticket] = ()
    """Groups that have to be drawn anew."""
    voided: Sequence[tuple[Ticket, VoidedGame]] = ()
    completions: Sequence[Completion] = ()
    said: Sequence[str] = ()
    """Warnings of its log."""
    was_refused: bool = False
    """The orders were meant for another process, so none was followed."""
    problem: str = ""
    """Why there has to be another player in this one's place."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a player is."""

    incarnation: str
    host: str
    pid: int
    since: float
    """When it was ready, in seconds since the epoch on its clock."""
    context: int | None
    """Of its engine; see `spiral.api.training.Engine`, as the next two."""
    capacity: int | None
    dtype: Any
    plays: bool = True
    """Whether it is given games."""
    answers: bool = True
    """Whether it is given weights, and asked single replies."""


@dataclass(frozen=True, slots=True)
class Span:
    """What a process did, from and to, in seconds since the epoch on its clock."""

    lane: str
    """The process: a player's name, or `learner`."""
    began: float
    ended: float
    what: str = "playing"
