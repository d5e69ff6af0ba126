"""Runs the conformance check of an installed plug-in's kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from spiral.api.policies import is_external, tried_on
from spiral.plugins.arguments import required_arguments
from spiral.plugins.kinds import BY_NAME
from spiral.plugins.registry import Bound, Plugins
from spiral.testing.benchmarks import check_benchmark
from spiral.testing.bots import check_bot
from spiral.testing.curricula import check_curriculum
from spiral.testing.estimators import check_estimator
from spiral.testing.games import check_game
from spiral.testing.models import check_model
from spiral.testing.prompts import check_prompt_format, merging_tokenizer
from spiral.testing.rewards import check_reward
from spiral.testing.samplers import check_sampler

Factory = Callable[..., Any]

Progress = Callable[[str], object]
"""Called with each game that a bot is tried on, before it."""


def check(
    plugins: Plugins,
    kind: str,
    name: str,
    args: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """The violations of an installed plug-in, made with `args`, a sentence each; [] if there are none.

    The `CHECKED_KINDS` have a check; of the other kinds only the name and the arguments are checked. A bot is tried on
    the games that its factory names in `tried_on`, or on every installed game but the members of families; an
    external one, for which a person or another process decides, is not tried, nor is a model or a benchmark that needs
    an argument, or whose factory says what is `missing`.
    Raises PluginError for a name that is not installed, or that two distributions took.

    Example: `assert check(Plugins.installed(), "game", "kuhn_poker") == []`
    """
    factory, args = plugins.find(kind, name).factory, args or {}
    untried = why_not_tried(kind, name, factory, args)
    if (args or not untried) and (problem := plugins.problem(kind, name, args)):
        return [f"it cannot be made{'' if args else ' with its default arguments'}: {problem}"]
    if untried or kind not in _CHECKS:
        return []
    made = Bound(factory, **args)
    return _CHECKS[kind](made, plugins, progress)


def why_not_tried(kind: str, name: str, factory: Factory, args: Mapping[str, Any]) -> str:
    """The reason why a plug-in's promises are not tested; empty for one that is tested."""
    if is_external(factory):
        return "it asks a person or another process"
    if kind in _MAY_NEED and not args and (needed := required_arguments(factory, BY_NAME[kind].num_core_args)):
        return f"it needs an argument: spiral check {name}:{needed[0]}=..."
    missing = getattr(factory, "missing", None)
    return str(missing(**args)) if callable(missing) else ""


def _check_bot(made: Bound, plugins: Plugins, progress: Progress | None) -> list[str]:
    asked = tried_on(made)
    # A family is no game by itself, and a game of `tried_on` may not be installed: both have a problem.
    games = [game for game in asked or plugins.names("game") if not plugins.problem("game", game, {})]
    return check_bot(made, {game: plugins.find("game", game).factory for game in games}, progress=progress)


def _check_prompt(made: Bound, plugins: Plugins, progress: Progress | None) -> list[str]:
    return check_prompt_format(made, {"of a vocabulary that merges letters": merging_tokenizer()})


def _check_model(made: Bound, plugins: Plugins, progress: Progress | None) -> list[str]:
    return check_model(made, {name: plugins.find("prompt", name).factory for name in plugins.names("prompt")})


_CHECKS: dict[str, Callable[[Bound, Plugins, Progress | None], list[str]]] = {
    "game": lambda made, plugins, progress: check_game(made),
    "bot": _check_bot,
    "opponents": lambda made, plugins, progress: check_sampler(made, plugins),
    "curriculum": lambda made, plugins, progress: check_curriculum(made),
    "reward": lambda made, plugins, progress: check_reward(made),
    "advantage": lambda made, plugins, progress: check_estimator(made),
    "prompt": _check_prompt,
    "model": _check_model,
    "benchmark": lambda made, plugins, progress: check_benchmark(made),
}

_MAY_NEED = ("model", "benchmark")
"""The kinds whose plug-ins may need an argument that the check cannot give, such as a path."""

CHECKED_KINDS = tuple(_CHECKS)
"""The kinds of plug-in that have a check."""
