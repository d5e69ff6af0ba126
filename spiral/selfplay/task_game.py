"""A benchmark as a one-player game: a question is drawn, one free-text move is graded. RLVR trains on it like on any
other game, alone or in a mixture.
"""

from __future__ import annotations

import copy
import functools
import json
import random
from collections.abc import Sequence
from typing import Any

from spiral.api.games import QUESTION, IllegalMove
from spiral.api.tasks import Task
from spiral.plugins.registry import Plugins

FAMILY = "tasks"
"""The name of the family of games."""


class TaskGame:
    """One question. The return is the grade, from 0 to 1; a reply that cannot be read forfeits, which is 0 too.

    Games of one deal have the same question. `sample_move` gives the right answer to another question of the
    benchmark: warm start then teaches how answers look, and never which one is right.
    """

    num_players = 1
    perfect_information = True
    worst_return = 0.0
    rules = QUESTION

    def __init__(self, benchmark: str, args: str) -> None:
        """`args`: of the benchmark, as JSON."""
        self._from = benchmark, args
        self.tasks = _tasks(benchmark, args)
        """All that may be asked."""
        self.task: Task | None = None
        self._grade: float | None = None

    def reset(self, rng: random.Random) -> None:
        self.task, self._grade = rng.choice(self.tasks), None

    def current_player(self) -> int | None:
        return 0 if self._grade is None else None

    def observe(self, player: int) -> str:
        return self._asked().prompt

    def legal_moves(self) -> list[str] | None:
        return None if self._grade is None else []

    def play(self, move: str) -> None:
        if self._grade is not None:
            raise IllegalMove("the question is answered")
        self._grade = float(self._asked().grade(move))

    def returns(self) -> list[float]:
        return [self._grade or 0.0]

    def sample_move(self, rng: random.Random) -> str:
        """The right answer to a random question of the benchmark."""
        return rng.choice(self.tasks).gold

    def __deepcopy__(self, memo: dict[int, Any]) -> TaskGame:
        return copy.copy(self)  # tasks never change

    def __getstate__(self) -> dict[str, Any]:
        """Without the tasks, which each process makes for itself."""
        return {key: value for key, value in self.__dict__.items() if key != "tasks"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.tasks = _tasks(*self._from)

    def _asked(self) -> Task:
        assert self.task is not None  # reset comes first, as of every game
        return self.task


def task_game(benchmark: str, **args: Any) -> TaskGame:
    """A question of an installed benchmark, such as jsonl or reasoning_gym/chain_sum, whose arguments it takes.

    Raises PluginError for a benchmark that is not installed or does not take them.
    """
    return TaskGame(benchmark, json.dumps(args, sort_keys=True))


def benchmark_names() -> list[str]:
    """Every installed benchmark, and the members of families."""
    return [
        name
        for r in Plugins.installed().registrations()
        if r.kind == "benchmark"
        for name in ([f"{r.name}/{member}" for member in r.members()] if r.members else [r.name])
    ]


@functools.lru_cache(maxsize=64)
def _tasks(benchmark: str, args: str) -> Sequence[Task]:
    """The tasks of a benchmark, made once a process: a match of its own begins each time one is played."""
    made = Plugins.installed().make("benchmark", benchmark, **json.loads(args))
    return tuple(made[i] for i in range(len(made)))
