"""`spiral bench` against one offline batch of the same prompts on the same engine: sampled tokens a second.

The offline batch is given every request at once, ids ready made, and drops the replies; that of vLLM is its own engine,
which computes no log-probabilities for it. A bench encodes the questions, keeps the engine full, decodes, grades in
threads and writes a line for each reply. Seeds are the same, so both sample the same tokens but for rounding, and the
ratio is that of the times. A byte model shows this program's own work best.
"""

from __future__ import annotations

import importlib.util
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from perf.measure import Figure, alternate, ratios, say
from perf.parts import drain
from perf.vllm import FOLDER
from spiral.api.games import QUESTION
from spiral.api.records import LEARNER, Request
from spiral.api.training import Engine
from spiral.config.schema import RolloutConfig
from spiral.engines.torch.engine import TorchEngine
from spiral.evaluation.benchmarks.asking import Asker
from spiral.evaluation.benchmarks.benchmark import Asking, Benchmark
from spiral.evaluation.benchmarks.replies import ReplyLog
from spiral.models.chat import chat
from spiral.models.logits import parameters
from spiral.models.prompt_cache import Prompter
from spiral.models.tokens import spelt
from spiral.plugins.registry import Plugins

TARGET = 0.9


Offline = Callable[[list[Request]], int]
"""All requests at once -> the tokens that were sampled."""


@dataclass(frozen=True)
class Case:
    """A model, and how much it is asked."""

    name: str
    model: str
    args: dict[str, Any]
    questions: int
    max_new_tokens: int
    rows: int
    repeats: int


TINY = Case("byte-0.1m", "byte-0.1m", {"context": 1024}, questions=512, max_new_tokens=64, rows=64, repeats=3)
SMOLLM2 = Case("SmolLM2", "hf", {"context": 1024}, questions=48, max_new_tokens=64, rows=16, repeats=1)


@dataclass
class Sum:
    """A question with a grade that takes what a simple grader takes."""

    id: str
    prompt: str
    gold: str

    def grade(self, reply: str) -> float:
        """1 if the last number is right."""
        numbers = [word for word in reply.replace("}", " ").split() if word.isdecimal()]
        return float(numbers[-1:] == [self.gold])


@dataclass
class Asked:
    """One of the two ways to ask; `tokens` of each call."""

    work: Callable[[], int]
    tokens: list[int] = field(default_factory=list)

    def __call__(self) -> None:
        self.tokens.append(self.work())


def figures() -> Iterator[Figure]:
    """Each model on the torch engine, and on vLLM where it is installed; SmolLM2 where a folder of it is named."""
    cases = [TINY]
    if folder := os.environ.get(FOLDER):
        cases.append(Case(**{**vars(SMOLLM2), "args": {**SMOLLM2.args, "path": folder}}))
    else:
        say(f"   SmolLM2 is left out: {FOLDER} names no folder")
    engines: list[tuple[str, Callable[[Any, Any, Case], tuple[Engine, Offline]]]] = [("torch", _torch)]
    if importlib.util.find_spec("vllm") is not None:
        engines.append(("vllm", _vllm))
    else:
        say("   vllm is left out, since it is not installed here: make vllm")
    for case in cases:
        model, tokenizer = Plugins.installed().make("model", case.model, **case.args)
        model.eval().requires_grad_(False)
        for name, make in engines:
            engine, offline = make(model, tokenizer, case)
            yield _compare(f"bench {case.name}/{name}", case, engine, offline, model, tokenizer)


def _torch(model: Any, tokenizer: Any, case: Case) -> tuple[Engine, Offline]:
    engine = TorchEngine(model, tokenizer, max_rows=case.rows)
    return engine, partial(_offline, engine)


def _vllm(model: Any, tokenizer: Any, case: Case) -> tuple[Engine, Offline]:
    from spiral.engines.vllm.backend import VllmBackend
    from spiral.engines.vllm.engine import VllmEngine

    def make(*args: Any) -> VllmBackend:
        made.append(VllmBackend(*args))
        return made[0]

    made: list[VllmBackend] = []
    engine = VllmEngine(model, make=make, max_num_seqs=case.rows)
    return engine, partial(_offline_vllm, made[0]._engine)


def _compare(name: str, case: Case, engine: Engine, alone: Offline, model: Any, tokenizer: Any) -> Figure:
    rng = random.Random(0)
    pairs = [(rng.randrange(1000), rng.randrange(1000)) for _ in range(case.questions)]
    tasks = [Sum(str(n), f"What is {a} + {b}?", str(a + b)) for n, (a, b) in enumerate(pairs)]
    benchmark = Benchmark("sums", tuple(tasks), Asking(1, 1.0, 1.0, case.max_new_tokens), "")
    prompter = Prompter(chat(tokenizer, template=getattr(tokenizer, "chat_template", None) is not None))
    asker = Asker("model", engine, LEARNER, prompter, partial(spelt, tokenizer), RolloutConfig())
    seeds = _seeds(asker, benchmark, engine, model)
    requests = [
        Request(n, LEARNER, prompter.encode(QUESTION, question.task.prompt), question.sampling, seeds[question.task.id])
        for n, question in enumerate(asker.questions(benchmark))
    ]
    bench, offline = Asked(partial(_bench, asker, benchmark)), Asked(partial(alone, requests))
    times = alternate([bench, offline], case.repeats, before=partial(_cold, engine, model))
    speed = bench.tokens[-1] / offline.tokens[-1]
    ratio = {
        clock: {key: value * speed for key, value in row.items()} for clock, row in ratios(times[1], times[0]).items()
    }
    detail = {
        "ratio": ratio,
        "questions": case.questions,
        "rows": case.rows,
        "tokens": {"bench": bench.tokens[-1], "offline": offline.tokens[-1]},
        "replies_per_s": case.questions / min(t.wall for t in times[0]),
    }
    return Figure(name, ratio["cpu"]["median"], "x an offline batch", TARGET, detail=detail)


def _cold(engine: Engine, model: Any) -> None:
    """Weights, and with them a cold cache."""
    engine.load_weights(LEARNER, parameters(model), 0)


def _seeds(asker: Asker, benchmark: Benchmark, engine: Engine, model: Any) -> dict[str, int]:
    """Those of the bench's own requests."""
    _cold(engine, model)
    return {reply.task: reply.seed for part in asker.ask(list(asker.questions(benchmark)), 0) for reply in part}


def _bench(asker: Asker, benchmark: Benchmark) -> int:
    with tempfile.TemporaryDirectory() as folder:
        log, tokens = ReplyLog(Path(folder) / "replies.jsonl"), 0
        for replies in asker.ask(list(asker.questions(benchmark)), 0):
            log.add(replies)
            tokens += sum(reply.reply_tokens for reply in replies)
    return tokens


def _offline(engine: Engine, requests: list[Request]) -> int:
    return sum(map(len, drain(engine, requests).values()))


def _offline_vllm(engine: Any, requests: list[Request]) -> int:
    """vLLM's own engine, as its users ask it: nothing of this program is between."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    for request in requests:
        sampling = request.sampling
        params = SamplingParams(
            temperature=sampling.temperature,
            max_tokens=sampling.max_new_tokens,
            stop_token_ids=list(sampling.stop_ids),
            ignore_eos=True,
            detokenize=False,
            seed=request.seed & ((1 << 63) - 1),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        engine.add_request(str(request.id), {"prompt_token_ids": list(request.prompt)}, params)
    tokens = 0
    while engine.has_unfinished_requests():
        tokens += sum(len(output.outputs[0].token_ids) for output in engine.step() if output.finished)
    return tokens
