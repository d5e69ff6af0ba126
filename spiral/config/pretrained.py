"""The defaults that follow a pretrained model: `pretrained.yaml`, and what follows from the number of parameters.

The configuration knows no plug-in: who reads one asks the installed models through a `FindModel`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

MAX_THREADS = 8
"""CPU threads, at most: beyond, the small matrices of a reply gain little."""


@dataclass(frozen=True)
class FoundModel:
    """What the entries `model` and `learner.method` of a config name."""

    name: str
    """Of the plug-in."""
    args: Mapping[str, Any]
    """What the plug-in is given because of the entry's name, where that is a folder; empty otherwise."""
    num_parameters: int | None
    """Of a model that was trained on text; None for one with random weights, or that knows nothing but games."""
    lr_factor: float = 1.0
    """What the default learning rate is multiplied with for this way to learn."""


class FindModel(Protocol):
    """Looks both entries, {name: ..., args: ...}, up among what is installed."""

    def __call__(self, model: Mapping[str, Any], method: Mapping[str, Any], /) -> FoundModel | None:
        """None for a model that is not there."""


def find_nothing(model: Mapping[str, Any], method: Mapping[str, Any]) -> None:
    """For a config that says everything, such as that of a run: no entry is looked up."""
    return None


SUPERVISED_FACTOR = 10.0
"""What self-play's learning rate is multiplied with for supervised training, whose gradient has less noise: 1e-5 at 4
billion parameters, 3e-4 at 135 million."""


def by_size(num_parameters: int, supervised: bool = False) -> dict[str, Any]:
    """The defaults that follow from the size of a pretrained model, and from this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    rate = learning_rate(num_parameters) * (SUPERVISED_FACTOR if supervised else 1)
    return {"learner": {"lr": float(f"{rate:.1e}")}, "threads": min(cores, MAX_THREADS)}


def learning_rate(num_parameters: int) -> float:
    """The peak learning rate where self-play trains all weights, which falls as one over the size: 1e-6 at 4 billion.

    That is SPIRAL's (arXiv 2506.24119) for Qwen3-4B; 3e-5 at 135 million parameters. To two digits, from 2e-7 to 1e-4.
    """
    return float(f"{min(1e-4, max(2e-7, 4e3 / num_parameters)):.1e}")


def by_method(lr: float, factor: float) -> dict[str, Any]:
    """The defaults that follow from the way to learn, from the default learning rate `lr` of full training."""
    return {"learner": {"lr": float(f"{lr * factor:.1e}")}}
