"""Starts training runs and continues them; nothing heavy is imported before a config was found good."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from spiral.api.errors import SpiralError, Stopped

if TYPE_CHECKING:
    from spiral.config.loading import Override
    from spiral.config.schema import Config
    from spiral.learning.stop_signals import StopSignals
    from spiral.plugins.registry import Plugins
    from spiral.reports.terminal import Terminal
    from spiral.runs.directory import RunDir


def rank() -> int:
    """This process's number among those that torchrun or accelerate started; 0 when alone."""
    return int(os.environ.get("RANK", "0"))


def new_run(run_dir: Path | None, config: Config, prefix: str = "") -> RunDir:
    """Where a new run will be kept; `run_training` makes it. Raises SpiralError if something is there already."""
    from spiral.runs.directory import RunDir, check_free

    if run_dir is None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise SpiralError("several processes must agree where the run is kept; give --run-dir")
        learned = config.games[0].name if config.games else config.model.name
        run_dir = Path("runs") / f"{prefix}{learned}-{time.strftime('%Y%m%d-%H%M%S')}"
    if rank() == 0:
        check_free(run_dir)
    return RunDir(run_dir)


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
        changed = [key for key in FIXED_IN_A_RUN if attrgetter(key)(asked) != attrgetter(key)(config)]
        if changed:
            raise SpiralError(
                f"--resume would change {', '.join(changed)} of {run_dir}, whose checkpoints belong to the old values; "
                "start a new run with another --run-dir"
            )
        config = asked
    return run, config


def checked_config(path: Path | None, overrides: Sequence[Override], plugins: Plugins) -> Config:
    """A configuration whose plug-ins were all found and tried. Raises ConfigError with every problem."""
    from spiral.cluster.settings import ray_settings
    from spiral.config.loading import read
    from spiral.plugins.pretrained import find_model
    from spiral.selfplay.validation import check

    config, problems = read(path, overrides, find_model(plugins))
    check(config, plugins, problems)
    ray_settings(config)  # raises for a cluster that does not fit the rest
    return config


def check_ray(config: Config) -> None:
    """Raise SpiralError for a cluster that does not fit the config, and where Ray is asked for and not installed."""
    from spiral.cluster.settings import ray_extra, ray_settings

    if ray_settings(config) is not None:
        with ray_extra():
            import ray  # noqa: F401


def shown_config(path: Path | None, overrides: Sequence[Override], run_dir: Path | None, resume: bool) -> str:
    """The config that `launch` would train with, as YAML, each value with where it comes from. Raises SpiralError."""
    from spiral.config.loading import read_layers
    from spiral.config.provenance import with_sources
    from spiral.plugins.pretrained import find_model
    from spiral.plugins.registry import Plugins
    from spiral.selfplay.validation import check

    plugins = Plugins.installed()
    if resume:
        run, config = resumed_run(run_dir, path, overrides)
        check(config, plugins)
        path = run.path / "config.yaml"
    else:
        config = checked_config(path, overrides, plugins)
    layers, _ = read_layers(path, overrides, find_model(plugins))
    return with_sources(config, layers)


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
        check_ray(config)
    else:
        config = checked_config(path, overrides, plugins)
        check_ray(config)
        run = new_run(run_dir, config)
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
    """Train to the end and display it on `out` (None: stdout); `command` would continue it after a stop.

    The run is locked meanwhile. Raises Stopped when a signal stopped it; see `spiral.learning.stop_signals`.
    """
    from spiral.runs.lock import locked

    if rank() > 0:
        _train(config, run, plugins, resume, command, out, quiet=True)
        return
    with locked(run.path):
        if not resume:
            run.create(run.path, config, plugins.distributions)
        _train(config, run, plugins, resume, command, out, quiet)


def _train(
    config: Config, run: RunDir, plugins: Plugins, resume: bool, command: str, out: TextIO | None, quiet: bool
) -> None:
    from rich.console import Console

    from spiral.api.progress import Phase
    from spiral.learning.stop_signals import StopSignals
    from spiral.reports.terminal import Terminal
    from spiral.runs.directory import step_of
    from spiral.runs.files import WriteError

    go_on = f"spiral {command} --run-dir {run.path} --resume"
    terminal = Terminal(Console(file=out, quiet=quiet))
    plugins.observe_with(terminal)
    try:
        with StopSignals((lambda seconds: None) if quiet else _announce_stop) as stop:
            terminal.progress(Phase("starting"))  # what is imported next takes seconds by itself
            _train_where_asked(config, run, plugins, resume, stop, terminal, go_on)
    except SpiralError as error:
        if not resume and rank() == 0 and not run.metrics():
            run.discard()  # or the corrected command would find its directory taken
        elif isinstance(error, WriteError):
            raise SpiralError(f"{error}; then go on with: {go_on}") from error
        raise
    except KeyboardInterrupt as stopped:
        steps = [step_of(path) for path in run.checkpoint_paths()]
        where = f"goes on at step {steps[-1]}" if steps else "starts over, since there is no checkpoint yet,"
        text = "" if rank() > 0 else f"stopped; the run {where} with: {go_on}"  # one process speaks for all
        raise Stopped(text, getattr(stopped, "number", signal.SIGINT)) from None
    finally:
        terminal.close()


def _train_where_asked(
    config: Config, run: RunDir, plugins: Plugins, resume: bool, stop: StopSignals, terminal: Terminal, go_on: str
) -> None:
    """In this process, as one of those that a launcher started, or on a cluster."""
    from spiral.cluster.settings import ray_extra, ray_settings

    if (settings := ray_settings(config)) is not None:
        with ray_extra():
            from spiral.training.on_ray import train_on_ray
        return train_on_ray(config, settings, run, plugins, resume, stop, terminal)
    from spiral.learning.distributed import told_of_lost_processes
    from spiral.training.loop import train

    with told_of_lost_processes(config.process_deadline_s, go_on):
        return train(config, run, plugins, terminal.progress, resume, stop)


def _announce_stop(seconds: float | None) -> None:
    """In a signal's handler, so straight to the file: Python's streams may be in the middle of a write."""
    time_needed = "" if seconds is None else f", within about {max(1, round(seconds))} s"
    text = f"\nstopping: the step ends and a checkpoint is written{time_needed}; once more stops at once\n"
    with contextlib.suppress(OSError, ValueError):  # a stream without a file, as notebooks have them
        os.write(sys.stderr.fileno(), text.encode())
