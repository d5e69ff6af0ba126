"""Starts training runs and continues them; nothing heavy is imported before a config was found good."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from spiral.api.errors import SpiralError

if TYPE_CHECKING:
    from spiral.config.loading import Override
    from spiral.config.schema import Config
    from spiral.plugins.registry import Plugins
    from spiral.runs.directory import RunDir


def rank() -> int:
    """This process's number among those that accelerate or torchrun started; 0 when alone."""
    return int(os.environ.get("RANK", "0"))


def new_run(run_dir: Path | None, config: Config, plugins: Plugins, prefix: str = "") -> RunDir:
    """The directory of a new run, made by the first process. Raises SpiralError if it cannot be made."""
    from spiral.runs.directory import RunDir

    if run_dir is None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise SpiralError("several processes must agree where the run is kept; give --run-dir")
        run_dir = Path("runs") / f"{prefix}{config.games[0].name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if rank() > 0:
        return RunDir(run_dir)
    return RunDir.create(run_dir, config, plugins.distributions)


def resumed_run(run_dir: Path | None, path: Path | None, overrides: Sequence[Override]) -> tuple[RunDir, Config]:
    """An existing run, and its config with `overrides`. Raises SpiralError for one that its checkpoints rule out."""
    from spiral.config.loading import load
    from spiral.config.schema import FIXED_IN_A_RUN
    from spiral.runs.directory import RunDir

    if run_dir is None or path is not None:
        raise SpiralError("--resume continues the run in --run-dir with its own config; give --run-dir and no file")
    run, config = RunDir.open(run_dir)
    if any(overrides):
        asked = load(run_dir / "config.yaml", overrides)
        changed = [key for key in FIXED_IN_A_RUN if getattr(asked, key) != getattr(config, key)]
        if changed:
            raise SpiralError(
                f"--resume would change {', '.join(changed)} of {run_dir}, whose checkpoints belong to the old values; "
                "start a new run with another --run-dir"
            )
        config = asked
    return run, config


def checked_config(path: Path | None, overrides: Sequence[Override], plugins: Plugins) -> Config:
    """A configuration whose plug-ins were all found and tried. Raises ConfigError with every problem."""
    from spiral.config.loading import read
    from spiral.selfplay.validation import check

    config, problems = read(path, overrides)
    check(config, plugins, problems)
    return config


def launch(
    path: Path | None,
    overrides: Sequence[Override],
    run_dir: Path | None,
    resume: bool,
    quiet: bool = False,
) -> RunDir:
    """Start a run, or continue the one in `run_dir`, and train to its last step. Raises SpiralError."""
    from spiral.plugins.registry import Plugins
    from spiral.selfplay.validation import check

    plugins = Plugins.installed()
    if resume:
        run, config = resumed_run(run_dir, path, overrides)
        check(config, plugins)
    else:
        config = checked_config(path, overrides, plugins)
        run = new_run(run_dir, config, plugins)
    run_training(config, run, plugins, resume, quiet=quiet)
    return run


def run_training(
    config: Config,
    run: RunDir,
    plugins: Plugins,
    resume: bool,
    command: str = "train",
    out: TextIO | None = None,
    quiet: bool = False,
) -> None:
    """Train to the end and display it on `out` (None: stdout); `command` would continue it after an interrupt."""
    from rich.console import Console

    from spiral.reports.terminal import Terminal
    from spiral.runs.files import WriteError

    go_on = f"spiral {command} --run-dir {run.path} --resume"
    terminal = Terminal(Console(file=out, quiet=quiet or rank() > 0))
    plugins.observe_with(terminal)
    try:
        from spiral.training.loop import train

        train(config, run, plugins, terminal.warm_start, resume)
    except SpiralError as error:
        if not resume and rank() == 0 and not run.metrics():
            run.discard()  # or the corrected command would find its directory taken
        elif isinstance(error, WriteError):
            raise SpiralError(f"{error}; then go on with: {go_on}") from error
        raise
    except KeyboardInterrupt:
        raise SpiralError(f"stopped; go on with: {go_on}") from None
    finally:
        terminal.close()
