"""Dropout in the updates of a supervised phase: the rate at each fraction of it, and a model that has it for the length
of one forward and backward pass.

In an update of self-play it would score another policy than the one that played, so `config.validation` refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from spiral.api.errors import SpiralError
from spiral.config.dropout import DropoutConfig
from spiral.seeds import derive

Points = Sequence[tuple[float, float]]


def points(config: DropoutConfig) -> Points:
    """The schedule as (fraction of the phase, rate) points, linear between them; two at one fraction are a jump.

    The schedules of Super Tiny Language Models' report on dropout (arXiv 2409.05423), early and late ones after Liu et
    al. 2023 (arXiv 2303.01500).
    """
    rate, switch, ramp = config.rate, config.switch, config.ramp
    triangles = [(k / (2 * config.cycles), rate * (k % 2)) for k in range(2 * config.cycles + 1)]
    schedules: dict[str, Points] = {
        "constant": [(0.0, rate)],
        "early": [(0.0, rate), (switch, rate), (switch, 0.0)],
        "late": [(0.0, 0.0), (switch, 0.0), (switch, rate)],
        "linear_up": [(0.0, 0.0), (ramp, rate)],
        "linear_down": [(0.0, rate), (ramp, 0.0)],
        "triangle": triangles,
    }
    return schedules[config.schedule]


def dropout_rate(config: DropoutConfig, fraction: float) -> float:
    """The rate where `fraction` of the phase is done, a function of that alone; at a jump the later one."""
    known = points(config)
    before = [p for p in known if p[0] <= fraction] or known[:1]
    after = [p for p in known if p[0] > fraction] or known[-1:]
    (x0, y0), (x1, y1) = before[-1], after[0]
    return y0 if x1 <= x0 else y0 + (y1 - y0) * (fraction - x0) / (x1 - x0)


class Dropout:
    """The dropout of a model in one phase."""

    def __init__(self, model: Any, config: DropoutConfig, seed: int, phase: str) -> None:
        """`phase`: such as `warm_start`; with `seed` it names the draws. Raises SpiralError for a model without
        `set_dropout(rate, places)`, where there is dropout at all."""
        if config.rate and not hasattr(model, "set_dropout"):
            raise SpiralError(
                f"{phase}.dropout.rate is {config.rate}, and this model has no set_dropout(rate, places); set it to 0, "
                "or take a byte model"
            )
        self._model, self._config = model, config
        self._seed, self._phase = seed, phase

    @contextmanager
    def during(self, fraction: float, *draw: int) -> Iterator[None]:
        """Updates at a fraction of the phase; what is dropped is a function of the seed, the phase and `draw` alone.

        Afterwards the model is in eval mode, and has none: what scores, samples or is saved knows nothing of it.
        """
        rate = dropout_rate(self._config, fraction)
        if not rate:
            yield
            return
        torch.manual_seed(derive(self._seed, self._phase, "dropout", *draw))
        self._model.set_dropout(rate, self._config.places)
        self._model.train()
        try:
            yield
        finally:
            self._model.eval()
            self._model.set_dropout(0.0)
