"""Asking an engine: it is kept full, grading runs beside it, and what cannot be asked or graded is told and counted."""

import threading
import time

import pytest

from spiral.api.errors import RunError, SpiralError
from spiral.api.games import QUESTION
from spiral.api.records import LEARNER, Continuation
from spiral.config.schema import RolloutConfig
from spiral.engines.forcing import ForcingEngine
from spiral.evaluation.benchmarks import asking as module
from spiral.evaluation.benchmarks.asking import Asker, reply_limit
from spiral.evaluation.benchmarks.benchmark import Asking, Benchmark
from spiral.models.prompt_cache import Prompter
from spiral.seeds import derive
from spiral.testing.fakes import ScriptedEngine

STOP = 0


class Characters:
    """A prompt format in which each character is an id; an answer ends in a full stop."""

    stop_ids = (STOP,)

    def encode(self, rules, observation, moves=None, turns=()):
        return [ord(c) for c in observation]

    def reply(self, move):
        return None

    def read(self, reply):
        text = decode(reply)
        return text if "." in text else None


class Sum:
    """Right is the sum of the two digits in the prompt."""

    def __init__(self, name, prompt, grade=None):
        self.id, self.prompt, self.gold, self._grade = name, prompt, str(int(prompt[0]) + int(prompt[1])), grade

    def grade(self, reply):
        return self._grade(reply) if self._grade else float(reply.rstrip(".") == self.gold)


def decode(ids):
    return "".join(chr(i) for i in ids if i != STOP)


def answer(request):
    """The right sum of all prompts but `1...`, whose sum is one too much."""
    one, other = (int(chr(i)) for i in request.prompt[:2])
    return [*map(ord, f"{one + other + (one == 1)}."), STOP]


def ask(tasks, engine=None, seed=7, known=(), **asked):
    engine = engine or ScriptedEngine(answer)
    asker = Asker("model", engine, LEARNER, Prompter(Characters()), decode, RolloutConfig(deadline_s=60))
    benchmark = Benchmark("sums", tuple(tasks), Asking(max_new_tokens=8, **asked), "")
    replies = [reply for part in asker.ask([*asker.questions(benchmark, known)], seed) for reply in part]
    order = [task.id for task in tasks]
    return sorted(replies, key=lambda reply: (order.index(reply.task), reply.sample))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(module, "IN_FLIGHT", 6)


def test_a_reply_is_graded_and_kept_whole():
    """Text without its end, tokens with it, whether an answer is there, and how it ended."""
    [right, wrong] = sorted(ask([Sum("a", "23"), Sum("b", "12")]), key=lambda reply: reply.task)
    assert (right.text, right.grade, right.right, right.finish, right.readable) == ("5.", 1.0, True, "stop", True)
    assert (right.prompt_tokens, right.reply_tokens) == (2, 3)
    assert (wrong.text, wrong.grade, wrong.right) == ("4.", 0.0, False)


def test_a_task_that_reads_answers_says_what_is_readable():
    """Whatever form the prompt asks for: `5` alone has no full stop, and `5.` is none of this task's answers."""

    class Strict(Sum):
        def read(self, reply):
            return reply if reply.isdecimal() else None

    for reply, readable in (("5", True), ("5.", False)):
        engine = ScriptedEngine(lambda request, reply=reply: [*map(ord, reply), STOP])
        assert [one.readable for one in ask([Strict("a", "23")], engine)] == [readable]


def test_a_reply_that_is_cut_is_graded_as_it_is():
    engine = ScriptedEngine(lambda request: [ord("5")] * 20)
    [reply] = ask([Sum("a", "23", grade=lambda text: float(text == "55555555"))], engine)
    assert (reply.finish, reply.grade, reply.readable) == ("length", 1.0, False)


def test_a_seed_depends_on_the_question_and_the_sample_alone():
    """Not on the order of the questions, on what else is asked, or on what is known already."""
    tasks = [Sum("a", "23"), Sum("b", "12"), Sum("c", "34")]
    seeds = {(r.task, r.sample): r.seed for r in ask(tasks, samples=2)}
    assert seeds["b", 1] == derive(7, "bench", "b", 1)
    assert len(set(seeds.values())) == 6
    some = ask(
        tasks[::-1], known={("model", "sums", "a", 0), ("model", "sums", "b", 0), ("model", "sums", "b", 1)}, samples=2
    )
    assert {(r.task, r.sample): r.seed for r in some} == {
        k: v for k, v in seeds.items() if k[0] == "c" or k == ("a", 1)
    }
    assert ask(tasks, seed=8, samples=1)[0].seed not in seeds.values()


