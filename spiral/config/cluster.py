"""Where the processes of a run are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ClusterConfig:
    """Where a run is; `cluster=ray` is short for `cluster={name: ray}`."""

    name: str
    """`local` or `ray`."""
    args: dict[str, Any] = field(default_factory=dict)
    """See [past one machine](../scaling.md)."""
