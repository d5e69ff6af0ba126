"""How many bytes a run takes on one device, as sums and products of its sizes: no torch, no config, no device.

Activations are what autograd keeps of one forward pass through transformers' decoders with fused attention, tensor by
tensor; the tests compare them with what it really keeps. Everything else is a count of parameters by their bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from spiral.learning.row_cost import RowCost
from spiral.training.memory.architecture import Architecture
from spiral.training.memory.settings import EngineSettings, LearnerSettings

When = Literal["always", "learning", "playing"]

FLOAT = 4
"""Bytes of float32, in which log-probabilities and the statistics of norms are computed whatever the precision."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "half": 2, "float": 4, "auto": 2}
"""Of one number, by torch's and vLLM's names."""
VOCABULARY_COPIES = 4
"""(tokens, vocabulary) in float32 at the loss's peak: logits, log-probabilities, probabilities, and their product."""
REFERENCE_COPIES = 2
"""More of them for each model that the policy is held near to: its logits, and the difference from them."""
GATHERED_LAYERS = 2
"""Layers of a sharded model that are whole at once: the one that is computed, and the next one on its way."""


MAPPED = 1 << 25
"""Bytes from which on glibc maps a block by itself, at the latest."""


@dataclass(frozen=True)
class Part:
    """Something that takes memory on a device."""

    holder: Literal["learner", "engine"]
    name: str
    num_bytes: int
    when: When = "always"


@dataclass(frozen=True)
class Precision:
    """Bytes of a number, by what it is, for one `learner.precision`."""

    held: int
    """Of a weight, its gradient, and each moment of it."""
    compute: int
    """Of what the layers compute."""

    @property
    def casts(self) -> bool:
        """Whether autocast copies weights and inputs of linear layers; the residual stream stays as weights are."""
        return self.held != self.compute


PRECISIONS: Mapping[str, Precision] = {
    "float32": Precision(held=4, compute=4),
    "mixed": Precision(held=4, compute=2),
    "bf16": Precision(held=2, compute=2),
}
INTO_ATTENTION = {"q_proj", "k_proj", "v_proj", "qkv_proj"}
INTO_MLP = {"gate_proj", "up_proj", "gate_up_proj"}
"""Linear layers that read the result of a norm, by the names that transformers gives them."""
MOMENT_8BIT = 1
"""Bytes of a moment of an 8-bit optimiser; its scales, one a block of 256, are less than a fiftieth more."""


