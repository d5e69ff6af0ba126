"""Two parts of a benchmark's questions, by the hash of each: what one process trains on, no other evaluates."""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["all", "train", "test"]

TEST_SHARE = 5
"""One question in so many is in the part `test`."""


def in_split(prompt: str, split: Split) -> bool:
    """Whether a question is in a part; the same on every machine and for every seed."""
    is_test = int(hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16) % TEST_SHARE == 0
    return split == "all" or is_test == (split == "test")
