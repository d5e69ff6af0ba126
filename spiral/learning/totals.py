"""Sums of the loss terms of many forward passes, over micro-batches and processes, and the metrics that they make."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor

from spiral.learning.loss import LossTerms
from spiral.learning.packing import Batch
from spiral.runs import metric_names

_TERMS = ("objective", "surrogate", "nll", "entropy", "kl", "anchor", "anchored", "clipped", "truncated")
_MISMATCH = {"ratio": "ratio", "mismatch_kl": "kl", "beyond": "beyond"}
"""A sum's name -> that of the field of `Mismatch`."""
GAP = "gap"
"""The largest value, and no sum."""


class Totals:
    """Adds up on the device, so that no pass waits for the one before it."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._sums = torch.zeros(len(_TERMS) + len(_MISMATCH), device=accelerator.device)
        self._gap = torch.zeros((), device=accelerator.device)

    def add(self, terms: LossTerms) -> None:
        """One forward pass."""
        values: list[Tensor] = [getattr(terms, name).detach() for name in _TERMS]
        values += [getattr(terms.mismatch, field) for field in _MISMATCH.values()]
        self._sums += torch.stack(values)
        self._gap = torch.maximum(self._gap, terms.mismatch.gap)

    def over_processes(self) -> dict[str, float]:
        """The sums by name, and the gap, of all processes; all of them call it."""
        sums, gap = self._sums, self._gap
        if self._accelerator.num_processes > 1:
            gathered = self._accelerator.gather(torch.cat([sums, gap[None]])[None])
            sums, gap = gathered[:, :-1].sum(0), gathered[:, -1].amax()
        return dict(zip([*_TERMS, *_MISMATCH, GAP], [*sums.tolist(), gap.item()], strict=True))


def metrics(totals: Mapping[str, float], batch: Batch) -> dict[str, float]:
    """What a pass over the whole batch measured. `totals` has beside the sums of `Totals` `mean_objective`,
    `mean_surrogate` and `norm`, each a mean over optimiser steps."""
    tokens, turns = max(1, batch.num_reply_tokens), max(1, batch.num_turns)
    return {
        "learner/objective": totals["mean_objective"],
        "learner/surrogate": totals["mean_surrogate"],
        "learner/nll": totals["nll"] / tokens,
        "learner/entropy": totals["entropy"] / turns,
        "learner/entropy_per_token": totals["entropy"] / tokens,
        "learner/kl": totals["kl"] / turns,
        "learner/anchor": totals["anchor"] / turns,
        "learner/anchored": totals["anchored"] / tokens,
        "learner/grad_norm": totals["norm"],
        metric_names.TRUNCATED: totals["truncated"] / tokens,
        "learner/reply_tokens": float(batch.num_reply_tokens),
        "learner/computed_tokens": float(batch.num_computed_tokens),
    }


def mismatch_metrics(totals: Mapping[str, float], batch: Batch) -> dict[str, float]:
    """Learner against engine on the batch before its first optimiser step, over reply tokens."""
    tokens = max(1, batch.num_reply_tokens)
    return {
        metric_names.RATIO_GAP: totals[GAP],
        metric_names.RATIO_MEAN: totals["ratio"] / tokens,
        metric_names.MISMATCH_KL: totals["mismatch_kl"] / tokens,
        metric_names.RATIO_BEYOND: totals["beyond"] / tokens,
    }
