"""The kit's check of benchmarks: each promise has a list of tasks that breaks it, and the sentence says how."""

import random
import re
import signal
import time
from dataclasses import dataclass

import pytest

from spiral import last_boxed
from spiral.testing import check_benchmark


@dataclass(frozen=True)
class Sum:
    """a + b: a task as an author may write it."""

    id: str
    prompt: str
    gold: str

    def grade(self, reply):
        return float((last_boxed(reply) or reply.strip()) == self.gold)


class Raising(Sum):
    def grade(self, reply):
        return float(int(last_boxed(reply) or reply) == int(self.gold))


class Bare(Sum):
    def grade(self, reply):
        return float(reply == self.gold)


class Generous(Sum):
    """Credit for what cannot be read."""

    def grade(self, reply):
        return super().grade(reply) or 0.1


class Wrong(Sum):
    def grade(self, reply):
        return float((last_boxed(reply) or reply) == self.gold + " ")


class Loose(Sum):
    def grade(self, reply):
        return 2.0 * super().grade(reply)


class Verdict(Sum):
    def grade(self, reply):
        return "right" if super().grade(reply) else "wrong"


class Drawing(Sum):
    """Of a generator of its own: equal global seeds do not help."""

    generator = random.Random(0)

    def grade(self, reply):
        return super().grade(reply) or self.generator.random() * bool(reply.strip())


class Hanging(Sum):
    def grade(self, reply):
        if len(reply) > 4000 or "frac" in reply:
            time.sleep(3600)
        return super().grade(reply)


class Signals(Sum):
    """A limit of time by a signal, which only the main thread may set."""

    def grade(self, reply):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        return super().grade(reply)


class Unpickled(Sum):
    def __reduce__(self):
        raise TypeError("a lock cannot be pickled")


def tasks(kind=Sum, num=5):
    return [kind(f"sum-{n}", f"{n} + 1 =", str(n + 1)) for n in range(num)]


def test_a_list_of_questions_with_golds_keeps_the_promises():
    assert check_benchmark(tasks) == []


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Wrong, "the gold answer '1' of 'sum-0' is graded 0 by itself; grade it 1"),
        (Bare, r"the gold answer '1' of 'sum-0' is graded 0 in a \\boxed\{\}, as replies mark it"),
        (Generous, "'' is graded 0.1 as an answer to 'sum-0'; grade what says nothing 0"),
        (Raising, r"grade\(''\) of 'sum-0' raised ValueError"),
        (Loose, r"grade\('1'\) of 'sum-0' is 2.0; return a number from 0 to 1"),
        (Verdict, r"grade\('1'\) of 'sum-0' is 'right'; return a number from 0 to 1"),
        (Drawing, r"is 0\.\d+ and then 0\.\d+; let the reply alone decide"),
        (Hanging, r"grade\(.*\) of 'sum-0' is not done after 0.2 s; put a limit on its time"),
        (Signals, r"grade\('1'\) of 'sum-0' raised ValueError: signal only works in main thread"),
        (Unpickled, "pickling task 'sum-0' raised TypeError: a lock cannot be pickled"),
    ],
)
def test_a_grade_that_breaks_its_promise(kind, told):
    violations = check_benchmark(lambda: tasks(kind), limit_s=0.2)
    assert len(violations) == 1
    assert re.search(told, violations[0]), violations


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ([], "the benchmark has no task; return a list with one or more"),
        ([Sum("a", "1 + 1", "2"), Sum("a", "1 + 2", "3")], "tasks 0 and 1 have the id 'a'; give each its own"),
        ([Sum("a", "1 + 1", "")], "gold of task 0 is ''; make it a text that says something"),
        ([Sum("a", "1 + 1", 2)], "gold of task 0 is 2; make it a text that says something"),
        ([Sum("a", " ", "2")], "prompt of task 0 is ' '; make it a text that says something"),
        ([Sum(7, "1 + 1", "2")], "id of task 0 is 7; make it a text that says something"),
        (["1 + 1"], "id of task 0 is None; make it a text that says something"),
    ],
)
def test_a_list_that_breaks_its_promise(made, told):
    assert check_benchmark(lambda: made) == [told]


def test_a_list_that_is_drawn_anew_each_time():
    """Also one from the global generator: another process is seeded otherwise."""

    def shuffled():
        return random.sample(tasks(num=20), 20)

    (violation,) = check_benchmark(shuffled)
    assert re.fullmatch(r"made twice, id of 'sum-\d+' is .* let nothing but the arguments decide .*", violation)


def test_a_list_that_grows():
    lengths = iter((3, 4))
    assert check_benchmark(lambda: tasks(num=next(lengths))) == [
        "made twice, the benchmark has 3 and 4 tasks; make the same ones each time"
    ]


def test_a_benchmark_that_cannot_be_made():
    def broken():
        raise OSError("no such file")

    assert check_benchmark(broken) == ["making the benchmark raised OSError: no such file"]
