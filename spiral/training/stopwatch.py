"""Wall time of the parts of a step, and the rates that follow from it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from spiral.cluster.orders import Span
from spiral.runs import metric_names


class Stopwatch:
    """Seconds spent in named parts of a step."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._spans: list[Span] = []

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start, began = time.perf_counter(), time.time()
        yield
        self._seconds[part] += time.perf_counter() - start
        self._spans.append(Span("learner", began, time.time(), part))

    def take_spans(self) -> list[Span]:
        """When each part was done since this was last asked."""
        spans, self._spans = self._spans, []
        return spans

    def seconds(self, part: str) -> float:
        """Spent in a part since `metrics` was asked last."""
        return self._seconds[part]

    def metrics(self, num_games: int, sampled_tokens: float, trained_tokens: float) -> dict[str, float]:
        """`time/*_s` and rates, and start again from nothing. The only metrics that differ between equal runs."""
        seconds, self._seconds = self._seconds, defaultdict(float)
        total = sum(seconds.values())
        return {
            **{metric_names.seconds(part): s for part, s in seconds.items()},
            metric_names.STEP_SECONDS: total,
            "speed/games_per_s": num_games / max(total, 1e-9),
            "speed/sampled_tokens_per_s": sampled_tokens / max(seconds["rollout"], 1e-9),
            "speed/trained_tokens_per_s": trained_tokens / max(seconds["learner"], 1e-9),
        }
