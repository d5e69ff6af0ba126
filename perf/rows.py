"""What attention costs in a row of an update, in tokens: the constants of `spiral.learning.row_cost`.

Forward and backward passes of a decoder over equally many tokens in rows of three lengths. The time a token is a + b T
by least squares, so that a row of T tokens costs T + T^2 / P tokens with P = a / b.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from perf.measure import Figure

LENGTHS = (64, 256, 1024)
TOKENS, REPEATS = 1024, 3
WIDTHS = (64, 128, 576)
"""Of byte-0.1m, byte-1m and SmolLM2."""


def figures() -> Iterator[Figure]:
    """P for each width, under a mask and in causal rows."""
    for width in WIDTHS:
        model = _model(width)
        for masked in (True, False):
            times = [_time(model, length, masked) for length in LENGTHS]
            start, slope = _line(LENGTHS, times)
            detail = {
                "us_a_token": dict(zip(map(str, LENGTHS), times, strict=True)),
                "pairs_a_width": start / slope / width,
            }
            kind = "masked" if masked else "causal"
            yield Figure(f"rows {width} {kind}", start / slope, "pairs a token", detail=detail)


def _model(width: int) -> Any:
    from spiral_models import MODELS
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    if width < 576:
        return MODELS[{64: "byte-0.1m", 128: "byte-1m"}[width]](context=max(LENGTHS))[0].eval()
    config = LlamaConfig(
        vocab_size=272, hidden_size=width, intermediate_size=width * 8 // 3, num_hidden_layers=2,
        num_attention_heads=width // 64, num_key_value_heads=width // 64,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()  # type: ignore[no-untyped-call]


def _time(model: Any, length: int, masked: bool) -> float:
    """CPU time a token, microseconds; the least of REPEATS."""
    rows = TOKENS // length
    ids, positions = torch.randint(250, (rows, length)), torch.arange(length).expand(rows, length)
    mask = None
    if masked:
        seen = torch.ones(length, length, dtype=torch.bool).tril()
        mask = torch.zeros(rows, 1, length, length).masked_fill_(~seen, -torch.inf)
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        out = model.base_model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False)
        out.last_hidden_state.sum().backward()
        times.append(time.process_time() - start)
    return 1e6 * min(times) / TOKENS


def _line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Value at 0 and slope of the line of least squares."""
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)
    return y - slope * x, slope
