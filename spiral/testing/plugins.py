"""Runs the conformance check of an installed plug-in's kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spiral.api.policies import is_external, tried_on
from spiral.plugins.registry import Plugins
from spiral.testing.bots import check_bot
from spiral.testing.curricula import check_curriculum
from spiral.testing.estimators import check_estimator
from spiral.testing.games import check_game
from spiral.testing.models import check_model
from spiral.testing.prompts import check_prompt_format, merging_tokenizer
from spiral.testing.rewards import check_reward
from spiral.testing.samplers import check_sampler

Factory = Callable[..., Any]


def check(plugins: Plugins, kind: str, name: str) -> list[str]:
    """The violations of an installed plug-in, made with its default arguments, a sentence each; [] if there are none.

    The `CHECKED_KINDS` have a check; of the other kinds only the name and the arguments are checked. A bot is tried on
    the games that its factory names in `tried_on`, or on every installed game but the members of families; an
    external one, for which a person or another process decides, is not tried. Raises PluginError for a name that is
    not installed.

    Example: `assert check(Plugins.installed(), "game", "kuhn_poker") == []`
    """
    factory = plugins.find(kind, name).factory
    if is_external(factory):
        return []
    if problem := plugins.problem(kind, name, {}):
        return [f"it cannot be made with its default arguments: {problem}"]
    return _CHECKS[kind](factory, plugins) if kind in _CHECKS else []


def _check_bot(factory: Factory, plugins: Plugins) -> list[str]:
    names = tried_on(factory) or plugins.names("game")
    # A family is no game by itself, and a game of `tried_on` may not be installed: both have a problem.
    games = [game for game in names if not plugins.problem("game", game, {})]
    return check_bot(factory, {game: plugins.find("game", game).factory for game in games})


def _check_prompt(factory: Factory, plugins: Plugins) -> list[str]:
    return check_prompt_format(factory, {"of a vocabulary that merges letters": merging_tokenizer()})


def _check_model(factory: Factory, plugins: Plugins) -> list[str]:
    return check_model(factory, {name: plugins.find("prompt", name).factory for name in plugins.names("prompt")})


_CHECKS: dict[str, Callable[[Factory, Plugins], list[str]]] = {
    "game": lambda factory, plugins: check_game(factory),
    "bot": _check_bot,
    "opponents": check_sampler,
    "curriculum": lambda factory, plugins: check_curriculum(factory),
    "reward": lambda factory, plugins: check_reward(factory),
    "advantage": lambda factory, plugins: check_estimator(factory),
    "prompt": _check_prompt,
    "model": _check_model,
}

CHECKED_KINDS = tuple(_CHECKS)
"""The kinds of plug-in that have a check."""
