"""The README.md of an exported model: what it is, how it was trained, what it came to, and how it is asked."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from spiral.config.loading import dump
from spiral.config.schema import Config
from spiral.plugins.registry import label
from spiral.reports.terminal import alone, headline
from spiral.runs import metric_names
from spiral.runs.directory import RunDir

_LIBRARIES = ("spiral-selfplay", "torch", "transformers", "tokenizers")


def model_card(run: RunDir, config: Config, step: int, name: str, prompt: str, modules: Sequence[str] = ()) -> str:
    """Markdown. `prompt`: the text that the model is asked its first move by, in the first of its games; not told of a
    model that learned from text. `modules`: of the classes of model and tokenizer that are not transformers' own."""
    alone = "It loads with transformers alone."
    with_modules = f"It loads with transformers once its own classes are known: `import {', '.join(modules)}`."
    parts = [
        "---\nlibrary_name: transformers\ntags: [self-play, reinforcement-learning, spiral]\n---",
        f"# {name}",
        f"`{label(config.model.name, config.model.args)}` after {step} of {config.steps} steps of {_how(config)}, "
        f"trained by spiral. {with_modules if modules else alone}",
        *([] if config.text.paths else _asked(config, prompt)),
        "## What it came to",
        _figures(run, step),
        "## How it was trained",
        f"`spiral train config.yaml`, with the config below, on {_installed(run)}.",
        _fenced(dump(config).rstrip(), "yaml"),
    ]
    return "\n\n".join(parts) + "\n"


def _how(config: Config) -> str:
    if config.text.paths:
        return f"pretraining on text (`{', '.join(config.text.paths)}`)"
    games = ", ".join(label(game.name, game.args) for game in config.games)
    if config.examples.path:
        return f"supervised training (`{config.examples.path}`) on {games}"
    return f"self-play with {config.advantage.name} against {config.opponents.name} opponents on {games}"


def _asked(config: Config, prompt: str) -> list[str]:
    return [
        "## How it is asked",
        f"In the prompt format `{label(config.prompt.name, config.prompt.args)}`, at temperature 1, for at most "
        f"{config.rollout.max_new_tokens} tokens. The first question of a match:",
        _fenced(prompt),
    ]


def _figures(run: RunDir, step: int) -> str:
    """The figures that the run was judged by and how its games ended, as measured last up to this step."""
    measured: dict[str, tuple[int, float]] = {}
    for line in run.metrics():
        if line["step"] <= step:
            measured |= {name: (line["step"], value) for name, value in line.items() if isinstance(value, float)}
    values = {name: value for name, (_, value) in measured.items()}
    rows = [f"| {title} | {_by_player(shown)} |" for title, shown in {**headline(values), **alone(values)}.items()]
    if metric_names.ILLEGAL_RATE in values:
        rows.append(f"| games that an illegal move ended | {values[metric_names.ILLEGAL_RATE]:.1%} |")
    if not rows:
        return "Nothing was measured up to this step."
    last = max(when for when, _ in measured.values())
    head = f"Measured last up to step {last}; of several numbers each is that of one player, in their order."
    return "\n".join([head, "", "| figure | value |", "|---|---|", *rows])


def _by_player(values: tuple[float, ...]) -> str:
    return " / ".join(f"{value:.3f}" for value in values)


def _installed(run: RunDir) -> str:
    """The versions of the plug-ins when the run began, and of what they stand on now."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    versions |= _plugins(run.path / "plugins.json")
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _plugins(path: Path) -> Mapping[str, str]:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {str(name): str(version) for name, version in found.items()}


def _fenced(text: str, language: str = "text") -> str:
    """A block of code that no text in it ends."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"