def test_what_another_model_replied_is_asked_again():
    """The prompt alone says nothing of who was asked: of two models' kept replies each finds its own."""
    tasks = [Sum("a", "23"), Sum("b", "12")]
    known = {("other", "sums", "a", 0), ("other", "sums", "b", 0), ("model", "sums", "b", 0)}
    assert [reply.task for reply in ask(tasks, known=known)] == ["a"]


def test_sampling_is_greedy_for_one_reply_and_not_for_several():
    for samples, asked, wanted in (
        (1, {}, 0.0),
        (3, {}, 0.6),
        (1, {"temperature": 0.3}, 0.3),
        (2, {"top_p": 0.9}, 0.6),
    ):
        engine = ScriptedEngine(answer)
        ask([Sum("a", "23")], engine, samples=samples, **asked)
        assert {r.sampling.temperature for r in engine.requests} == {wanted}
        assert {r.sampling.top_p for r in engine.requests} == {asked.get("top_p", 1.0)}
        assert len(engine.requests) == samples


def test_the_engine_is_kept_full(small):
    """As long as there are questions it has as many requests as it may have; all replies to one question come to it
    together, which may be more."""

    class OneByOne(ScriptedEngine):
        def __init__(self):
            super().__init__(answer)
            self.loads, self.ready = [], []

        def step(self):
            self.ready += super().step()
            self.loads.append(len(self.ready))
            return [self.ready.pop(0)]

    engine = OneByOne()
    replies = ask([Sum(str(n), f"{n % 10}1") for n in range(20)], engine, samples=2)
    assert len(replies) == 40
    assert set(engine.loads[:34]) <= {6, 7}
    assert engine.loads[-1] == 1
    assert [r.id for r in engine.requests] == list(range(40))
    assert all(a.prompt == b.prompt for a, b in zip(engine.requests[::2], engine.requests[1::2], strict=True))


def test_slow_graders_do_not_hold_the_engine_up(small):
    """Each grader waits until the engine was given the last question: one that held it up would wait for ever."""
    last = threading.Event()

    class Watched(ScriptedEngine):
        def submit(self, request):
            super().submit(request)
            if len(self.requests) == 30:
                last.set()

    engine = Watched(answer)
    replies = ask([Sum(str(n), f"{n % 10}1", grade=lambda text: float(last.wait(20))) for n in range(30)], engine)
    assert [reply.grade for reply in replies] == [1.0] * 30


class Killed(BaseException):
    """What ends the program."""


class Stopping(ScriptedEngine):
    """One reply a step, and the end of the program where the 21st would come, each once `count()` grades are there."""

    def __init__(self, count):
        super().__init__(answer)
        self._count, self._replied, self._ready = count, 0, []

    def step(self):
        deadline = time.monotonic() + 20
        while self._count() < self._replied and time.monotonic() < deadline:
            time.sleep(0.001)
        if self._replied == 20:
            raise Killed
        self._ready += super().step()
        self._replied += 1
        return [self._ready.pop(0)]


def killed(tasks, engine):
    """The replies that were handed out until then."""
    kept = []
    asker = Asker("model", engine, LEARNER, Prompter(Characters()), decode, RolloutConfig(deadline_s=60))
    parts = asker.ask([*asker.questions(Benchmark("sums", tuple(tasks), Asking(max_new_tokens=8), ""))], 7)
    with pytest.raises(Killed):
        kept.extend(reply.task for part in parts for reply in part)
    return kept


@pytest.fixture
def in_fours(monkeypatch):
    monkeypatch.setattr(module, "HANDED_OUT", 4)
    monkeypatch.setattr(module, "HANDED_OUT_S", 1e6)


def test_a_killed_bench_loses_at_most_one_batch_of_what_was_replied(small, in_fours):
    """Batches of four here: of twenty replies all but a batch, and those that are just being graded, are handed out, to be
    written, when the end comes."""
    grades = []
    tasks = [Sum(str(n), f"{n % 10}1", grade=lambda text: grades.append(text) or 1.0) for n in range(40)]
    kept = killed(tasks, Stopping(lambda: len(grades)))
    assert len(set(kept)) == len(kept) >= 20 - 4 - 2


def test_a_grader_that_takes_long_keeps_no_other_reply_from_being_written(small, in_fours):
    """The first reply is not graded before the end; a kill loses it, and none of those behind it but one batch."""
    grades, end = [], threading.Event()

    def grade(text):
        grades.append(text)
        return 1.0

    tasks = [Sum("0", "01", grade=lambda text: float(end.wait(20)))]
    tasks += [Sum(str(n), f"{n % 10}1", grade=grade) for n in range(1, 40)]
    kept = killed(tasks, Stopping(lambda: len(grades) + 1))
    end.set()
    assert len(set(kept)) == len(kept) >= 19 - 4 - 2
    assert "0" not in kept


