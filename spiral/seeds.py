"""Where every random draw of a run comes from: numbers that descend from the run's seed by name, without state.

Nothing here remembers anything, so a resumed run needs no generator restored and the order of work does not matter.
"""

from __future__ import annotations

import hashlib

_MASK = (1 << 64) - 1


def derive(*path: int | str) -> int:
    """A 64-bit seed for a place in the run, such as `derive(seed, "rollout", step)`."""
    text = "/".join(map(str, path)).encode(
        "utf-8", "surrogatepass"
    )  # a policy's name may be a directory's, of any bytes
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def child(seed: int, index: int) -> int:
    """The index-th seed below a 64-bit seed; cheap enough for every turn (the SplitMix64 generator of Steele 2014)."""
    z = (seed + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)
