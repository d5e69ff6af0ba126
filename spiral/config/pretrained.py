"""The defaults that follow a pretrained model: `pretrained.yaml`, and what follows from the number of parameters.

The configuration knows no plug-in: who reads one asks the installed models through a `FindModel`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PRETRAINED = Path(__file__).with_name("pretrained.yaml")

MAX_THREADS = 8
"""CPU threads, at most: beyond, the small matrices of a reply gain little."""


@dataclass(frozen=True)
class FoundModel:
    """What an entry `model` of a config names."""

    name: str
    """Of the plug-in."""
    args: Mapping[str, Any]
    """What the plug-in is given because of the entry's name, where that is a folder; empty otherwise."""
    num_parameters: int | None
    """Of a model that was trained on text; None for one with random weights, or that knows nothing but games."""


FindModel = Callable[[Mapping[str, Any]], FoundModel | None]
"""find_model({name: ..., args: ...}); None for an entry that names nothing installed."""


def find_nothing(entry: Mapping[str, Any]) -> None:
    """For a config that says everything, such as that of a run: no entry is looked up."""
    return None


def by_size(num_parameters: int) -> dict[str, Any]:
    """The defaults that follow from the size of a pretrained model, and from this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"learner": {"lr": learning_rate(num_parameters)}, "threads": min(cores, MAX_THREADS)}


def learning_rate(num_parameters: int) -> float:
    """The peak learning rate of self-play, which falls as one over the size: 1e-6 at 4 billion parameters.

    That is SPIRAL's (arXiv 2506.24119) for Qwen3-4B; 3e-5 at 135 million. To two digits, from 2e-7 to 1e-4.
    """
    return float(f"{min(1e-4, max(2e-7, 4e3 / num_parameters)):.1e}")
