"""Hidden states of prompts: what a model makes of a text, for estimators that value the turn that it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from spiral.api.errors import SpiralError
from spiral.models.logits import TokenLogits

Prompt = tuple[int, ...]


@torch.no_grad()
def last_hidden_states(lm: Any, prompts: Sequence[Prompt], micro_batch_tokens: int) -> Tensor:
    """Hidden states (number of prompts, H) of the prompts' last tokens, float32, on the CPU. `lm`: see
    `Learner.scorer`.

    Raises SpiralError for a model whose hidden states cannot be had: one that several processes share out, or whose
    forward gives logits alone.
    """
    if not isinstance(lm, TokenLogits) or not lm.splits_head:
        raise SpiralError(
            "the advantage estimator values turns by the learner's hidden states, which a model that processes share "
            "out, or whose head cannot be told from its body, does not give; set advantage=nested or advantage=rae"
        )
    found: dict[Prompt, Tensor] = {}
    device = lm.model.device
    # In the order of their lengths, and not in that given: which prompts share a batch must not depend on the games'.
    for batch in _batches(sorted(set(prompts), key=lambda p: (len(p), p)), micro_batch_tokens):
        longest = len(batch[-1])
        ids = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in batch], device=device)
        positions = torch.arange(longest, device=device).expand(len(batch), -1)
        rows = torch.arange(len(batch), device=device)
        columns = torch.tensor([len(prompt) - 1 for prompt in batch], device=device)
        # Padded on the right, so that no token of a prompt attends to padding.
        states = lm.hidden(ids, positions, None, rows, columns).float().cpu()
        found |= dict(zip(batch, states, strict=True))
    return torch.stack([found[prompt] for prompt in prompts])


def _batches(prompts: Sequence[Prompt], micro_batch_tokens: int) -> Iterator[list[Prompt]]:
    """Prompts in the order of their lengths, as many as fit a padded batch of that many tokens, one at least."""
    batch: list[Prompt] = []
    for prompt in prompts:
        if batch and (len(batch) + 1) * len(prompt) > micro_batch_tokens:
            yield batch
            batch = []
        batch.append(prompt)
    if batch:
        yield batch
