"""Byte decoders of one configuration in one pass over the new tokens of all their texts, for engines.

The same function as `ByteForCausalLM` but for rounding, with what generation alone allows: no padding, the weights of
the norms and the scale of the scores inside of the matrices behind them, a rotation that is one complex product, and
in the last layer nothing of tokens whose logits are not wanted but their keys and values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from spiral_models.byte.attention import RotaryTable
from spiral_models.byte.block import feed_forward_owners
from spiral_models.byte.config import ByteConfig
from spiral_models.byte.ragged import Group, Ragged
from spiral_models.products import FEWEST_AGAIN, linear

FEWEST_IN_PARTS = 4 * FEWEST_AGAIN
"""Multiplications of a policy from which on its product is worth a call of its own."""
_ALIGNED = 4
"""Numbers of a float32 row that a grouped product wants as a multiple."""


class _Matrix:
    """One matrix of each policy, or several whose product it is."""

    def __init__(self, *shapes: tuple[int, int]) -> None:
        """`shapes`: (outputs, inputs) of each factor, the first to be multiplied first."""
        self.factors = [torch.empty(0, *shape) for shape in shapes]

    def arrange(self, order: Sequence[int | None]) -> None:
        self.factors = [_arranged(factor, order) for factor in self.factors]

    def set(self, policy: int, factors: Iterable[Tensor], inputs: Tensor | None = None) -> None:
        """Of one policy; `inputs`: what each input is multiplied with before."""
        for target, factor in zip(self.factors, factors, strict=True):
            target[policy] = factor if inputs is None else factor * inputs
            inputs = None

    def product(self, x: Tensor, group: Group, rows: slice = slice(None)) -> Tensor:
        """(n, inputs) -> (n, outputs), each line with the matrix of its policy; of the last factor `rows` alone."""
        for index, factor in enumerate(self.factors):
            if index == len(self.factors) - 1:
                factor = factor[:, rows]
            x = _product(x, factor, group)
        return x


def _product(x: Tensor, weights: Tensor, group: Group) -> Tensor:
    """Each line of x, (n, inputs), by the matrix of its policy, (policies, outputs, inputs)."""
    if group.only is not None:
        return linear(x, weights[group.only], fewest=FEWEST_AGAIN)
    if group.mean * weights[0].numel() < FEWEST_IN_PARTS:
        return F.grouped_mm(x, weights.transpose(1, 2), offs=group.ends)
    # One call a policy, of which each may have the faster kernels.
    parts = zip(torch.split(x, group.counts), weights, strict=True)
    return torch.cat([linear(part, weight, fewest=FEWEST_AGAIN) for part, weight in parts if len(part)])


class _Layer:
    """The matrices of a block."""

    def __init__(self, config: ByteConfig) -> None:
        hidden, inner, rank = config.hidden_size, config.intermediate_size, config.ffn_rank
        heads = config.num_attention_heads
        self.qkv = _Matrix(((heads + 2 * config.num_key_value_heads) * config.head_dim, hidden))
        self.out = _Matrix((hidden, heads * config.head_dim))
        if rank is None:
            self.gate_up, self.down = _Matrix((2 * inner, hidden)), _Matrix((hidden, inner))
        else:
            self.gate_up = _Matrix((rank, hidden), (2 * inner, rank))
            self.down = _Matrix((rank, inner), (hidden, rank))

    @property
    def all(self) -> tuple[_Matrix, ...]:
        return self.qkv, self.out, self.gate_up, self.down


class ByteStack:
    """See `spiral.models.stacking.Stack`. Keys are kept with the two halves of each head interleaved."""

    def __init__(self, config: ByteConfig) -> None:
        self.config = config
        self._layers = [_Layer(config) for _ in range(config.num_hidden_layers)]
        self._owners = feed_forward_owners(config.num_hidden_layers, config.share_ffn)
        self._embedding = torch.empty(0, config.vocab_size, config.hidden_size)
        self._head = _Matrix((config.vocab_size, config.hidden_size))
        self._queries = config.num_attention_heads * config.head_dim
        cos, sin = RotaryTable(config.max_position_embeddings, config.head_dim, config.rope_theta).table.chunk(2, -1)
        half = config.head_dim // 2
        self._rotation = torch.complex(cos[:, :half].contiguous(), sin[:, half:].contiguous())
        """(context, head_dim / 2)."""

    def arrange(self, order: Sequence[int | None]) -> None:
        self._embedding = _arranged(self._embedding, order)
        for matrix in (self._head, *(one for layer in self._layers for one in layer.all)):
            matrix.arrange(order)

    def load(self, policy: int, weights: Mapping[str, Tensor]) -> None:
        config = self.config
        for index, (layer, owner) in enumerate(zip(self._layers, self._owners, strict=True)):
            own, shared = f"model.layers.{index}.", f"model.layers.{owner}."
            qkv = weights[own + "qkv_proj.weight"] * weights[own + "input_layernorm.weight"]
            layer.qkv.set(policy, [self._interleaved(qkv)])
            layer.out.set(policy, [weights[own + "o_proj.weight"]])
            # Without names for what is read: of weights that are gathered as they are read, few are whole at once.
            norm = own + "post_attention_layernorm.weight"
            layer.gate_up.set(policy, _factors(weights, shared + "gate_up_proj"), weights[norm])
            layer.down.set(policy, _factors(weights, shared + "down_proj"))
        embedding = "model.embed_tokens.weight"
        self._embedding[policy] = weights[embedding]
        head = embedding if config.tie_word_embeddings else "lm_head.weight"
        self._head.set(policy, [weights[head]], weights["model.norm.weight"])

    @torch.inference_mode()
    def __call__(
        self,
        keys: Tensor,
        first: int,
        ids: Sequence[Sequence[int]],
        starts: Sequence[int],
        policies: Sequence[int],
        wants_logits: bool = True,
    ) -> Tensor:
        tokens = Ragged(first, ids, starts, policies, len(self._embedding))
        self._check(tokens)
        x = F.embedding(tokens.ids + tokens.policies * self.config.vocab_size, self._embedding.flatten(0, 1))
        attention = _Attention(self.config, keys, tokens, self._rotation)
        last = len(self._layers) - 1
        for index, layer in enumerate(self._layers):
            if index == last and (tokens.wide is not None or not wants_logits):
                return self._of_last_tokens(x, layer, attention, tokens, wants_logits)
            qkv = layer.qkv.product(self._norm(x), tokens.tokens)
            x += layer.out.product(attention(qkv, index), tokens.tokens)
            self._feed_forward(x, layer, tokens.tokens)
        return self._logits(x, tokens.rows)

    def _of_last_tokens(
        self, x: Tensor, layer: _Layer, attention: _Attention, tokens: Ragged, wants_logits: bool
    ) -> Tensor:
        """The last layer: keys and values of every token, and all else of those that logits are wanted of."""
        index, h = len(self._layers) - 1, self._norm(x)
        attention.keep(layer.qkv.product(h, tokens.tokens, slice(self._queries, None)), index)
        if not wants_logits:
            return x.new_empty(0, self.config.vocab_size)
        query = layer.qkv.product(h.index_select(0, tokens.last), tokens.rows, slice(self._queries))
        x = x.index_select(0, tokens.last)
        x += layer.out.product(attention.of_rows(query, index), tokens.rows)
        self._feed_forward(x, layer, tokens.rows)
        return self._logits(x, tokens.rows)

    def _feed_forward(self, x: Tensor, layer: _Layer, group: Group) -> None:
        gate, up = layer.gate_up.product(self._norm(x), group).chunk(2, -1)
        x += layer.down.product(F.silu(gate).mul_(up), group)

    def _logits(self, x: Tensor, rows: Group) -> Tensor:
        logits = self._head.product(self._norm(x), rows)
        return logits if rows.only is not None else logits.index_select(0, rows.place)

    def _norm(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], None, self.config.rms_norm_eps)

    def _interleaved(self, qkv: Tensor) -> Tensor:
        """The matrix of queries, keys and values with the rows of each query and key in pairs, as complex numbers have
        them, and with the scale of the scores in the queries."""
        size, kv_heads = self.config.head_dim, self.config.num_key_value_heads
        turned, values = torch.split(qkv, [len(qkv) - kv_heads * size, kv_heads * size])
        pairs = turned.view(-1, 2, size // 2, turned.shape[1]).transpose(1, 2).reshape(turned.shape)
        pairs[: self._queries] *= size**-0.5
        return torch.cat((pairs, values))

    def _check(self, tokens: Ragged) -> None:
        highest = int(tokens.last_places.max())
        if highest >= len(self._rotation):
            raise ValueError(f"position {highest} is outside the model's context of {len(self._rotation)} positions")


class _Attention:
    """Attention of one pass, whose tokens are sorted by policy, over a cache, whose rows are not."""

    def __init__(self, config: ByteConfig, keys: Tensor, tokens: Ragged, rotation: Tensor) -> None:
        self._heads, self._kv_heads, self._size = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        self._keys, self._tokens = keys, tokens
        self._turns = rotation.index_select(0, tokens.places)[:, None]
        """(N, 1, head_dim / 2)."""
        _, layers, rows, kv_heads, length, _ = keys.shape
        self._length, self._layer_size = length, rows * kv_heads * length
        self._half = layers * self._layer_size
        """Where the values begin, in a line of all keys and values."""
        head = torch.arange(2 * kv_heads)
        offsets = head // kv_heads * self._half + head % kv_heads * length
        base = tokens.cache_rows * (kv_heads * length) + tokens.places
        self._index = (base[:, None] + offsets).flatten()
        """(N * 2 * kv_heads,): where the keys and then the values of each token stand in the first layer."""
        self._flat = keys.view(-1, self._size)
        if tokens.num_steps:
            self._steps = tokens.mask(tokens.num_steps, kv_heads)
        self._step_tokens = None if tokens.tokens.only is not None else tokens.tokens.place[: tokens.num_steps]

    def __call__(self, qkv: Tensor, index: int) -> Tensor:
        """(N, (heads + 2 * kv_heads) * head_dim) -> (N, heads * head_dim) of layer `index`."""
        queries = self._heads * self._size
        self._turn(qkv[:, : queries + self._kv_heads * self._size], self._turns)
        self._write(qkv[:, queries:], index)
        tokens, query = self._tokens, qkv[:, :queries]
        parts = []
        if tokens.num_steps:
            steps = query[: tokens.num_steps] if self._step_tokens is None else query.index_select(0, self._step_tokens)
            parts.append(self._one_query(steps, index, *self._steps))
        if tokens.wide is not None:
            parts.append(self._padded(query, index))
        attended = parts[0] if len(parts) == 1 else torch.cat(parts)
        return attended if tokens.unpadded is None else attended.index_select(0, tokens.unpadded)

    def keep(self, kv: Tensor, index: int) -> None:
        """Write the keys and values (N, 2 * kv_heads * head_dim) of all tokens."""
        self._turn(kv[:, : self._kv_heads * self._size], self._turns)
        self._write(kv, index)

    def of_rows(self, query: Tensor, index: int) -> Tensor:
        """(n, heads * head_dim) of the last token of each row, sorted by policy -> the same shape."""
        rows = self._tokens.rows
        self._turn(query, self._turns.index_select(0, self._tokens.last))
        given = query if rows.only is not None else query.index_select(0, rows.place)
        attended = self._one_query(given, index, *self._tokens.mask(rows.num, self._kv_heads))
        return attended if rows.only is not None else attended.index_select(0, rows.order)

    def _turn(self, x: Tensor, turns: Tensor) -> None:
        """Rotate heads (n, k * head_dim) in place, each line by its position's angles."""
        torch.view_as_complex(x.view(len(x), -1, self._size // 2, 2)).mul_(turns)

    def _write(self, kv: Tensor, index: int) -> None:
        self._flat[index * self._layer_size :].index_copy_(0, self._index, kv.reshape(-1, self._size))

    def _one_query(self, query: Tensor, index: int, span: int, mask: Tensor) -> Tensor:
        """One token for each of the first rows, (n, heads * head_dim), in plain products: on a CPU, torch's fused
        kernel takes a quarter longer for one position. The heads that share a key are the lines of one product."""
        num, size = len(query), self._size
        lines, stride = num * self._kv_heads, self._length * size
        start = (index * self._layer_size + self._tokens.first * self._kv_heads * self._length) * size
        # Each in one view, (lines, size, span) and (lines, span, size): a small pass is mostly such calls.
        keys = self._keys.as_strided((lines, size, span), (stride, 1, size), start)
        values = self._keys.as_strided((lines, span, size), (stride, size, 1), start + self._half * size)
        scores = torch.baddbmm(mask, query.reshape(lines, -1, size), keys)
        return torch.bmm(scores.softmax(-1), values).view(num, -1)

    def _padded(self, query: Tensor, index: int) -> Tensor:
        """Of the rows with several tokens (n * T, heads * head_dim)."""
        wide = self._tokens.wide
        assert wide is not None
        padded = query.index_select(0, wide.tokens).view(wide.num, -1, self._heads, self._size).transpose(1, 2)
        key, value = self._keys[:, index, wide.row : wide.row + wide.num, :, : wide.span]
        out = F.scaled_dot_product_attention(
            padded, key, value, wide.mask, is_causal=wide.mask is None, scale=1.0, enable_gqa=True
        )
        return out.transpose(1, 2).reshape(len(wide.tokens), -1)


def can_stack(config: ByteConfig) -> bool:
    """Whether grouped products take the matrices of a shape."""
    heads = config.num_attention_heads * config.head_dim
    widths = config.hidden_size, config.intermediate_size, config.ffn_rank or 0, heads
    return all(width % _ALIGNED == 0 for width in widths)


def _arranged(old: Tensor, order: Sequence[int | None]) -> Tensor:
    new = old.new_empty(len(order), *old.shape[1:])
    for place, source in enumerate(order):
        if source is not None:
            new[place] = old[source]
    return new


def _factors(weights: Mapping[str, Tensor], name: str) -> Iterator[Tensor]:
    """Of a matrix, or of the two whose product it is; each read when it is wanted, since reading may gather it."""
    if name + ".weight" in weights:
        yield weights[name + ".weight"]
        return
    for part in ("reduce", "expand"):
        yield weights[f"{name}.{part}.weight"]