def learner_parts(a: Architecture, s: LearnerSettings, shards: int = 1, on_gpu: bool = True) -> list[Part]:
    """What the learner takes of each of the `shards` devices that weights, gradients and moments are spread over."""
    p = PRECISIONS[s.precision]
    total, trained = a.num_parameters, num_trained(a, s)
    moment = MOMENT_8BIT if s.optimizer == "adamw_8bit" else p.held
    copy, n = trained * p.held, s.policies
    held = {
        "weights": total * p.held * n if s.adapter is None else total * p.held + copy * n,
        "optimiser state": 2 * trained * moment * n,
        "average": copy * n if s.average else 0,
        "reference": s.references * copy * n,
        "anchor": copy * n if s.initial else 0,
    }
    # Freed before the games of the next step begin.
    in_update = {
        "gradients": copy,
        "weights and state before the step": (copy + 2 * trained * moment) if s.rollback else 0,
    }
    parts = [Part("learner", name, -(-size // shards)) for name, size in held.items() if size]
    parts += [Part("learner", name, -(-size // shards), "learning") for name, size in in_update.items() if size]
    if shards > 1:
        gathered = GATHERED_LAYERS * a.layer_parameters + a.vocabulary * a.hidden * (1 if a.tied else 2)
        parts.append(Part("learner", "layers gathered from other devices", gathered * p.held, "learning"))
        # All that is in parts is whole for a moment, where an engine is probed with it, and where it is saved.
        parts.append(Part("learner", "whole weights, for the engine", copy, "playing"))
    if p.casts:
        parts.append(Part("learner", "weights cast to bfloat16", cast_bytes(a, s), "learning"))
    parts.append(Part("learner", "activations", activation_bytes(a, s), "learning"))
    parts.append(Part("learner", "logits", logits_bytes(a, s), "learning"))
    if s.shared_tokens is not None:
        parts.append(Part("learner", "masks of trees", mask_bytes(a, s, s.shared_tokens), "learning"))
    if not on_gpu:
        parts.append(Part("learner", "holes between activations", holes_bytes(a, s), "learning"))
    return parts


def num_trained(a: Architecture, s: LearnerSettings) -> int:
    """Parameters that have gradients."""
    return a.num_parameters if s.adapter is None else a.adapter_parameters(s.adapter)


def activation_bytes(a: Architecture, s: LearnerSettings) -> int:
    """What a forward pass over the planned row keeps for the backward pass, the logits not counted."""
    stream, layer = PRECISIONS[s.precision].held, layer_bytes(a, s)
    # With checkpoints: the input of each layer, and one layer at a time computed again.
    layers = a.layers * stream * a.hidden + layer if s.checkpoint_activations else a.layers * layer
    rotary, head_input = 2 * stream * a.head_dim, stream * a.hidden
    return s.row_tokens * (layers + rotary + _norm(a.hidden, stream, s.adapter is None) + head_input)


def layer_bytes(a: Architecture, s: LearnerSettings) -> int:
    """What one decoder layer keeps of one token: attention without a mask, over a gated MLP."""
    p, whole = PRECISIONS[s.precision], s.adapter is None
    compute = p.compute
    adapted = {linear.name for linear in (a.linears if s.adapter is None else a.adapted(s.adapter))}
    queries, keys = a.heads * a.head_dim, a.kv_heads * a.head_dim
    # The input of a linear layer is kept where its weight, or an adapter's, has a gradient: the result of a norm once
    # for all layers that read it, or a cast of it for each.
    readers = [len(adapted & INTO_ATTENTION), len(adapted & INTO_MLP)]
    results = sum(readers if p.casts else map(bool, readers))
    norms = 2 * _norm(a.hidden, p.held, whole) + results * compute * a.hidden
    # Query, key, value and result; the logarithm of each head's sum.
    attention = compute * (2 * queries + 2 * keys) + FLOAT * a.heads
    if a.normed_heads:
        attention += _norm(queries, compute, whole) + _norm(keys, compute, whole)
        attention += FLOAT * (a.heads + a.kv_heads - 2)  # a statistic for each head, not one
    # The gate before and after its activation, what it is multiplied with, and the product that goes on.
    mlp = compute * a.inner * (3 + len(adapted & {"down_proj"}))
    low_rank = 0 if s.adapter is None else compute * s.adapter.rank * len(adapted)
    return norms + attention + mlp + low_rank


def holes_bytes(a: Architecture, s: LearnerSettings) -> int:
    """What glibc's malloc cannot hand out again between the activations of a forward pass in main memory.

    Torch asks for aligned blocks, and a hole that a short-lived one left is a few bytes too small for the next one of
    its size. Larger blocks are mapped one by one and leave none. An adapter's three results leave room for one more.
    """
    compute, whole = PRECISIONS[s.precision].compute, s.adapter is None
    queries, keys = a.heads * a.head_dim, a.kv_heads * a.head_dim
    # Of each layer: the squares of its norms, what they multiply with a frozen weight, the results that are added to
    # the residual stream, and the steps of the rotation, of which each has its own.
    widths = [a.hidden] * (4 if whole else 6) + [queries, keys] * 4 + [queries // 2, keys // 2]
    for linear in [] if s.adapter is None else a.adapted(s.adapter):
        widths += [linear.outputs] * 2
    layers = 1 if s.checkpoint_activations else a.layers
    sizes = [compute * s.row_tokens * width for width in widths]
    return layers * sum(size for size in sizes if size < MAPPED)


def mask_bytes(a: Architecture, s: LearnerSettings, shared_tokens: int) -> int:
    """Of a micro-batch of trees of the length that costs least, where sequences share a beginning of that many tokens:
    a pair of tokens takes a bool and a number of what weights are."""
    cost = RowCost.of_width(a.hidden)
    return int(s.row_tokens * min(s.row_tokens, cost.best_length(shared_tokens)) * (1 + PRECISIONS[s.precision].held))


def cast_bytes(a: Architecture, s: LearnerSettings) -> int:
    """Of the weights of linear layers, the head's among them, in what they are computed in: once a pass."""
    weights = sum(linear.num * linear.inputs * linear.outputs for linear in a.linears) + a.vocabulary * a.hidden
    return PRECISIONS[s.precision].compute * weights


def _norm(width: int, result: int, trained: bool) -> int:
    """Of one root-mean-square norm of a token, whose result has `result` bytes a number: its input in float32, the
    statistic, and what is multiplied with a weight that has a gradient."""
    return FLOAT * width + FLOAT + result * width * int(trained)


def logits_bytes(a: Architecture, s: LearnerSettings) -> int:
    """Of a chunk of trained tokens at the loss's peak, and the gradient of the head's weight."""
    tokens = min(s.row_tokens, max(1, s.chunk_bytes // (FLOAT * a.vocabulary)))
    copies = VOCABULARY_COPIES + REFERENCE_COPIES * (int(s.references > 0) + int(s.initial))
    # Of one chunk, and of those before it: their sum joins the gradient when all are computed.
    gradients = 0 if s.adapter is not None else 1 + int(tokens < s.row_tokens)
    return copies * tokens * a.vocabulary * FLOAT + gradients * a.vocabulary * a.hidden * PRECISIONS[s.precision].held


def engine_parts(a: Architecture, s: LearnerSettings, e: EngineSettings, device_bytes: int) -> list[Part]:
    """What the engine takes of a device of `device_bytes`."""
    when: When = "playing" if e.sleeps else "always"
    if e.claims is not None:  # it takes its share whatever it needs
        claimed = int(e.claims * device_bytes) * e.instances(s)
        weights = min(claimed, engine_weights(a, s, e))
        return [
            Part("engine", "weights", weights, when),
            Part("engine", "keys and values, the rest of its share", claimed - weights, when),
        ]
    return [
        Part("engine", "weights", engine_weights(a, s, e), when),
        Part("engine", "keys and values", e.num_caches * e.rows * text_bytes(a, s, e), when),
    ]


def engine_weights(a: Architecture, s: LearnerSettings, e: EngineSettings) -> int:
    """Of the policies that an engine holds, on each of the devices that it is split over."""
    width = BYTES[e.dtype] if e.dtype else PRECISIONS[s.precision].held
    base = 0 if e.shares_model else a.num_parameters * width
    if s.adapter is None:
        size = a.num_parameters * width * e.num_policies
    else:
        size = base + num_trained(a, s) * width * e.num_policies
    return -(-size // e.tensor_parallel)


def text_bytes(a: Architecture, s: LearnerSettings, e: EngineSettings) -> int:
    """Keys and values of one planned text, on each of the devices that the engine is split over."""
    width = BYTES[e.dtype] if e.dtype else PRECISIONS[s.precision].held
    return -(-a.kv_elements * width * e.text_tokens // e.tensor_parallel)


def peak(parts: list[Part]) -> int:
    """The most that is taken at once: what always is, and the larger of what learning and what playing adds."""
    by_time = {when: sum(p.num_bytes for p in parts if p.when == when) for when in ("always", "learning", "playing")}
    return by_time["always"] + max(by_time["learning"], by_time["playing"])
