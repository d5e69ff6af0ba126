"""Grading by math-verify in its processes: what is right, what only looks right, and what never ends."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from spiral_tasks.grading import graders
from spiral_tasks.grading.graders import MathGrader
from spiral_tasks.grading.pool import WALL_S, Pool, Raised, Ungraded, Worker, pool
from spiral_tasks.question import Question

from spiral import SpiralError

pytest.importorskip("math_verify")

RIGHT = [
    ("3", "3"), ("025", "25"), ("70", "070"), ("400,000", "400000"), (r"\frac12", "0.5"), ("0.5", r"\frac{1}{2}"),
    ("1.87e6", r"1.87 \times 10^{6}"), (r"1.87 \times 10^{6}", "1.87e6"), ("-1./3", r"-\frac13"),
    (r"\{1, 2\}", r"\{2,1\}"), (r"\left\{1, 2\right\}", "2, 1"), (r"\{(1,2),(3,4)\}", "(3,4), (1,2)"),
    (r"1 - 1/\mathrm{e}", "1 - 1/e"), (r"4\sqrt{2}", r"4\sqrt(2)"), (r"\frac{1}{2004!}", "1/2004!"), ("2, 1", "1, 2"),
    (r"10\%", "0.1"), (r"90^\circ", "90"), ("x=5", "5"), ("5", "x=5"), (r"\$18", "18"), ("0.0000001", "1e-7"),
    (r"\text{Evelyn}", "evelyn"), (r"2\sqrt{3}", r"\sqrt{12}"), (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"),
    ("$69$,$84$", "84, 69"), (r"x^2+2x+1", r"(x+1)^2"), (r"11\text{ cm}", "11"),
    (r"15\mbox{ cm}^2", r"15\text{ cm}^2"), (r"15\mbox{ cm}^2", "15 cm^2"), (r"15\mbox{ cm}^2", "15"),
    (r"15\mbox{ cm}^2", r"15\text{ square centimeters}"), ("15", r"15\text{ m}^2"), (r"25\pi", r"25\pi\text{cm}^2"),
    ("9.8", r"9.8\text{ m/s}^2"), ("9.8", r"9.8 \mathrm{~m} / \mathrm{s}^{2}"), ("2e", r"2\mathrm{e}"),
]  # fmt: skip
"""(gold, answer) that are the same."""

WRONG = [
    ("3", "4"), (r"1 - 1/\mathrm{e}", r"1 + 1/\mathrm{e}"), ("4", r"4\sqrt(2)"), ("4", r"4\sqrt{2}"),
    (r"1, 2, \ldots, n", r"1, 3, 5, \ldots, 2n-1"), ("3x-y+13=0", "3x+4y+14=0"), ("1/2^99", "1/2^98"),
    (r"\{1,2\}", "(2,1)"), ("{1,2}", "(1,2)"), ("(2,1)", r"\{1,2\}"), ("(1,2)", r"\left\{ 1,2 \right\}."),
    (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"), ("1/2004!", "1/2006!"), ("(1,2)", "(2,1)"), ("0.0000001", "0.0000002"),
    ("1.87e6", "1870001"), (r"\text{Evelyn}", "Evleyn"), ("1, 2", "2"), ("(0, 2]", "(0, 2)"), ("52_8", "52_9"),
    (r"\frac{1}{3}", "0.333"), ("p - q", "q - p"), (r"\sqrt{5}", "5"), ("12", ""), ("12", r"\text{none}"),
    (r"c^{2}\left(\gamma^{2}-1\right)", r"c^{2}\left(\gamma^{2}-2\right)"),
    (r"15\mbox{ cm}^2", r"15\mbox{ cm}^3"), (r"15\mbox{ cm}^2", r"15\text{ cubic cm}"), ("864 inches^2", "864 feet^2"),
    (r"15\mbox{ cm}^2", r"16\text{ cm}^2"), ("15m^2", "15"), ("2", r"2\mathrm{e}"),
]  # fmt: skip
"""(gold, answer) that math-verify 0.9.0 takes for the same in one form or another, or that plainly are not."""

PROSE = [
    ("18", "She makes 9 * 2 = 18 dollars.\nThe answer is 18.", 1), ("18", "#### 18", 1), ("18", "It is 17, not 18, so\n17", 0),
    (r"\frac{1}{2}", r"I get $x = \frac12$.", 1), (r"\frac{1}{2}", "The final answer is 0.5", 1), ("70", "So **70**", 1),
    ("3x-y+13=0", "The line is 3x+4y+14=0", 0), ("5", "so x = 5 or 6.\nI think 6", 0), (r"\text{east}", "The answer is east.", 1),
]  # fmt: skip


@pytest.fixture(scope="module")
def impatient():
    """A pool whose limit is short, for what runs into it."""
    made = Pool(1, cpu_s=0.5)
    yield made
    made.close()


def grade(gold, reply, tolerance=None):
    return MathGrader(tolerance).grade(gold, reply)


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_the_same_in_another_form(gold, answer):
    assert grade(gold, answer) == grade(gold, rf"So it is $\boxed{{{answer}}}$.") == grade(gold, gold) == 1


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_another_answer(gold, answer):
    assert grade(gold, answer) == grade(gold, rf"So it is $\boxed{{{answer}}}$.") == 0


@pytest.mark.parametrize(("gold", "reply", "graded"), PROSE)
def test_words_without_a_mark(gold, reply, graded):
    assert grade(gold, reply) == graded


def test_a_number_within_its_tolerance():
    """As one row of OlympiadBench asks."""
    assert [grade("4.2", text, 0.1) for text in ("4.2", "4.29", "4.1", "4.31", "-4.2", "four")] == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    "reply",
    [
        "x" * 1_000_000, "\x00", "\ud800", "\\boxed{\ud800}", "\\frac{" * 500, "\\boxed{" + "(" * 1500 + ")" * 1500 + "}",
        "\\boxed{" * 2000, "$" * 4000, "1 " * 100_000, "\\boxed{\\frac{\\frac{\\frac{}}}}", "answer is " * 5000,
    ],
)  # fmt: skip
def test_a_hostile_reply_is_graded_0(reply, impatient, monkeypatch):
    monkeypatch.setattr(graders, "pool", lambda: impatient)
    assert Question("q", "?", "12", MathGrader()).grade(reply) == 0


@pytest.mark.parametrize("bomb", ["9**9**9**9", "\\boxed{9^{9^{9^{9}}}}", "= 9^9^9^9"])
def test_a_tower_of_powers_is_graded_0(bomb, impatient, monkeypatch):
    """The parser reads some of them, and the comparison would never come to an end."""
    monkeypatch.setattr(graders, "pool", lambda: impatient)
    assert Question("q", "?", "12", MathGrader()).grade(bomb) == 0


def test_what_computes_for_ever_ends_at_the_limit_of_processor_time():
    """The process is killed, whatever it does, and the next answer is graded by another."""
    small = Pool(1, cpu_s=0.2)
    try:
        with pytest.raises(Ungraded, match="limit of processor time or memory"):
            small.ask("eval", "[0 for _ in iter(int, 1)]")
        assert small.ask("text", "a", "a") == 1
    finally:
        small.close()


def test_what_computes_is_not_ended_by_a_busy_machine():
    """Beyond the limit of waiting it goes on to that of processor time, which a machine with no processor to spare
    does not use up."""
    small = Pool(1, cpu_s=0.5, wall_s=0.05)
    try:
        assert small.ask("eval", "sum(range(5 * 10**6)) > 0") == 1
        with pytest.raises(Ungraded, match="limit of processor time or memory"):
            small.ask("eval", "[0 for _ in iter(int, 1)]")
    finally:
        small.close()


def test_what_takes_all_memory_ends_at_the_limit_of_memory():
    small = Pool(1)
    try:
        with pytest.raises(Ungraded):
            small.ask("eval", "bytearray(3 << 30)")
        assert small.ask("text", "a", "a") == 1
    finally:
        small.close()


def test_replies_that_hang_cost_their_own_grades_alone():
    """Five hang both workers of a pool again and again: each is named as late, the hundred after them are graded, and
    two workers live."""
    two = Pool(2, wall_s=0.2)

    def graded(job):
        try:
            return two.ask(*job)
        except Ungraded as error:
            return str(error)

    try:
        with ThreadPoolExecutor(2) as threads:
            assert [*threads.map(graded, [("pause",)] * 5)] == ["took more than 0.2 s"] * 5
            two._wall_s = WALL_S  # the machine may be busy
            assert [*threads.map(graded, [("text", "a", "a")] * 100)] == [1.0] * 100
        assert two.num_alive == 2
    finally:
        two.close()
    assert two.num_alive == 0


BROKEN = {
    "a package is missing": {"sympy": "raise ImportError('no sympy here')"},
    "a library fails on every answer": {
        "sympy": "class Basic: pass\nExpr = Basic",
        "math_verify": "LatexExtractionConfig = ExprExtractionConfig = dict\nparse = lambda *args, **more: [1]\n"
        "def verify(*args, **more): raise ValueError('signal only works in main thread')",
    },
    "a library says that nothing is right": {
        "sympy": "class Basic: pass\nExpr = Basic",
        "math_verify": "LatexExtractionConfig = ExprExtractionConfig = dict\nparse = verify = lambda *args, **more: []",
    },
}


@pytest.mark.parametrize("modules", BROKEN.values(), ids=BROKEN)
def test_a_grader_that_does_not_work_calls_no_answer_wrong(modules, tmp_path, monkeypatch):
    """It says so: a run stops, and a bench counts the reply as neither right nor wrong."""
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    broken = Pool(1)
    monkeypatch.setattr(graders, "pool", lambda: broken)
    try:
        with pytest.raises(
            SpiralError, match=r"replies to q-7 cannot be graded, right ones neither: .* cannot begin \("
        ):
            Question("q-7", "?", "1/2", MathGrader()).grade("0.5")
        assert broken.ask("text", "a", "a") == 1
    finally:
        broken.close()


def test_an_error_in_a_grader_costs_no_process():
    one = Pool(1)
    try:
        assert one.ask("text", "a", "b") == 0
        (before,) = one._workers
        with pytest.raises(Raised, match="raised"):
            one.ask("text", "a")
        assert one.ask("text", "a", "a") == 1
        assert one._workers == [before]
    finally:
        one.close()


def test_a_worker_that_ended_while_idle_is_replaced():
    one = Pool(1)
    try:
        assert one.ask("text", "a", "a") == 1
        one._workers[0]._process.kill()
        one._workers[0]._process.wait()
        assert one.ask("text", "a", "a") == 1
    finally:
        one.close()


def test_a_worker_that_dies_before_it_begins_costs_no_grade(monkeypatch):
    """The job goes to another one."""
    one = Pool(1)
    try:
        assert one.ask("text", "a", "a") == 1
        one._workers[0]._process.kill()
        one._workers[0]._process.wait()
        monkeypatch.setattr(Worker, "is_alive", lambda self: True)  # as if it died a moment later
        assert one.ask("text", "a", "a") == 1
    finally:
        one.close()


def test_many_threads_grade_at_once():
    """A limit by signals fails in every thread but the main one, and every answer would be wrong."""
    grades = {}

    def work(n):
        grades[n] = [grade(str(n), f"\\frac{{{2 * n}}}{{2}}"), grade(str(n), f"\\frac{{{2 * n + 1}}}{{2}}")]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert grades == {n: [1.0, 0.0] for n in range(2, 8)}


def test_a_forked_process_has_workers_of_its_own():
    """It must not answer on its parent's pipes, nor keep them open."""
    assert pool().ask("text", "a", "a") == 1
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            alone = pool().num_alive == 0
            os.write(write, b"1" if alone and pool().ask("text", "a", "a") == 1 else b"0")
            pool().close()
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert os.read(read, 1) == b"1"
    os.close(read)
    assert pool().ask("text", "a", "a") == 1


def test_a_program_in_a_reply_does_no_harm(tmp_path):
    """An answer that a grader evaluates opens no file to write, starts no program and ends at a limit."""
    target = tmp_path / "owned"
    one = Pool(1)
    try:
        for code in (f"open({str(target)!r}, 'w')", f"__import__('os').system('touch {target}')"):
            with pytest.raises(Raised, match="PermissionError"):
                one.ask("eval", code)
    finally:
        one.close()
    assert not target.exists()
