"""`check` finds the kit for an installed plug-in; it knows kinds, and no promise."""

from __future__ import annotations

from spiral.plugins.registry import Plugins
from spiral.testing.bots import check_bot
from spiral.testing.curricula import check_curriculum
from spiral.testing.estimators import check_estimator
from spiral.testing.games import check_game
from spiral.testing.rewards import check_reward
from spiral.testing.samplers import check_sampler

CHECKED_KINDS = ("game", "bot", "opponents", "curriculum", "reward", "advantage")
"""The kinds of plug-in that have a kit."""


def check(plugins: Plugins, kind: str, name: str) -> list[str]:
    """The broken promises of an installed plug-in, made with its default arguments; empty if it keeps them.

    The `CHECKED_KINDS` have a kit; of the other kinds only the name and the arguments are checked.
    A bot is tried on every installed game but the members of families, or on those that it names; one that asks
    somebody outside is not tried. Raises PluginError for a name that is not installed.
    """
    factory = plugins.find(kind, name).factory
    if getattr(factory, "external", False):
        return []
    fault = plugins.fault(kind, name, {})
    if fault:
        return [f"it cannot be made with its default arguments: {fault}"]
    if kind == "game":
        return check_game(factory)
    if kind == "bot":
        named = getattr(factory, "tried_on", ()) or plugins.names("game")
        names = [game for game in named if not plugins.fault("game", game, {})]
        return check_bot(factory, {game: plugins.find("game", game).factory for game in names})
    if kind == "opponents":
        return check_sampler(factory, plugins)
    if kind == "curriculum":
        return check_curriculum(factory)
    if kind == "reward":
        return check_reward(factory)
    return check_estimator(factory) if kind == "advantage" else []
