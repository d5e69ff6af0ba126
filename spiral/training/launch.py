"""How a training run is started or gone on with from the command line; knows no command and no step of training.

Nothing heavy is imported before a config was found good.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spiral.api.errors import SpiralError


def rank() -> int:
    """This process's number among those that accelerate or torchrun started; 0 when alone."""
    return int(os.environ.get("RANK", "0"))


def new_run(run_dir: Path | None, config: Any, plugins: Any, prefix: str = "") -> Any:
    """The directory of a new run, made by the first process."""
    from spiral.runs.directory import RunDir

    if run_dir is None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise SpiralError("several processes must agree where the run is kept; give --run-dir")
        run_dir = Path("runs") / f"{prefix}{config.games[0].name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if rank() > 0:
        return RunDir(run_dir)
    return RunDir.create(run_dir, config, plugins.distributions)


def resumed(run_dir: Path | None, path: Path | None, overrides: Sequence[str]) -> tuple[Any, Any]:
    """An existing run, and its config with `overrides`. Raises SpiralError for one that its checkpoints rule out."""
    from spiral.config.loading import load
    from spiral.config.schema import FIXED_IN_A_RUN
    from spiral.runs.directory import RunDir

    if run_dir is None or path is not None:
        raise SpiralError("--resume continues the run in --run-dir with its own config; give --run-dir and no file")
    run, config = RunDir.open(run_dir)
    if overrides:
        asked = load(run_dir / "config.yaml", overrides)
        changed = [key for key in FIXED_IN_A_RUN if getattr(asked, key) != getattr(config, key)]
        if changed:
            raise SpiralError(
                f"--resume would change {', '.join(changed)} of {run_dir}, whose checkpoints belong to the old values; "
                "start a new run with another --run-dir"
            )
        config = asked
    return run, config


def train(config: Any, run: Any, plugins: Any, resume: bool, command: str = "train", out: Any = None) -> None:
    """Train to the end with the display on `out` (None: stdout); `command` is what would go on after an interrupt."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from rich.console import Console

    from spiral.reports.terminal import Terminal

    terminal = Terminal(Console(file=out, quiet=rank() > 0))
    plugins.observe_with(terminal)
    try:
        from spiral.training.loop import train as run_training

        run_training(config, run, plugins, terminal.warm_start, resume)
    except SpiralError:
        if not resume and rank() == 0 and not run.metrics():
            run.discard()  # or the corrected command would find its directory taken
        raise
    except KeyboardInterrupt:
        raise SpiralError(f"stopped; go on with: spiral {command} --run-dir {run.path} --resume") from None
    finally:
        terminal.close()
