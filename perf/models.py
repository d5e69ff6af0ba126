"""Patched byte models against flat ones of as many parameters: tokens sampled and trained a second, in one process.

Prompts are pieces of this project's documentation, all different: nothing is shared, and patches are those of text.
Weights are random, so replies are random bytes and none ends by itself.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from perf.learning import SETTINGS
from perf.measure import Figure, alternate, median_cpu, ratios
from perf.parts import drain
from spiral.api.records import LEARNER, Request, Sampling, Trajectory, Turn
from spiral.engines.torch.engine import TorchEngine
from spiral.learning.full_learner import FullLearner
from spiral.learning.packing import pack
from spiral.models.logits import parameters
from spiral.plugins.registry import Plugins

TARGET = 1.5
SIZES = ("1m", "10m")
BATCH, PROMPT_BYTES, NEW_TOKENS, REPEATS = 64, 300, 32, 3
DOCS = Path(__file__).resolve().parents[1] / "docs"

Ids = tuple[int, ...]


def figures() -> Iterator[Figure]:
    """Two of each size: sampling, prompts included, and one update over prompts and replies."""
    prompts = pieces(BATCH, PROMPT_BYTES)
    for size in SIZES:
        yield _compare(f"sampled, patch-{size} over byte-{size}", size, _sampler, prompts)
        yield _compare(f"trained, patch-{size} over byte-{size}", size, _trainer, prompts)


def pieces(num: int, length: int) -> list[Ids]:
    """So many pieces of text, each of `length` bytes."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))).encode()
    rng = random.Random(0)
    return [tuple(text[start : start + length]) for start in (rng.randrange(len(text) - length) for _ in range(num))]


def _compare(name: str, size: str, works: Callable[[str, list[Ids]], Callable[[], None]], prompts: list[Ids]) -> Figure:
    """CPU time of the flat model over that of the patched one, for the same work."""
    of_flat, of_patched = alternate([works(f"{kind}-{size}", prompts) for kind in ("byte", "patch")], REPEATS)
    ratio = ratios(of_flat, of_patched)
    per_s = {
        kind: BATCH * NEW_TOKENS / median_cpu(timings) for kind, timings in (("byte", of_flat), ("patch", of_patched))
    }
    detail = {"ratio": ratio, "tokens_per_cpu_s": per_s, "batch": BATCH, "prompt": PROMPT_BYTES, "new": NEW_TOKENS}
    return Figure(f"models {name}", ratio["cpu"]["median"], "x flat", TARGET, detail=detail)


def _sampler(name: str, prompts: list[Ids]) -> Callable[[], None]:
    model, tokenizer = _made(name)
    engine = TorchEngine(model, tokenizer)
    requests = [Request(n, LEARNER, prompt, Sampling(NEW_TOKENS, ()), n) for n, prompt in enumerate(prompts)]

    def run() -> None:
        engine.load_weights(LEARNER, parameters(model), 0)
        drain(engine, requests)

    return run


def _trainer(name: str, prompts: list[Ids]) -> Callable[[], None]:
    settings = replace(SETTINGS, ratio_tolerance=math.inf)
    learner = FullLearner(_made(name)[0], settings, 1000, Accelerator())
    rng = random.Random(0)
    trajectories = []
    for number, prompt in enumerate(prompts):
        reply = tuple(rng.randrange(256) for _ in range(NEW_TOKENS))
        turn = Turn("", prompt, reply, (-math.log(256),) * NEW_TOKENS, "", True, "length", 0)
        trajectories.append(Trajectory("text", 0, LEARNER, 1.0 if number % 2 else -1.0, (turn,), number))
    advantages = [[trajectory.reward] for trajectory in trajectories]

    def run() -> None:
        learner.update(pack(trajectories, advantages, settings.micro_batch_tokens), 0, BATCH)

    return run


def _made(name: str) -> tuple[Any, Any]:
    torch.manual_seed(0)
    made: tuple[Any, Any] = Plugins.installed().find("model", name).factory()
    return made
