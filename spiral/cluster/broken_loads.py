"""What becomes of a player that a load of weights left with some of the new ones among the old ones."""

from __future__ import annotations

import platform

from spiral.api.errors import RunError
from spiral.cluster.buckets import FetchFailed
from spiral.cluster.orders import Orders, Report
from spiral.cluster.player import Player

MOST_BROKEN = 3
"""Loads in a row that may break off in a process before the run ends."""


class BrokenLoads:
    """Closes a player whose load broke off, so that nothing plays with what it has; its process makes another one,
    which is given everything anew as one that was killed is."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def work(self, player: Player, client: str, orders: Orders) -> Report:
        """See `Player.work`; after a load that broke off a report with a `problem`, and the player is closed. Raises
        RunError for the third in a row."""
        try:
            report = player.work(client, orders)
        except FetchFailed as error:
            self._in_a_row += 1
            player.close()
            if self._in_a_row == MOST_BROKEN:
                raise RunError(
                    f"weights were not loaded on {platform.node()}, {MOST_BROKEN} times in a row: {error}; see "
                    "Ray's logs there, or set cluster.args.transport=store"
                ) from error
            return Report(player.incarnation, was_refused=True, problem=f"a load broke off, {error}")
        if orders.loads:
            self._in_a_row = 0
        return report
