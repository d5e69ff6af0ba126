"""Traces: single replies of a language model, with the stage of training and the game or benchmark that they are of."""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from spiral.seeds import derive

Domain = Literal["game", "task"]

_END = re.compile(r"(?:\s*(?:<\|[^<>|]{1,40}\|>|</s>|<eos>|<end_of_turn>))+\s*\Z")
"""Marks that a reply ends with. Games keep them and benches do not, so a judge could tell the two apart by them."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Trace:
    """One reply. What a judge sees of it is `text` alone."""

    policy: str
    """Whose it is: a run, or a model without a step."""
    step: int | None
    """Of training; None for a model that is no run's."""
    domain: Domain
    name: str
    """Of the game or the benchmark."""
    text: str
    where: str
    """Where it is to be found again, such as `episode 12, turn 3`."""
    right: bool | None = None
    """Whether the reply to a task was right; None in games."""

    @property
    def digest(self) -> str:
        """Of the text."""
        return hashlib.sha256(self.text.encode("utf-8", "replace")).hexdigest()


def plain(text: str) -> str:
    """A reply without the marks that end it, and without half characters, which no server takes."""
    return _END.sub("", text).encode("utf-8", "replace").decode()


class Sample(Generic[Item]):
    """At most `num` items of each group, each as likely as any other of its group, whatever the order they come in.

    An item is ranked by a hash of the seed and of its key: the same items give the same sample, one that comes twice
    counts once, and a sample of more holds the one of fewer.
    """

    def __init__(self, num: int, seed: int) -> None:
        self._num, self._seed = num, seed
        self._kept: dict[Hashable, list[tuple[int, Item]]] = {}
        """By group: a heap of (-rank, item) with the worst first."""
        self.seen: dict[Hashable, int] = {}
        """Items of each group."""

    def add(self, group: Hashable, key: str, item: Item) -> None:
        """Take note of an item; `key` tells it from the others."""
        rank = -derive(self._seed, "patterns", key)
        kept = self._kept.setdefault(group, [])
        self.seen[group] = self.seen.get(group, 0) + 1
        if (len(kept) == self._num and rank <= kept[0][0]) or any(rank == other for other, _ in kept):
            return
        # Ranks of one heap differ, so items are never compared.
        (heapq.heappushpop if len(kept) == self._num else heapq.heappush)(kept, (rank, item))

    def chosen(self) -> dict[Hashable, list[Item]]:
        """The items of each group, the best ranked first."""
        return {group: [item for _, item in sorted(kept, key=lambda e: -e[0])] for group, kept in self._kept.items()}


@dataclass(frozen=True)
class Stages:
    """Equal stretches of a policy's training."""

    num: int
    last: int
    """The last step there is."""

    def index(self, step: int) -> int:
        """Which stretch a step is in, from 0."""
        return min(self.num - 1, step * self.num // (self.last + 1))

    def label(self, index: int) -> str:
        """`0-99`, or `99` for a stretch of one step."""
        size = self.last + 1
        first, end = -(-index * size // self.num), -(-(index + 1) * size // self.num) - 1
        return str(first) if first >= end else f"{first}-{end}"


def one_of(items: Iterable[Item], key: str, seed: int, key_of: Callable[[Item], str]) -> Item:
    """One of several, by a hash of the seed and of their keys."""
    return min(items, key=lambda item: derive(seed, "patterns", key, key_of(item)))
