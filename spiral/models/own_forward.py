"""Checks, before a model plays, that the engine and the learner compute what its own forward does.

Both give the model their own masks: a tree of replies in one row, or texts over a cache. A model that narrows its
attention otherwise, with a window or in chunks, would then be another one than was trained, and the two would agree.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from spiral.api.errors import SpiralError
from spiral.models.logits import TokenLogits, context_length
from spiral.models.row_cache import own_row_cache

PROBE_TOKENS = 64
"""Longest text that is compared, as every command that loads a model waits for it; an attention that is narrower only
beyond is read from the configuration, where transformers names each kind of it."""
CAUSAL_TOKENS = 24
"""Longest text that is tried for looking ahead."""
TOLERANCE = 1e-3
"""Nats between two computations of one log-probability in float32."""
_NUM_POSITIONS = 64
"""Places of the text that are compared, so that a large vocabulary needs little memory."""


def check_own_forward(model: Any) -> None:
    """Raise SpiralError for a model whose attention is narrower than the context that a run may use, or whose
    log-probabilities with given masks, with and without a cache, differ from its own forward's."""
    context = context_length(model)
    window = attention_window(model.config)
    if window is not None and window < context:
        raise SpiralError(
            f"the model attends to {window} tokens in some of its layers, and its context is {context}; the engine and "
            f"the learner attend to all, which would be another model; set model.args.context={window} or less"
        )
    try:
        difference = _largest_difference(model, min(context, PROBE_TOKENS))
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        first_line = (str(error).strip().splitlines() or [""])[0]
        raise SpiralError(
            f"{type(model).__name__} cannot be run with positions, masks and a cache of its caller's "
            f"({type(error).__name__}: {first_line}); choose a decoder with rotary or learned positions, such as "
            "Llama, Qwen or GPT-2"
        ) from error
    if not difference <= TOLERANCE:
        raise SpiralError(
            f"{type(model).__name__} gives other log-probabilities with a full causal mask than by its own forward (up "
            f"to {difference:.3g} nats apart over {min(context, PROBE_TOKENS)} tokens), so it would play and learn as "
            "another model; choose a model that attends to its whole context"
        )


@torch.inference_mode()
def largest_look_ahead(model: Any) -> float:
    """How far, in nats, a token's log-probability depends on one that comes after it, by the model's own forward: the
    most over texts of up to CAUSAL_TOKENS tokens, each with another token changed. 0 but for rounding, if the model is
    causal."""
    num = min(context_length(model), CAUSAL_TOKENS)
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.randint(vocabulary, (1, num), generator=torch.Generator().manual_seed(0)).to(model.device)
    places = torch.arange(num, device=model.device)
    changed = (ids.repeat(num, 1) + torch.eye(num, dtype=torch.long, device=model.device)) % vocabulary
    logits = model(input_ids=torch.cat((ids, changed)), use_cache=False).logits
    logprobs = torch.log_softmax(logits.float(), -1)
    gaps = (logprobs[1:] - logprobs[:1]).abs().amax(-1)  # (changed place, place)
    return float(gaps[places < places[:, None]].max()) if num > 1 else 0.0


def attention_window(config: Any) -> int | None:
    """The fewest tokens that a layer attends to, from a transformers configuration; None if each attends to all."""
    config = config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    widths = []
    for name, kind in (("sliding_window", "sliding_attention"), ("attention_chunk_size", "chunked_attention")):
        width = getattr(config, name, None)
        # A configuration without kinds of layers, such as Mistral's, means all of them.
        if width is not None and (kinds is None or kind in kinds):
            widths.append(int(width))
    return min(widths, default=None)


@torch.inference_mode()
def _largest_difference(model: Any, num_tokens: int) -> float:
    """Between log-probabilities by the model's own forward and by `TokenLogits`, in nats: in one pass under an explicit
    mask, and in two over a cache."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.get_text_config().vocab_size, (1, num_tokens), generator=generator)
    ids = ids.to(model.device)
    places = torch.arange(num_tokens - 1, -1, -max(1, num_tokens // _NUM_POSITIONS), device=model.device).flip(0)
    lm = TokenLogits(model)
    own = model(input_ids=ids, use_cache=False).logits[0, places]
    positions = torch.arange(num_tokens, device=model.device)[None]
    mask = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=model.device).tril()[None, None]
    rows = torch.zeros_like(places)
    once = lm(ids, positions, mask, rows, places)
    parts = _over_a_cache(lm, ids, mask, places, [0, num_tokens // 2, num_tokens])
    expected = torch.log_softmax(own.float(), -1)
    found = (torch.log_softmax(logits.float(), -1) for logits in (once, torch.cat(parts)))
    return max(float((expected - logprobs).abs().max()) for logprobs in found)


def _over_a_cache(lm: TokenLogits, ids: Tensor, mask: Tensor, places: Tensor, cuts: list[int]) -> list[Tensor]:
    """Logits at `places` of one text, ids between each two cuts in a pass: over the cache that the model brings, or
    over transformers' under `mask`."""
    own, dynamic, parts = own_row_cache(lm.model, 1), DynamicCache(), list[Tensor]()
    if own is not None:
        own.reserve(1, cuts[-1])
    for start, stop in pairwise(cuts):
        if start == stop:
            continue
        positions = torch.arange(start, stop, device=ids.device)[None]
        given: Tensor | None = mask[:, :, start:stop, :stop]
        cache: Any = dynamic
        if own is not None:
            given, cache = own.mask(positions, stop), own.window(0, 1, positions, stop)
        columns = places[(places >= start) & (places < stop)] - start
        parts.append(lm(ids[:, start:stop], positions, given, torch.zeros_like(columns), columns, cache))
    return parts
