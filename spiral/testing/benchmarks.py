"""Checks a benchmark against the contract of `spiral.api.tasks.Task`: the questions, and the grades of replies."""

from __future__ import annotations

import pickle
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from spiral.api.tasks import Task
from spiral.testing.violations import Violation, doing, global_generators, is_finite, run_checks, short

BenchmarkFactory = Callable[[], Sequence[Task]]

JUNK = ("", " \n", "\x00", "\ud800", "I do not know.", "\\boxed{}", "\\boxed{", "<think>hm", "x" * 1_000_000)
"""Replies that answer no question."""
HOSTILE = (
    "9**9**9**9", "\\boxed{9^{9^{9^{9}}}}", "\\frac{" * 300, "\\boxed{" + "\\sqrt{" * 300 + "2" + "}" * 301, "(" * 5000,
    "$" * 5000, "{" * 200_000, "\\boxed{[" + "[" * 2000 + "]" * 2000 + "]}", "\\boxed{10000000000!}",
)  # fmt: skip
"""Replies that a parser or a calculator does not come to an end with."""
NUM_GRADED = 40
"""Tasks of a benchmark whose own answers are graded."""
NUM_TRIED = 3
"""Tasks that are given junk and hostile replies, which may take a grader to its limits of time each."""
LIMIT_S = 300.0
"""Seconds that one grade may take on a busy machine."""


def check_benchmark(factory: BenchmarkFactory, *, limit_s: float = LIMIT_S) -> list[str]:
    """The violations of a benchmark by `factory()`, a sentence each; [] if there are none.

    - It is a list of tasks, the same ones each time it is made; every one has an id of its own, a prompt and a gold
      answer, as text.
    - The gold answer is graded 1, by itself and in a box, and after a round trip through pickle too.
    - Junk is graded 0: an empty reply, a thought without an end, a megabyte of nothing.
    - `grade` gives a number from 0 to 1 for every text, twice the same and in every thread, raises nothing, and comes
      to an end: within `limit_s` seconds, of formulas that take for ever too.

    Example: `assert check_benchmark(lambda: MyQuestions(size=20)) == []`
    """
    tasks: list[Task] = []
    return run_checks(
        [lambda: tasks.extend(_made(factory))],
        [lambda: _check_members(tasks)],
        [partial(_check_made_again, factory, tasks)],
        [partial(_check_golds, tasks, limit_s)],
        [partial(_check_junk, tasks, limit_s)],
        [partial(_check_hostile, tasks, limit_s)],
    )


def _made(factory: BenchmarkFactory) -> list[Task]:
    with doing("making the benchmark"):
        made: Any = factory()
        tasks = [made[i] for i in range(len(made))]
    if not tasks:
        raise Violation("the benchmark has no task; return a list with one or more")
    return tasks


def _check_members(tasks: Sequence[Task]) -> Iterator[str]:
    ids: dict[str, int] = {}
    for number, task in enumerate(tasks):
        for member in ("id", "prompt", "gold"):
            value = getattr(task, member, None)
            if not isinstance(value, str) or not value.strip():
                yield f"{member} of task {number} is {short(value)}; make it a text that says something"
                return
        if not callable(getattr(task, "grade", None)):
            yield f"task {number} has no method grade; see spiral.Task"
            return
        if task.id in ids:
            yield f"tasks {ids[task.id]} and {number} have the id {short(task.id)}; give each its own"
            return
        ids[task.id] = number


def _check_made_again(factory: BenchmarkFactory, tasks: Sequence[Task]) -> None:
    """As another process makes it, whose global generators stand elsewhere."""
    with global_generators() as seed_globals:
        seed_globals(1_000_003)
        again = _made(factory)
    for one, two in zip(tasks, again, strict=False):
        for member in ("id", "prompt", "gold"):
            if getattr(one, member) != getattr(two, member):
                raise Violation(
                    f"made twice, {member} of {short(one.id)} is {short(getattr(one, member))} and "
                    f"{short(getattr(two, member))}; let nothing but the arguments decide which tasks there are"
                )
    if len(tasks) != len(again):
        raise Violation(
            f"made twice, the benchmark has {len(tasks)} and {len(again)} tasks; make the same ones each time"
        )


def _check_golds(tasks: Sequence[Task], limit_s: float) -> Iterator[str]:
    for task in _some(tasks, NUM_GRADED):
        with doing(f"pickling task {short(task.id)}"):
            copied = pickle.loads(pickle.dumps(task))
        for one, reply, how in (
            (task, task.gold, "by itself"),
            (task, f"\\boxed{{{task.gold}}}", "in a \\boxed{}, as replies mark it: read it with spiral.last_boxed"),
            (copied, task.gold, "after pickling"),
        ):
            if "{" in how and not _is_balanced(task.gold):
                continue
            grade = _graded(one, reply, limit_s)
            if grade != 1:
                yield f"the gold answer {short(task.gold)} of {short(task.id)} is graded {grade:g} {how}; grade it 1"
                return


def _check_junk(tasks: Sequence[Task], limit_s: float) -> Iterator[str]:
    for task in _some(tasks, NUM_TRIED):
        for reply in JUNK:
            grade = _graded(task, reply, limit_s)
            if grade != 0:
                yield f"{short(reply)} is graded {grade:g} as an answer to {short(task.id)}; grade what says nothing 0"
                return


def _check_hostile(tasks: Sequence[Task], limit_s: float) -> None:
    """Any grade will do, twice the same, as long as there is one."""
    for task in _some(tasks, 1):
        for reply in HOSTILE:
            _graded(task, reply, limit_s)


def _graded(task: Task, reply: str, limit_s: float) -> float:
    """Two equal grades, of a thread that is not the main one. Raises Violation."""
    grades = [_in_thread(task, reply, limit_s) for _ in range(2)]
    for grade in grades:
        if not is_finite(grade) or not 0 <= grade <= 1:
            raise Violation(f"grade({short(reply)}) of {short(task.id)} is {short(grade)}; return a number from 0 to 1")
    if grades[0] != grades[1]:
        raise Violation(
            f"grade({short(reply)}) of {short(task.id)} is {grades[0]:g} and then {grades[1]:g}; let the reply alone "
            "decide"
        )
    return float(grades[0])


def _in_thread(task: Task, reply: str, limit_s: float) -> Any:
    """In another thread, because graders that use signals fail there, and because one that hangs is left behind."""
    said: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def grade() -> None:
        try:
            said.put(task.grade(reply))
        except BaseException as error:
            said.put(error)

    threading.Thread(target=grade, daemon=True).start()
    try:
        answer = said.get(timeout=limit_s)
    except queue.Empty:
        raise Violation(
            f"grade({short(reply)}) of {short(task.id)} is not done after {limit_s:g} s; put a limit on its time"
        ) from None
    if isinstance(answer, BaseException):
        raise Violation(
            f"grade({short(reply)}) of {short(task.id)} raised {type(answer).__name__}: {answer}; grade any text, "
            "0 where it cannot be read"
        ) from answer
    return answer


def _some(tasks: Sequence[Task], most: int) -> list[Task]:
    """Up to `most` of them, from the first to the last."""
    return [tasks[i * len(tasks) // most] for i in range(most)] if len(tasks) > most else list(tasks)


def _is_balanced(text: str) -> bool:
    """Whether a box can hold a text, which a brace of its own would end."""
    depth = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0
