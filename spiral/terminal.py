"""What a training run shows on the terminal: a live table, or plain lines where there is no terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from spiral.hookspecs import hookimpl
from spiral.schema import Config

EXACT = re.compile(r"eval/(.+)/nash_conv")
WINS = re.compile(r"eval/(.+)/vs/(.+)/(p\d+)/win")
PLAIN_EVERY_S = 10.0
"""Seconds between plain lines; evaluations always get one."""


class Terminal:
    """An observer. `headline` is the metric a run is judged by: NashConv, or the win rate where that is unknown."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._steps = 0
        self._first_step: int | None = None
        self._started = self._last_line = 0.0
        self._latest: dict[str, float] = {}
        self._first_headline: dict[str, float] = {}

    def warm_start(self, update: int, max_updates: int, legal: float) -> None:
        """Progress of the warm start; see `spiral.warm_start.Progress`."""
        text = f"warm start: update {update} of at most {max_updates}, {legal:.0%} of sampled replies are legal moves"
        if self._live is None:
            self._console.print(text, highlight=False)
            return
        # The bar is filled by what ends the warm start first: legal replies or updates.
        done = max(legal, update / max(1, max_updates))
        self._live.start()
        self._live.update(Group(text, ProgressBar(total=1.0, completed=done, width=60)))

    @hookimpl
    def run_started(self, config: Config, run_dir: Path) -> None:
        self._steps = config.steps
        games = ", ".join(game.name for game in config.games)
        self._console.print(
            f"{config.model.name} learns {games}: {config.opponents.name} opponents, {config.advantage.name}, "
            f"{config.rollout.games} games a step, run {run_dir}",
            highlight=False,
        )
        self._started = time.monotonic()
        if self._live is not None:
            self._live.start()

    @hookimpl
    def step_finished(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._first_step is None:
            self._first_step, self._started = step, time.monotonic()
        self._latest.update(metrics)
        news = headline(metrics)
        for name, value in news.items():
            self._first_headline.setdefault(name, value)
        if self._live is not None:
            self._live.update(self._table(step))
        elif news or time.monotonic() - self._last_line > PLAIN_EVERY_S:
            self._last_line = time.monotonic()
            self._console.print(self._line(step), highlight=False, soft_wrap=True)

    @hookimpl
    def health_event(self, event: Mapping[str, Any]) -> None:
        self._console.print(
            f"step {event['step']}: {event['sentence']} [{event['action']}]", highlight=False, markup=False
        )

    @hookimpl
    def run_finished(self, step: int) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()

    def _line(self, step: int) -> str:
        m = self._latest
        truth = "  ".join(f"{name} {value:.3f}" for name, value in headline(m).items())
        illegal = f"illegal {m['play/illegal_rate']:.1%}  " if "play/illegal_rate" in m else ""
        return f"step {step:>5}/{self._steps}  {truth}  {illegal}{self._left(step)} left"

    def _table(self, step: int) -> Table:
        table = Table(title=f"step {step} of {self._steps}, {self._left(step)} left", title_justify="left")
        table.add_column("measure")
        table.add_column("first", justify="right")
        table.add_column("now", justify="right")
        for name, value in headline(self._latest).items():
            table.add_row(name, f"{self._first_headline[name]:.3f}", f"[bold]{value:.3f}[/bold]")
        for name in ("play/illegal_rate", "learner/entropy", "learner/kl", "speed/games_per_s"):
            if name in self._latest:
                table.add_row(name, "", f"{self._latest[name]:.3g}")
        return table

    def _left(self, step: int) -> str:
        done = step - (self._first_step or 0)
        if done < 1:
            return "?"
        seconds = (time.monotonic() - self._started) / done * (self._steps - step)
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def headline(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics a run is judged by, under the names a person is shown."""
    exact = {f"NashConv {m[1]}": value for name, value in metrics.items() if (m := EXACT.fullmatch(name))}
    if exact:
        return exact
    return {f"wins {m[1]} vs {m[2]} as {m[3]}": value for name, value in metrics.items() if (m := WINS.fullmatch(name))}
