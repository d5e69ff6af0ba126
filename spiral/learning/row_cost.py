"""What a row of an update costs, in tokens: its length, and attention between each two of its tokens.

In a tree each token is compared with all others of its row, and the mask drops most; a shared beginning is worth that
as long as it is longer than what attention costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

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

    @classmethod
    def of(cls, model: Any) -> RowCost:
        """That of a Hugging Face model, by its width."""
        return cls(max(LEAST_PAIRS, PAIRS_PER_WIDTH * model.config.get_text_config().hidden_size))

    def plain(self, num_tokens: int) -> float:
        """A causal row, in tokens."""
        return num_tokens + num_tokens**2 / (PLAIN_PAIRS * self.pairs)

    def tree(self, num_tokens: int) -> float:
        """A row with a mask, in tokens."""
        return num_tokens + num_tokens**2 / self.pairs

    def best_length(self, num_shared: int) -> float:
        """Of rows in which many sequences share a beginning of s tokens and add o each: a sequence costs least in rows
        of T = s + n o = sqrt(s^2 + s P) tokens, where (T + T^2 / P) / n is least. Nothing shared is worth no tree."""
        return math.sqrt(num_shared**2 + num_shared * self.pairs)
