"""What a device that runs out of memory in an update is told as: the row that was too much, and what to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from spiral.api.errors import RunError
from spiral.config.schema import LearnerConfig
from spiral.learning.packing import MicroBatch


@contextmanager
def memory_errors_named(micro_batch: MicroBatch, config: LearnerConfig) -> Iterator[None]:
    """The forward and backward pass of a micro-batch. Raises RunError where memory runs out in it."""
    try:
        yield
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        rows, width = micro_batch.ids.shape
        what = f"{rows} {'row' if rows == 1 else 'rows'} of {width} tokens"
        if micro_batch.last is not None:  # in one row, where each begins at position 0
            rows = int((micro_batch.positions == 0).sum())
            what = f"{rows} {'text or tree' if rows == 1 else 'texts and trees'} of {width} tokens together"
        raise RunError(
            f"memory ran out in the update, on a micro-batch of {what}, of which {len(micro_batch.targets)} are "
            f"trained ({_first_line(error)}); {_remedy(rows, config)}; then resume the run, which goes on from its "
            "last checkpoint"
        ) from error


def _is_out_of_memory(error: RuntimeError) -> bool:
    # On a CPU torch has no class for it.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _first_line(error: RuntimeError) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0].rstrip(".")


def _remedy(rows: int, config: LearnerConfig) -> str:
    """What makes such a micro-batch smaller, the cheapest first."""
    ways = []
    if rows > 1:
        ways.append(f"learner.micro_batch_tokens below {config.micro_batch_tokens}")
    if not config.checkpoint_activations:
        ways.append("learner.checkpoint_activations=true")
    if config.precision == "float32":
        ways.append("learner.precision=mixed")
    if rows == 1:
        ways.append("shorter texts (rollout.max_new_tokens, rollout.max_turns, model.args.context)")
    return f"set {' or '.join(ways)}"
