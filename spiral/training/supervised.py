"""Starts supervised runs: the games and the number of steps follow from the file of examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spiral.api.errors import RunError, SpiralError
from spiral.training.launch import checked_config, new_run, resumed_run, run_training

if TYPE_CHECKING:
    from spiral.config.loading import Override
    from spiral.runs.directory import RunDir

EPOCHS = 3.0


def launch(
    path: Path, overrides: Sequence[str], epochs: float | None, run_dir: Path | None, resume: bool, quiet: bool = False
) -> RunDir:
    """Start a run that learns from the examples at `path`, or continue it, to its last step. Raises SpiralError."""
    from spiral.plugins.registry import Plugins
    from spiral.selfplay.validation import check

    plugins = Plugins.installed()
    if resume:
        if epochs is not None:
            raise SpiralError("--epochs and --resume exclude each other; for more steps give steps=N")
        run, config = resumed_run(run_dir, None, overrides)
        if Path(config.examples.path).resolve() != path.resolve():
            learned = config.examples.path or "games of its own"
            raise RunError(f"--resume continues {run.path}, which learns from {learned}, not from {path}; give that")
        check(config, plugins)
    else:
        config = checked_config(None, [_layer(path, overrides, epochs), *overrides], plugins)
        run = new_run(run_dir, config, "sft-")
    run_training(config, run, plugins, resume, f"sft {path}", quiet=quiet)
    return run


def _layer(path: Path, overrides: Sequence[Override], epochs: float | None) -> Mapping[str, Any]:
    """What the file says of a run's config: its games, and the steps of `epochs` passes."""
    from spiral.config.loading import parse_plugin, read, references
    from spiral.selfplay.examples import read_examples

    examples = read_examples(path)
    games = [asdict(parse_plugin(name)) for name in dict.fromkeys(example.game for example in examples)]
    if found := references(games):
        raise SpiralError(
            f"{path} asks for {', '.join(sorted(found))} of the environment in a game's arguments, and a file may be "
            "another's; mend it, or delete those lines"
        )
    layer: dict[str, Any] = {"examples": {"path": str(path)}, "games": games}
    asked = [word for word in overrides if isinstance(word, str) and word.partition("=")[0] == "steps"]
    if asked and epochs is not None:
        raise SpiralError(f"--epochs {epochs:g} and {asked[-1]} exclude each other; give one of them")
    if not asked:
        config, _ = read(None, [layer, *overrides])
        num = len({example.number for example in examples})
        num -= min(round(config.examples.held_out * num), config.examples.max_held_out)
        layer["steps"] = max(1, math.ceil((epochs or EPOCHS) * num / config.rollout.episodes))
    return layer
