"""The torch engine against transformers' `generate`: same weights, same prompts, same number of new tokens.

Both sample at temperature 1 from the full distribution. On random prompts nothing ends a reply, so both make the same
count; on prompts of real games replies end by themselves, which is what the engine is made for.
`generate` gets the prompts as one batch padded on the left, which is its best case. It runs the byte model itself,
whose forward is as lean for it as for the engine, and the stock Llama that has the same logits, which is what
runs without this package.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import torch
from spiral_models.byte.llama_export import to_llama

from perf.measure import Figure, alternate, median_cpu, ratios
from perf.parts import Parts, drain, make_parts
from perf.stand_ins import LeftPadded
from spiral.api.records import LEARNER, Request, Sampling

TARGET = 1.5
PAD = 256
"""The byte tokenizer's pad id, which no model here samples after its stop id."""
BATCH, NEW_TOKENS, REPEATS = 64, 32, 5
SHORTEST, LONGEST = 24, 60


def figures() -> Iterator[Figure]:
    """Prompts that are all different, and then all equal."""
    rng = random.Random(0)
    prompts = [tuple(rng.randrange(256) for _ in range(rng.randint(SHORTEST, LONGEST))) for _ in range(BATCH)]
    for name in ("byte-0.1m", "byte-1m"):
        parts = make_parts(f"model={name}")
        model = parts.setup.model
        llama = to_llama(model)
        yield _compare(f"{name}, distinct prompts", parts, prompts, model)
        yield _compare(f"{name}, equal prompts", parts, [prompts[0]] * BATCH, model)
        yield _compare(f"{name}, distinct prompts/stock Llama", parts, prompts, llama)
        yield _compare(f"{name}, equal prompts/stock Llama", parts, [prompts[0]] * BATCH, llama)
    for game in ("kuhn_poker", "tic_tac_toe"):
        yield _game_prompts(game)


def _game_prompts(game: str) -> Figure:
    """The prompts of real decisions, and a model that knows how moves are written: replies end by themselves."""
    parts = make_parts(f"games={game}", "model=byte-0.1m", f"rollout.episodes={BATCH}", legal=0.9)
    episodes = parts.rollouts().play(BATCH, (0, "bench"))
    turns = [turn for episode in episodes for t in episode.trajectories for turn in t.turns]
    prompts = [turn.prompt for turn in random.Random(0).sample(turns, BATCH)]
    return _compare(f"byte-0.1m, {game} prompts", parts, prompts, parts.setup.model, parts.prompter.stop_ids)


def _compare(name: str, parts: Parts, prompts: list[tuple[int, ...]], model: Any, stop: tuple[int, ...] = ()) -> Figure:
    """Tokens a second of the engine over those of `generate`; a reply's tokens count up to its stop id."""
    sampling = Sampling(NEW_TOKENS, stop)
    batch = LeftPadded(prompts, sampling, PAD)
    requests = [Request(n, LEARNER, p, sampling, n) for n, p in enumerate(prompts)]
    num_tokens: dict[str, int] = {}

    def generate() -> None:
        torch.manual_seed(0)
        sampled = batch.sampled_by(model)
        num_tokens["generate"] = int((sampled != PAD).sum()) if stop else sampled.numel()

    def engine() -> None:
        num_tokens["engine"] = sum(map(len, drain(parts.engine, requests).values()))

    of_generate, of_engine = alternate([generate, engine], REPEATS)
    tokens = num_tokens["engine"] / num_tokens["generate"]  # 1 unless replies end by themselves
    ratio = {clock: {k: v * tokens for k, v in row.items()} for clock, row in ratios(of_generate, of_engine).items()}
    per_s = {
        "generate": num_tokens["generate"] / median_cpu(of_generate),
        "engine": num_tokens["engine"] / median_cpu(of_engine),
    }
    return Figure(
        f"engine {name}",
        ratio["cpu"]["median"],
        "x generate",
        TARGET,
        detail={"ratio": ratio, "tokens_per_cpu_s": per_s, "batch": BATCH, "new_tokens": num_tokens},
    )
