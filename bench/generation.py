"""The torch engine against transformers' `generate`: same model, same prompts, same number of new tokens.

Both sample at temperature 1 from the full distribution, and nothing ends a reply, so both make the same count.
`generate` gets the prompts as one batch padded on the left, which is its best case.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import torch
from transformers import GenerationConfig

from bench.measure import Figure, alternate, median_cpu, ratios
from bench.parts import Table, drain, table
from spiral.types import LEARNER, Request, Sampling

TARGET = 2.0
BATCH, NEW_TOKENS, REPEATS = 64, 32, 7
SHORTEST, LONGEST = 24, 60


def figures() -> Iterator[Figure]:
    """Prompts that are all different, and then all equal."""
    rng = random.Random(0)
    made = table("model=byte-1m")
    prompts = [tuple(rng.randrange(256) for _ in range(rng.randint(SHORTEST, LONGEST))) for _ in range(BATCH)]
    yield _compare("distinct prompts", made, prompts)
    yield _compare("equal prompts", made, [prompts[0]] * BATCH)


def _compare(name: str, made: Table, prompts: list[tuple[int, ...]]) -> Figure:
    model, engine = made.players.model, made.engine
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    settings: Any = GenerationConfig(
        do_sample=True,
        top_k=0,
        top_p=1.0,
        temperature=1.0,
        max_new_tokens=NEW_TOKENS,
        eos_token_id=None,
        pad_token_id=0,
    )
    sampling = Sampling(NEW_TOKENS, ())
    requests = [Request(n, LEARNER, p, sampling, n) for n, p in enumerate(prompts)]
    made_by: dict[str, int] = {}

    def generate() -> None:
        torch.manual_seed(0)
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=mask, generation_config=settings)
        made_by["generate"] = out[:, width:].numel()

    def ours() -> None:
        made.reload()
        made_by["engine"] = sum(map(len, drain(engine, requests).values()))

    times = alternate([generate, ours], REPEATS, warm_up=2)
    if len(set(made_by.values())) != 1:
        raise RuntimeError(f"the two made different numbers of tokens: {made_by}")
    ratio = ratios(*times)
    tokens = made_by["engine"]
    per_s = {name: tokens / median_cpu(row) for name, row in zip(("generate", "engine"), times, strict=True)}
    return Figure(
        f"engine {name}",
        ratio["cpu"]["median"],
        "x generate",
        TARGET,
        detail={"ratio": ratio, "tokens_per_cpu_s": per_s, "batch": BATCH, "new_tokens": NEW_TOKENS},
    )
