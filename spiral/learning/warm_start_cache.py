"""Keeps the results of warm starts for later runs of the same games, model and seed."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from spiral.api.errors import SpiralError
from spiral.api.text import printable_logger
from spiral.learning.warm_start import WarmStart, WarmStarted
from spiral.models.logits import load_parameters, parameters
from spiral.runs.files import WriteError, cache_folder, make_directory, num_bytes, replace_file

logger = printable_logger(__name__)

TOLERANCE = 0.1
"""How much lower than when it was accepted the share of legal games may be measured, since these are other decisions
than those of its last check: three deviations of one at 0.95, which as many replies bear out as a check asks."""


def cached_warm_start(warm_start: WarmStart, identity: Mapping[str, Any]) -> WarmStarted:
    """`warm_start.train()`, or its result of an earlier run with the same `identity`, bit for bit.

    What was kept must still give about the share of legal games that is asked for: a game's code may have changed
    under one version. A warm start that did not get there is not kept.
    """
    model, wanted = warm_start.model, warm_start.config.legal
    path = _path(identity)
    if path.exists():
        before = {name: weight.clone() for name, weight in parameters(model).items()}
        try:
            with torch.no_grad():
                load_parameters(model, load_file(path))
            if (share := warm_start.legal_share()) >= wanted - TOLERANCE:
                return WarmStarted(0, share, cached=True)
        except (OSError, SafetensorError, SpiralError):  # a damaged cache file costs time, never the run
            pass
        with contextlib.suppress(OSError):
            path.unlink()
        with torch.no_grad():
            load_parameters(model, before)
    result = warm_start.train()
    if result.legal >= wanted:
        _keep(path, parameters(model))
    return result


def _keep(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write the result, where the cache can be written: it saves time, and never costs a run."""
    try:
        make_directory(path.parent)
        replace_file(path, lambda temporary: save_file(weights, temporary), num_bytes(weights), shared=True)
    except (OSError, SafetensorError, WriteError) as error:
        logger.warning("the warm start is not kept for later runs: %s (warm_start.cache=false keeps none)", error)


def _path(identity: Mapping[str, Any]) -> Path:
    """Where the result is kept: the file's name is a hash of all that it depends on."""
    text = json.dumps({**identity, "torch": torch.__version__, "threads": torch.get_num_threads()}, sort_keys=True)
    return cache_folder("warm_start") / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.safetensors"
