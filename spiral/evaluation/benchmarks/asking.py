"""Asks an engine questions and grades what it replies: the engine is kept full, and grading runs beside it."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import SimpleQueue

from spiral.api.errors import PromptTooLong, SpiralError
from spiral.api.games import QUESTION
from spiral.api.progress import Phase, Progress, no_progress
from spiral.api.records import Completion, PolicyId, Request, Sampling
from spiral.api.tasks import Task
from spiral.api.training import Engine, check_room
from spiral.config.schema import RolloutConfig
from spiral.engines.waiting import Deadline
from spiral.evaluation.benchmarks.benchmark import Benchmark
from spiral.evaluation.benchmarks.replies import Key, Reply
from spiral.models.prompt_cache import Prompter
from spiral.seeds import derive

IN_FLIGHT = 1024
"""Requests that an engine has at once, at least while there are questions: more than it computes at once, so that a row
that is free is never empty."""
GRADERS = 4
"""Threads that grade."""
HANDED_OUT, HANDED_OUT_S = 32, 1.0
"""Replies, and seconds, after which graded ones are handed out to be kept: a file for each alone would cost more than
its grade."""
REPLY_LIMIT = 2048
"""Tokens of a reply to a question, where nothing says how many."""


@dataclass(frozen=True)
class Question:
    """One question of one benchmark, and which of its replies are wanted."""

    benchmark: str
    task: Task
    samples: Sequence[int]
    sampling: Sampling


class Asker:
    """One model, ready to be asked."""

    def __init__(
        self,
        model: str,
        engine: Engine,
        policy: PolicyId,
        prompter: Prompter,
        decode: Callable[[list[int]], str],
        rollout: RolloutConfig,
    ) -> None:
        """`model`: what its replies are kept under. `decode`: ids as text, special tokens written out. `rollout`: of
        the model's config, which says how long the engine may take for a reply of its length."""
        self._model, self._engine, self._policy, self._prompter = model, engine, policy, prompter
        self._decode, self._rollout = decode, rollout

    def questions(self, benchmark: Benchmark, known: Collection[Key] = ()) -> Iterator[Question]:
        """What is still to be asked of a benchmark; `known`: replies that are there already. Raises SpiralError for a
        limit of replies that leaves no question any room."""
        asking, limit = benchmark.asking, reply_limit(benchmark.asking.max_new_tokens, self._engine)
        if limit < self._prompter.min_new_tokens:
            raise SpiralError(
                f"the prompt asks {self._model} for replies of up to {self._prompter.min_new_tokens} tokens, and those "
                f"to {benchmark.label} may have {limit}; raise --max-new-tokens, or take another --prompt"
            )
        sampling = Sampling(limit, self._prompter.stop_ids, asking.resolved_temperature, asking.top_p)
        for task in benchmark.tasks:
            key = self._model, benchmark.label, task.id
            samples = [sample for sample in range(asking.samples) if (*key, sample) not in known]
            if samples:
                yield Question(benchmark.label, task, samples, sampling)

    def ask(
        self, questions: Sequence[Question], seed: int, progress: Progress = no_progress, told_as: str = ""
    ) -> Iterator[list[Reply]]:
        """The graded replies, a few at a time, in the order in which grades come; `told_as`: what `progress` is told of
        it. Raises RunError when the engine's deadline passes."""
        told = _Told(sum(len(question.samples) for question in questions))
        progress(told.phase(told_as or f"asking {self._model}"))
        pool = ThreadPoolExecutor(GRADERS, thread_name_prefix="grading")
        try:
            for replies in self._asked(questions, seed, pool):
                told.count(replies)
                yield replies
        finally:
            # A program that was stopped does not wait for replies that will be asked for again.
            pool.shutdown(wait=False, cancel_futures=True)

    def _asked(self, questions: Sequence[Question], seed: int, pool: ThreadPoolExecutor) -> Iterator[list[Reply]]:
        waiting, numbers = iter(questions), itertools.count()
        in_flight: dict[int, tuple[Reply, Task]] = {}
        graded: SimpleQueue[Future[Reply]] = SimpleQueue()
        num_grading = 0
        done: list[Reply] = []
        handed_out = time.monotonic()
        longest = max((question.sampling.max_new_tokens for question in questions), default=1)
        deadline_s = self._rollout.deadline_s * max(1.0, longest / self._rollout.max_new_tokens)
        deadline = Deadline(deadline_s, "raise rollout.deadline_s in the run's config, or let replies be shorter")
        while True:
            while len(in_flight) < IN_FLIGHT and (question := next(waiting, None)) is not None:
                # All replies to one question together: the engine computes their prompt once.
                refused = self._submit(question, seed, numbers, in_flight)
                if refused:
                    yield refused
            if not in_flight:
                break
            finished = self._engine.step()
            for completion in finished:
                future = pool.submit(_graded, *self._read(completion, *in_flight.pop(completion.request_id)))
                future.add_done_callback(graded.put)
                num_grading += 1
            if finished:
                deadline.answered()
            else:
                deadline.check(f"{len(in_flight)} replies of {self._model}")
            # Whichever are graded: those behind one that takes long would be lost to a kill.
            while not graded.empty():
                done.append(graded.get().result())
                num_grading -= 1
            if len(done) >= HANDED_OUT or (done and time.monotonic() - handed_out >= HANDED_OUT_S):
                yield done
                done, handed_out = [], time.monotonic()
        while num_grading:
            yield done
            done = [graded.get().result()]
            while not graded.empty():
                done.append(graded.get().result())
            num_grading -= len(done)
        yield done

    def _submit(
        self, question: Question, seed: int, numbers: Iterator[int], in_flight: dict[int, tuple[Reply, Task]]
    ) -> list[Reply]:
        """Submit a question; where its prompt has no room, the replies that say so, and are wrong."""
        prompt, task = self._prompter.encode(QUESTION, question.task.prompt), question.task
        limit = question.sampling.max_new_tokens
        empty = Reply(self._model, question.benchmark, task.id, 0, 0, len(prompt), limit, 0, "no room", False, "", 0.0)
        blank = [replace(empty, sample=s, seed=derive(seed, "bench", task.id, s)) for s in question.samples]
        try:
            check_room(self._engine, len(prompt), limit)
        except PromptTooLong:
            context = getattr(self._engine, "context", 0)
            why = f"{len(prompt)} tokens and a reply of {limit} have no room in the model's context of {context}"
            return [replace(reply, problem=why) for reply in blank]
        for reply in blank:
            number = next(numbers)
            in_flight[number] = reply, task
            self._engine.submit(Request(number, self._policy, prompt, question.sampling, reply.seed))
        return []

    def _read(self, completion: Completion, blank: Reply, task: Task) -> tuple[Reply, Task]:
        """The reply as text, not graded yet. Not in the threads that grade: a tokenizer serves one at a time."""
        ids = completion.ids
        return replace(
            blank,
            reply_tokens=len(ids) - len(completion.forced),
            finish=completion.finish,
            # A task that reads answers says it itself, and text is made of ids once.
            readable=callable(getattr(task, "read", None)) or self._prompter.is_readable(ids),
            text=self._prompter.said(ids, self._decode),
        ), task


