"""Documents as rows of tokens: one stream, in which each document ends with the end id, cut into rows of equal length.

Documents follow each other in a row, and attention may cross their border: the end id between them says that what was
before tells nothing. A mask between them would keep the border exactly, and cost plain causal attention its fast kernel
in every row, for the few rows that hold a border at all: documents are longer than rows here. No token is padding and
none is left out; only the last row of the stream is shorter.

Each row begins with the last token of the one before it, so that every token but the stream's first is predicted once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spiral.api.records import LEARNER, Episode, Trajectory, Turn
from spiral.models.tokens import PlainText, stop_id
from spiral.seeds import derive

GAME = "text"
"""What stands in a row's record where a game's name would."""


def start_ids(tokenizer: Any) -> list[int]:
    """What a document begins with: the tokenizer's first id, as prompts of games do, where that is not its last one."""
    first, last = tokenizer.bos_token_id, stop_id(tokenizer)
    return [] if first is None or first == last else [int(first)]


@dataclass(frozen=True)
class Stream:
    """Documents one after another."""

    ids: np.ndarray
    """(T,) int32"""
    trained: np.ndarray
    """(T,) bool, by position and not by value: all but what each document begins with."""

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Any) -> Stream:
        """[start?] text [end], text by text; no text spells a control token."""
        encode, start, end = PlainText(tokenizer).ids, start_ids(tokenizer), stop_id(tokenizer)
        ids, trained = [np.empty(0, np.int32)], [np.empty(0, bool)]
        for text in texts:
            document = np.array([*start, *encode(text), end], np.int32)
            ids.append(document)
            trained.append(np.arange(len(document)) >= len(start))
        return cls(np.concatenate(ids), np.concatenate(trained))

    @property
    def num_predicted(self) -> int:
        """Tokens that are predicted, from the second on."""
        return int(self.trained[1:].sum())

    def turn(self, start: int, first: int, end: int) -> Turn:
        """Tokens `start` to `end`, of which those from `first` on, after `start`, are predicted."""
        ids = self.ids[start:end].tolist()
        context, reply = ids[: first - start], tuple(ids[first - start :])
        forced = np.flatnonzero(~self.trained[first:end]).tolist()
        return Turn("", tuple(context), reply, (0.0,) * len(reply), None, True, "stop", 0, forced=tuple(forced))


class TextRows:
    """A stream as the rows of a run's steps, in a new random order each epoch."""

    def __init__(self, texts: Sequence[str], tokenizer: Any, row_tokens: int, seed: int) -> None:
        """`row_tokens`: of a row, whose first one is not predicted."""
        self._row_tokens, self._seed = row_tokens, seed
        order = list(texts)
        random.Random(derive(seed, "text", "documents")).shuffle(order)
        self.stream = Stream.of(order, tokenizer)
        self.num_rows = max(0, -(-(len(self.stream.ids) - 1) // (row_tokens - 1)))
        self._order: tuple[int, list[int]] = (-1, [])

    def of_step(self, step: int, num: int) -> list[Episode]:
        """The rows of a step, each as a game with one turn: the next `num` of all epochs, each of which has every row
        once. A function of the step, so a resumed run needs no state."""
        return [_as_episode(self._turn(self._place(place))) for place in range(step * num, (step + 1) * num)]

    def _turn(self, row: int) -> Turn:
        start = row * (self._row_tokens - 1)
        return self.stream.turn(start, start + 1, min(start + self._row_tokens, len(self.stream.ids)))

    def _place(self, place: int) -> int:
        epoch, within = divmod(place, self.num_rows)
        if self._order[0] != epoch:
            order = list(range(self.num_rows))
            random.Random(derive(self._seed, "text", epoch)).shuffle(order)
            self._order = epoch, order
        return self._order[1][within]


def window_starts(num_tokens: int, row_tokens: int) -> list[tuple[int, int]]:
    """(first token, first predicted token) of each window over a stream that is measured.

    Windows of `row_tokens` overlap by a quarter, so that each token but the stream's first is predicted once and, from
    the second window on, with a quarter of a row before it at least.
    """
    start, first, found = 0, 1, list[tuple[int, int]]()
    while first < num_tokens:
        found.append((start, first))
        first = start + row_tokens
        start = first - 1 - row_tokens // 4
    return found


def _as_episode(turn: Turn) -> Episode:
    """A row as a game of one player and one turn, which packing and updates take like any other."""
    trajectory = Trajectory(GAME, 0, LEARNER, 0.0, (turn,), 0)
    return Episode(GAME, 0, (LEARNER,), (0.0,), (trajectory,), (0,), "finished")
