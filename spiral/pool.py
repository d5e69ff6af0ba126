"""Who may sit at the table, and what is known of them: bots, policies with weights, results between them."""

from __future__ import annotations

from typing import Any

from spiral.interfaces import Bot
from spiral.plugins import Plugins, label
from spiral.types import LEARNER, Episode, PolicyId


class Pool:
    """The policies of a run. Knows the bots themselves; of policies with weights it knows the names only.

    `state` is what a checkpoint keeps: the tally of results per game, player and line-up.
    """

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins
        self.bots: dict[PolicyId, Bot] = {}
        self.weighted: set[PolicyId] = {LEARNER}
        """Policies that an engine holds weights for."""
        self.state: dict[str, Any] = {"results": {}}

    def bot(self, name: str, **args: Any) -> PolicyId:
        """The id of a bot, made on first use. Raises PluginError for a name or arguments that do not fit."""
        policy = f"bot:{label(name, args)}"
        if policy not in self.bots:
            self.bots[policy] = self._plugins.make("bot", name, **args)
        return policy

    def __contains__(self, policy: PolicyId) -> bool:
        return policy in self.bots or policy in self.weighted

    def record(self, episode: Episode) -> None:
        """Add one result to the tally, from each chair's view: [wins, draws, losses]."""
        results = self.state["results"]
        for player, policy in enumerate(episode.policies):
            others = [p for i, p in enumerate(episode.policies) if i != player]
            key = f"{episode.game}/{player}/{policy}/{'+'.join(others)}"
            tally = results.setdefault(key, [0, 0, 0])
            tally[outcome(episode, player)] += 1


def outcome(episode: Episode, player: int) -> int:
    """0 for a win, 1 for a draw, 2 for a loss: the player's return against the best of the others'.

    With one player, the sign of the return.
    """
    others = [r for i, r in enumerate(episode.returns) if i != player]
    best = max(others, default=0.0)
    mine = episode.returns[player]
    return 0 if mine > best else 1 if mine == best else 2