def reply_limit(asked: int | None, engine: Engine) -> int:
    """Tokens of a reply at most: what is asked for, or else `REPLY_LIMIT`, and half of the model's context where that
    is less. Raises SpiralError for a limit that leaves no prompt any room."""
    context = getattr(engine, "context", None)
    if asked is None:
        return REPLY_LIMIT if context is None else max(1, min(REPLY_LIMIT, context // 2))
    if context is not None and asked >= context:
        raise SpiralError(
            f"replies of {asked} tokens leave no room for a question in the model's context of {context}; lower "
            "--max-new-tokens"
        )
    return asked


class _Told:
    """How far it is, for who watches."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._tokens, self._right = total, 0, 0, 0

    def count(self, replies: Iterable[Reply]) -> None:
        for reply in replies:
            self._done += 1
            self._tokens += reply.reply_tokens
            self._right += reply.right

    def phase(self, name: str) -> Phase:
        return Phase(name, self._total, "replies", lambda: float(self._done), self._note)

    def _note(self) -> str:
        return f"{self._right:,} right, {self._tokens:,} tokens" if self._done else ""


def _graded(reply: Reply, task: Task) -> Reply:
    """The reply with its grade, or with how its grader failed, which is neither right nor wrong."""
    try:
        grade = float(task.grade(reply.text))
        if callable(read := getattr(task, "read", None)):  # what the grade is of, whatever form the prompt asks for
            reply = replace(reply, readable=read(reply.text) is not None)
    except Exception as error:
        return replace(reply, grade=None, problem=f"{type(error).__name__}: {error}"[:300])
    if math.isnan(grade) or not 0 <= grade <= 1:
        return replace(reply, grade=None, problem=f"grade() returned {grade}, and must be from 0 to 1")
    return replace(reply, grade=grade, problem="")


def grade_again(replies: Iterable[Reply], tasks: Callable[[Reply], Task]) -> list[Reply]:
    """Those of `replies` whose grader failed, graded once more; `tasks`: the question of each."""
    return [_graded(reply, tasks(reply)) for reply in replies if reply.grade is None]
