"""What a row of an update costs, in tokens: its length, and attention between each two of its tokens.

Under a dense mask each token of a tree is compared with all others of its row, and the mask drops most; a shared
beginning is worth that as long as it is longer than what attention costs. Flex attention does not compare what never
meets, so there every shared beginning is; flash-attention knows no trees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from spiral.models.attention import Attention, attention_of

PAIRS_PER_WIDTH = 6
"""Of an attention under a mask: a token of a decoder of width H takes about 24 H^2 operations a layer, a pair 4 H.
Measured on one core, forward and backward, over rows of 64 to 1,024 tokens: 5.7 at a width of 576."""
LEAST_PAIRS = 1100
"""In narrow models a token's layers cost more than their operations: 1,300 pairs at a width of 64, 1,000 at 128
(`python -m perf rows`)."""
PLAIN_PAIRS = 1.25
"""Times as many in a causal row: between 1 and 1.5 at these widths."""


@dataclass(frozen=True, slots=True)
class RowCost:
    """`pairs`: of tokens in an attention under a mask, that cost as much as one token's layers."""

    pairs: float = LEAST_PAIRS
    attention: Attention = "sdpa"
    """That of the model's layers for rows without padding; `sdpa` has none."""

    @classmethod
    def of(cls, model: Any) -> RowCost:
        """That of a Hugging Face model, by its width and its attention."""
        return cls.of_width(model.config.get_text_config().hidden_size, attention_of(model))

    @classmethod
    def of_width(cls, hidden: int, attention: Attention = "sdpa") -> RowCost:
        """That of a decoder whose hidden states have so many numbers."""
        return cls(max(LEAST_PAIRS, PAIRS_PER_WIDTH * hidden), attention)

    @property
    def pads(self) -> bool:
        """Whether rows lie beside each other, padded."""
        return self.attention == "sdpa"

    def plain(self, num_tokens: int) -> float:
        """A causal row, in tokens."""
        return num_tokens + num_tokens**2 / (PLAIN_PAIRS * self.pairs)

    def tree(self, num_tokens: int) -> float:
        """A row with a mask, in tokens."""
        pairs = {"sdpa": num_tokens**2, "flex": 0.0, "flash": math.inf}[self.attention]
        return num_tokens + pairs / self.pairs

    def best_length(self, num_shared: int) -> float:
        """Of rows in which many sequences share a beginning of s tokens and add o each: a sequence costs least in rows
        of T = s + n o = sqrt(s^2 + s P) tokens, where (T + T^2 / P) / n is least. Nothing shared is worth no tree."""
        if self.attention == "flex":
            return math.inf if num_shared else 0.0
        return math.sqrt(num_shared**2 + num_shared * self.pairs)
