"""Models with random weights in the shapes of known ones, and the arithmetic that their training costs.

Weights from a hub are not needed for speed or memory: both depend on the shape alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

from spiral.api.records import LEARNER, Trajectory, Turn


@dataclass(frozen=True)
class Shape:
    """Of a decoder with grouped queries, a gated feed-forward layer and a tied head."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    kind: type[Qwen3Config] | type[LlamaConfig] = Qwen3Config
    context: int = 8192

    def config(self) -> Qwen3Config | LlamaConfig:
        """As transformers states it."""
        return self.kind(
            vocab_size=self.vocab,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.head_dim,
            max_position_embeddings=self.context,
            tie_word_embeddings=True,
        )

    def model(self, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
        """With the random weights of `transformers`, made on the device itself."""
        torch.manual_seed(0)
        with torch.device(device):
            return AutoModelForCausalLM.from_config(self.config(), dtype=dtype)  # type: ignore[no-untyped-call]

    @property
    def matrix_parameters(self) -> int:
        """Of the layers' matrices, without embeddings and head."""
        projections = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (projections + 3 * self.hidden * self.intermediate)

    def step_flops(self, lengths: Sequence[int], trained: int, adapter: bool = False) -> float:
        """Floating-point operations of forward and backward over rows of `lengths` tokens, of which `trained` have a
        logit: two for each weight and token, twice that backward, or once where only an adapter has gradients; and
        causal attention, half of the square. What is computed again to save memory does not count."""
        tokens = sum(lengths)
        linear = 2.0 * (self.matrix_parameters * tokens + self.hidden * self.vocab * trained)
        attention = 2.0 * self.layers * self.heads * self.head_dim * sum(n * n for n in lengths)
        return (2 if adapter else 3) * linear + 3 * attention


QWEN3_600M = Shape("qwen3-0.6b", 28, 1024, 16, 8, 128, 3072, 151_936)
QWEN3_4B = Shape("qwen3-4b", 36, 2560, 32, 8, 128, 9728, 151_936)
SMOLLM2 = Shape("smollm2-135m", 30, 576, 9, 3, 64, 1536, 49_152, LlamaConfig)
TINY = Shape("tiny", 2, 32, 4, 2, 8, 48, 320)


def transcripts(num: int, tokens: int, vocab: int, share: float = 0.5, seed: int = 0) -> list[Trajectory]:
    """`num` trajectories of one turn of random ids, of which the last `share` are the reply: rows that share nothing.

    Their log-probabilities are about those of random weights, and half of the rewards are 1, the others -1.
    """
    rng = random.Random(seed)
    reply = max(1, int(tokens * share))
    guess = -float(torch.log(torch.tensor(float(vocab))))
    out = []
    for number in range(num):
        ids = tuple(rng.randrange(vocab) for _ in range(tokens))
        turn = Turn("", ids[:-reply], ids[-reply:], (guess,) * reply, "", True, "stop", 0)
        out.append(Trajectory("random", 0, LEARNER, 1.0 if number % 2 else -1.0, (turn,), 0))
    return out
