"""Peak memory of an update's head and loss at a vocabulary of 152k, in chunks against the plain pass.

Each in a process of its own, over a model that is little more than a head, so that logits are what is measured. The
plain pass of 8 rows of 1,024 tokens, all trained, has 5 GB in one copy of its logits and several copies at once; its
peak is a straight line through two shorter lengths. That of the chunks is measured at the full length.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from perf.measure import Figure

TARGET = 0.35
ROWS, TOKENS = 8, 1024
SHORT = (32, 96)
"""Tokens a row at which the plain pass is measured."""


def figures() -> Iterator[Figure]:
    """Peak over peak."""
    low, high = (_child("plain", tokens)["peak_delta"] for tokens in SHORT)
    slope = (high - low) / (SHORT[1] - SHORT[0])
    plain = low + slope * (TOKENS - SHORT[0])
    chunked = _child("chunked", TOKENS)
    short = _child("chunked", SHORT[1])
    detail = {
        "rows": ROWS,
        "tokens_a_row": TOKENS,
        "chunked_bytes": chunked["peak_delta"],
        "plain_bytes_by_tokens_a_row": dict(zip(SHORT, (low, high), strict=True)),
        "chunked_bytes_at_the_longer_of_these": short["peak_delta"],
        "plain_bytes": plain,
        "plain_copies_of_the_logits": slope / (ROWS * 4 * chunked["vocabulary"]),
    }
    yield Figure(
        "head, 8 x 1,024 tokens, chunked", chunked["peak_delta"] / plain, "x plain bytes", TARGET, False, detail
    )


def _child(how: str, tokens: int) -> dict[str, float]:
    command = [sys.executable, "-m", "perf.head_memory", how, str(tokens)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(how: str, tokens: int, vocabulary: int = 151_936, rows: int = ROWS) -> dict[str, float]:
    """What the process grew by at its highest, in one forward and backward pass."""
    import dataclasses

    from perf.memory import reset_peak, status
    from perf.shapes import TINY, transcripts
    from spiral.learning.chunked_head import MAX_LOGIT_BYTES
    from spiral.learning.objective import Objective
    from spiral.learning.packing import pack
    from spiral.learning.policy_loss import PolicyLoss

    shape = dataclasses.replace(TINY, vocab=vocabulary)
    loss = PolicyLoss(shape.model(), MAX_LOGIT_BYTES if how == "chunked" else sys.maxsize)
    trajectories = transcripts(rows, tokens + 1, vocabulary, share=tokens / (tokens + 1))
    batch = pack(trajectories, [[1.0]] * rows, rows * (tokens + 1))
    before = reset_peak()
    for micro in batch.micro_batches:
        (-loss(micro, Objective()).objective).backward()
    return {"peak_delta": status("VmHWM") - before, "vocabulary": vocabulary, "trained": batch.num_reply_tokens}


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
