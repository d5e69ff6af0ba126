"""How much one address and one connection may ask for: numbers, and counters that are bounded themselves."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_KEYS = 10_000
"""Addresses that are counted at once; the one that asked longest ago is forgotten first."""


@dataclass(frozen=True)
class Rate:
    """So many at once, and so many a second in the long run."""

    burst: float
    per_s: float


@dataclass(frozen=True)
class Limits:
    """Of an arena. A class at school, or a house behind one address, stays within them."""

    connections: int = 64
    """Sockets open at once from one address."""
    openings: Rate = Rate(128, 4.0)
    """New sockets from one address, which bounds guesses at tokens too."""
    requests: Rate = Rate(300, 30.0)
    """Pages and other answers for one address."""
    registrations: Rate = Rate(40, 0.2)
    """Requests of one address that change something: new players."""
    replays: Rate = Rate(60, 1.0)
    """Pages of matches for one address, which play the match again in the process of the games."""
    exports: Rate = Rate(10, 0.1)
    """The same for answers with up to a hundred matches as examples."""
    histories: Rate = Rate(20, 1.0)
    """The same for what one player saw and moved in its match so far; a page asks once a match and connection."""
    messages: Rate = Rate(60, 30.0)
    """Of one connection: it is read no faster, and nothing of it is lost."""

    @classmethod
    def by_connections(cls, connections: int) -> Limits:
        """Those of an arena that allows an address so many sockets: it may open them in proportion."""
        return cls(connections, Rate(2.0 * connections, connections / 16))


class Bucket:
    """Counts for one rate: full at first, and filled again as time passes."""

    def __init__(self, rate: Rate, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._now = rate, now
        self._left, self._at = rate.burst, now()

    def take(self) -> float:
        """Take one; how many seconds it comes too early, and 0 where it does not."""
        now = self._now()
        self._left = min(self._rate.burst, self._left + (now - self._at) * self._rate.per_s) - 1
        self._at = now
        return max(0.0, -self._left / self._rate.per_s)

    def give_back(self) -> None:
        """What was taken was not used."""
        self._left += 1


class Counters:
    """One bucket an address."""

    def __init__(self, rate: Rate, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._now = rate, now
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def too_early_s(self, key: str) -> float:
        """Count one; how many seconds to wait instead, and 0 where it may be done. What is refused is not counted."""
        bucket = self._buckets.setdefault(key, Bucket(self._rate, self._now))
        self._buckets.move_to_end(key)
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)
        wait_s = bucket.take()
        if wait_s:
            bucket.give_back()
        return wait_s


def address(client: tuple[str, int] | None) -> str:
    """What one person has: an address of version 4, or the 64 bits of one of version 6 that a connection is given."""
    if client is None:
        return ""
    try:
        parsed = ipaddress.ip_address(client[0])
    except ValueError:
        return client[0]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
