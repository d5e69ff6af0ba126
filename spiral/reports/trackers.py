"""Experiment trackers as loggers: accelerate's own adapters, given the run's config, and its metrics by step."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spiral.api.errors import PluginError
from spiral.api.hooks import hookimpl
from spiral.config.flat import flat

_NO_NAME = re.compile(r"[^\w ./:-]")
"""What not all trackers take in the name of a metric, such as the brackets of a game's arguments."""


def _wandb(project: str, run_dir: Path) -> dict[str, Any]:
    return {"run_name": project, "name": run_dir.name, "dir": str(run_dir)}


def _mlflow(project: str, run_dir: Path) -> dict[str, Any]:
    return {"experiment_name": project, "run_name": run_dir.name}


def _trackio(project: str, run_dir: Path) -> dict[str, Any]:
    return {"run_name": project, "name": run_dir.name}


def _comet_ml(project: str, run_dir: Path) -> dict[str, Any]:
    return {"run_name": project}


def _aim(project: str, run_dir: Path) -> dict[str, Any]:
    return {"run_name": run_dir.name, "logging_dir": str(run_dir), "experiment": project}


def _clearml(project: str, run_dir: Path) -> dict[str, Any]:
    return {"project_name": project, "task_name": run_dir.name}


def _dvclive(project: str, run_dir: Path) -> dict[str, Any]:
    return {"dir": str(run_dir / "dvclive")}


def _swanlab(project: str, run_dir: Path) -> dict[str, Any]:
    return {"run_name": project, "experiment_name": run_dir.name, "logdir": str(run_dir / "swanlab")}


TRACKERS: dict[str, Callable[[str, Path], dict[str, Any]]] = {
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
    "comet_ml": _comet_ml,
    "aim": _aim,
    "clearml": _clearml,
    "dvclive": _dvclive,
    "swanlab": _swanlab,
}
"""Name, which is also the module's -> how its adapter is told project and run."""
EXTRAS = ("wandb", "mlflow", "trackio")
"""Those that an extra of spiral's brings."""


class Tracker:
    """Logs the run's config, and every metric of every step, to the tracker `name`.

    A run that was resumed or rolled back is a new one there: no tracker forgets a step, and some take none twice.

    `options`: for the tracker's own start, such as `mode=offline` of wandb. Raises PluginError if it is not installed.
    """

    def __init__(self, name: str, run_dir: Path, project: str = "spiral", **options: Any) -> None:
        if not _is_installed(name):
            what = f'"spiral-selfplay[{name}]"' if name in EXTRAS else name.replace("_", "-")
            raise PluginError(f"logger '{name}' is not installed; pip install {what}, or take it out of loggers")
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(LOGGER_TYPE_TO_CLASS)
            raise PluginError(f"logger '{name}': the installed accelerate has trackers for {known} only; upgrade it")
        try:
            self._make = functools.partial(
                LOGGER_TYPE_TO_CLASS[name], **{**TRACKERS[name](project, run_dir), **options}
            )
            self._tracker = self._make()
        except TypeError as error:
            raise PluginError(f"logger '{name}': {error}") from error

        self._config: dict[str, Any] = {}
        self._last_step = -1

    @hookimpl
    def run_started(self, config: Mapping[str, Any]) -> None:
        self._config = flat(config)
        self._start()

    def _start(self) -> None:
        self._tracker.start()
        self._tracker.store_init_configuration(self._config)

    @hookimpl
    def step_finished(self, step: int, metrics: Mapping[str, float]) -> None:
        back, self._last_step = step <= self._last_step, step
        if back:
            self._tracker.finish()
            self._tracker = self._make()
            self._start()
        self._tracker.log({_NO_NAME.sub("_", name): float(value) for name, value in metrics.items()}, step=step)

    @hookimpl
    def run_finished(self) -> None:
        self._tracker.finish()


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
