"""Graded replies a minute on two processors: mathematics, generators of reasoning-gym, options, numbers.

Replies are graded as a bench grades them, by threads that ask the processes of the pool, and counted by processor time
of this process and those together, so that what else the machine does is left out. A third of the replies are right as
the gold answer is written, a third in other words, a third wrong by a digit. Those of mathematics are the solutions of
MATH-500, with an answer in a box, or in words, in its place: SPIRAL_TASKS_DIR names the folder of its file.
"""

from __future__ import annotations

import json
import os
import re
import resource
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter, process_time

from spiral_tasks.generated import generated
from spiral_tasks.grading.graders import ChoiceGrader, NumberGrader
from spiral_tasks.grading.pool import pool
from spiral_tasks.known_sets import KnownBenchmark
from spiral_tasks.question import Question

from perf.measure import Figure, say
from spiral.evaluation.benchmarks.asking import GRADERS

TARGET, CORES = 10_000, 2
NUM = 600
"""Replies of a kind."""

Job = tuple[Question, str]
_BOX = re.compile(r"\\boxed")


def figures(num: int = NUM) -> Iterator[Figure]:
    """A figure a kind of reply; what needs a file that is not there is left out and told."""
    folder = os.environ.get("SPIRAL_TASKS_DIR")
    if folder and (file := Path(folder) / "math500.jsonl").is_file():
        yield _measured("math, boxed", mathematics(file, num, _boxed))
        yield _measured("math, in words", mathematics(file, num, _worded))
    else:
        say("   mathematics is left out: SPIRAL_TASKS_DIR names no folder with math500.jsonl")
    for name in ("chain_sum", "countdown"):
        tasks = generated(name, size=max(3, num // 6), seed=0)
        yield _measured(f"reasoning_gym/{name}", _replies(tasks, num, _boxed, [_thought(task) for task in tasks]))
    options = ("12", "13", "14", "none of these")
    choices = [Question(str(n), "?", "ABCD"[n % 4], ChoiceGrader(options)) for n in range(num)]
    yield _measured(
        "choice", [(task, f"{_thought(task)}\nThe answer is ({'ABCD'[n % 3]}).") for n, task in enumerate(choices)]
    )
    numbers = [Question(str(n), "?", str(n), NumberGrader()) for n in range(num)]
    yield _measured("number", _replies(numbers, num, _boxed, [_thought(task) for task in numbers]))


def mathematics(file: Path, num: int, write: Callable[[str, str], str]) -> list[Job]:
    """Replies to MATH-500."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    tasks = KnownBenchmark("math500")(str(file), pinned=False)
    return _replies(tasks, num, write, [_BOX.split(row["solution"])[0] for row in rows])


def wrong(gold: str, number: int) -> str:
    """The gold answer with one of its digits raised, or with one more."""
    digits = [match.start() for match in re.finditer(r"\d", gold)]
    if not digits:
        return f"{gold}{number % 10}"
    place = digits[number % len(digits)]
    return f"{gold[:place]}{(int(gold[place]) + 1) % 10}{gold[place + 1 :]}"


def _replies(tasks: Sequence[Question], num: int, write: Callable[[str, str], str], before: Sequence[str]) -> list[Job]:
    made = []
    for number in range(num):
        # Not one kind of answer for every third question alone.
        index, kind = number % len(tasks), (number + number // len(tasks)) % 3
        gold = tasks[index].gold
        answer = (gold, f"x = {gold}", wrong(gold, number))[kind]
        made.append((tasks[index], write(before[index], answer)))
    return made


def _boxed(before: str, answer: str) -> str:
    return f"{before}\nSo the answer is $\\boxed{{{answer}}}$."


def _worded(before: str, answer: str) -> str:
    return f"{before}\nThe final answer is ${answer}$."


def _thought(task: Question) -> str:
    return f"{task.prompt}\n" + "Let us go on step by step, and check each number that is used. " * 20


def _measured(name: str, jobs: Sequence[Job]) -> Figure:
    warm = jobs[:8]
    with ThreadPoolExecutor(GRADERS) as threads:
        list(threads.map(_grade, warm))  # the workers import
        begun, wall = _processor_s(), perf_counter()
        grades = list(threads.map(_grade, jobs))
        took, wall = _processor_s() - begun, perf_counter() - wall
    detail = {
        "replies": len(jobs),
        "right": sum(grade == 1 for grade in grades),
        "characters": sum(len(reply) for _, reply in jobs) / len(jobs),
        "cpu_ms": 1e3 * took / len(jobs),
        "a_minute_of_this_machine": 60 * len(jobs) / wall,
    }
    return Figure(f"grading {name}", CORES * 60 * len(jobs) / took, "graded/min, 2 cores", TARGET, detail=detail)


def _grade(job: Job) -> float:
    return job[0].grade(job[1])


def _processor_s() -> float:
    """Of this process, of the pool's workers, and of those that a limit ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = 0
    for pid in pool().pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return process_time() + ended.ru_utime + ended.ru_stime + ticks / os.sysconf("SC_CLK_TCK")
