"""Which attention a learner's model computes over the rows of an update: what `learner.attention` asks for, by what is
present, and only where it is the same attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from spiral.api.errors import SpiralError
from spiral.api.text import printable_logger
from spiral.config.schema import LearnerConfig
from spiral.engines.probe import BANDS
from spiral.learning.row_layout import last_attending
from spiral.models.adapted import wrapped
from spiral.models.attention import Attention, attention_of, hindrance, row_mask, set_attention, text_bounds
from spiral.models.logits import TokenLogits

log = printable_logger(__name__)

TEXTS = (7, 1, 12)
"""Tokens of the texts of a row on which two attentions are compared."""


def prepare_attention(model: Any, config: LearnerConfig) -> None:
    """Let a model's layers compute what `learner.attention` asks for. Raises SpiralError where they cannot."""
    asked = config.attention
    if asked == "auto":
        # Flash-attention's kernels first, the faster ones; flex attention knows trees.
        options: tuple[Attention, ...] = () if wrapped(model).device.type == "cpu" else ("flash", "flex")
        for kind in options:
            if _hindrance(model, kind, config) is None:
                if (reason := _disagreement(model, kind, config)) is None:
                    return
                log.warning("learner.attention=auto does not take %s, since %s", kind, reason)
    elif reason := _hindrance(model, asked, config) or _disagreement(model, asked, config):
        raise SpiralError(f"learner.attention is {asked}, and {reason}; set learner.attention=auto")
    else:
        return
    if attention_of(model) != "sdpa":  # of another learner
        set_attention(model, "sdpa")


def _hindrance(model: Any, kind: Attention, config: LearnerConfig) -> str | None:
    if kind == "flash" and _dtype(model, config) == torch.float32:
        return f"flash-attention computes in bfloat16, and learner.precision is {config.precision}"
    return hindrance(model, kind)


def _dtype(model: Any, config: LearnerConfig) -> torch.dtype:
    """What the learner computes in."""
    dtype: torch.dtype = torch.bfloat16 if config.precision == "mixed" else wrapped(model).dtype
    return dtype


@torch.no_grad()
def _disagreement(model: Any, kind: Attention, config: LearnerConfig) -> str | None:
    """Why `kind` is not the attention of padded rows, as the end of a sentence; None where it is, and is set then."""
    device, width, mixed = wrapped(model).device, sum(TEXTS), config.precision == "mixed"
    starts = [sum(TEXTS[:n]) for n in range(len(TEXTS))]
    positions = torch.cat([torch.arange(length) for length in TEXTS])[None]
    last = torch.from_numpy(last_attending(np.asarray(positions[0])))[None].to(device)
    columns, positions = torch.arange(width, device=device), positions.to(device)
    found = []
    for attention in ("sdpa", kind):
        set_attention(model, attention)
        lm, ids = TokenLogits(model), (columns % 60)[None] + 1
        try:
            mask = row_mask(model, last, text_bounds(starts, width).to(device))
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                logits = lm(ids, positions, mask, torch.zeros_like(columns), columns)
        except (RuntimeError, ImportError, ValueError, TypeError) as error:
            set_attention(model, "sdpa")
            return f"{type(wrapped(model)).__name__} cannot be run with it ({(str(error).splitlines() or [''])[0]})"
        found.append(torch.log_softmax(logits.float(), -1))
    gap = float((found[1] - found[0]).abs().max())
    if gap <= BANDS[_dtype(model, config)]:
        return None
    set_attention(model, "sdpa")
    return f"with it the log-probabilities of {type(wrapped(model)).__name__} differ by {gap:.2g} nats"