@pytest.mark.parametrize(
    ("grade", "problem"),
    [
        (lambda text: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda text: 1.5, "grade() returned 1.5, and must be from 0 to 1"),
        (lambda text: float("nan"), "grade() returned nan, and must be from 0 to 1"),
        (lambda text: None, "TypeError: float() argument must be a string or a real number, not 'NoneType'"),
    ],
)
def test_a_grader_that_fails_is_neither_right_nor_wrong(grade, problem):
    failed, fine = sorted(ask([Sum("a", "23", grade), Sum("b", "23")]), key=lambda reply: reply.task)
    assert (failed.grade, failed.right, failed.problem) == (None, False, problem)
    assert fine.grade == 1.0


def test_a_question_without_room_is_wrong_and_says_why():
    """Never cut: the engine is not asked, and every sample counts."""
    engine = ScriptedEngine(answer)
    engine.context = 20
    replies = ask([Sum("long", "23" + "x" * 11), Sum("fits", "23" + "x" * 10)], engine, samples=2)
    none = [reply for reply in replies if reply.task == "long"]
    assert [(r.grade, r.finish, r.text, r.sample) for r in none] == [(0.0, "no room", "", 0), (0.0, "no room", "", 1)]
    assert none[0].problem == "13 tokens and a reply of 8 have no room in the model's context of 20"
    assert {len(request.prompt) for request in engine.requests} == {12}


def test_the_longest_reply_leaves_the_question_half_of_a_short_context():
    engine = ScriptedEngine(answer)
    assert reply_limit(None, engine) == module.REPLY_LIMIT
    engine.context = 128
    assert (reply_limit(None, engine), reply_limit(100, engine)) == (64, 100)
    with pytest.raises(SpiralError, match="replies of 128 tokens leave no room for a question in .* context of 128"):
        reply_limit(128, engine)


def test_a_format_that_limits_thoughts_needs_room_for_them():
    """And what it puts into a reply is no sampled token."""

    class Limits(Characters):
        min_new_tokens = 6

        def continuation(self, reply):
            return Continuation(num_tokens=2) if not reply else Continuation((ord("."),))

    limits = Prompter(Limits())
    engine = ForcingEngine(
        ScriptedEngine(lambda r: [ord("5"), ord("5")] if len(r.prompt) == 2 else [STOP]), limits.continuation
    )
    asker = Asker("model", engine, LEARNER, limits, decode, RolloutConfig())
    [[reply]] = [
        part
        for part in asker.ask([*asker.questions(Benchmark("b", (Sum("a", "23"),), Asking(max_new_tokens=8), ""))], 0)
        if part
    ]
    assert (reply.text, reply.reply_tokens) == ("55.", 3)
    with pytest.raises(SpiralError, match="replies of up to 6 tokens, and those to b may have 5"):
        list(asker.questions(Benchmark("b", (Sum("a", "23"),), Asking(max_new_tokens=5), "")))


def test_an_engine_that_answers_nothing_is_named(monkeypatch):
    """After the run's deadline, which is for replies of the run's length and grows with longer ones."""
    clock = iter(range(0, 100_000, 50))
    monkeypatch.setattr("spiral.engines.waiting.time.monotonic", lambda: next(clock))
    engine = ScriptedEngine(answer, delay=10_000)
    asker = Asker(
        "model", engine, LEARNER, Prompter(Characters()), decode, RolloutConfig(deadline_s=60, max_new_tokens=4)
    )
    benchmark = Benchmark("sums", (Sum("a", "23"),), Asking(max_new_tokens=8), "")
    with pytest.raises(RunError, match="finished no reply for 120 s, waiting for 1 replies of model"):
        list(asker.ask([*asker.questions(benchmark)], 0))


def test_a_format_may_have_words_of_its_own_for_questions():
    """`encode` is told by the rules that it is a question, and `said`, where a format has it, is what is graded."""

    class Asks(Characters):
        def encode(self, rules, observation, moves=None, turns=()):
            return [*map(ord, observation), ord("?" if rules == QUESTION else "!")]

        def said(self, reply):
            return f"<think>{decode(reply)}"

    engine = ScriptedEngine(answer)
    asker = Asker("model", engine, LEARNER, Prompter(Asks()), decode, RolloutConfig())
    benchmark = Benchmark("sums", (Sum("a", "23"),), Asking(max_new_tokens=8), "")
    [[reply]] = [part for part in asker.ask([*asker.questions(benchmark)], 0) if part]
    assert decode(engine.requests[0].prompt) == "23?"
    assert reply.text == "<think>5."
