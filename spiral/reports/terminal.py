"""Shows a training run on the terminal: a live table, or plain lines where there is no terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from spiral.api.hooks import hookimpl
from spiral.api.progress import Phase
from spiral.api.text import printable
from spiral.runs import metric_names
from spiral.runs.metric_names import MetricName

DONE = {"note": "(noted)", "stop": "(stopping)", "rollback": "(going back to the last healthy checkpoint)"}
"""Action on a health event -> how the terminal names it."""
PLAIN_EVERY_S = 8.0
"""Seconds between plain lines of steps; evaluations always get one."""
SILENT_S = 9.0
"""Seconds without a plain line after which one tells what is going on: no run is silent for ten."""
BEAT_S = 0.5
"""Seconds between two looks at how long it has been silent."""
PHASE_S = 2.0
"""Seconds that a piece of work lasts before the live display shows it: quick ones would flicker."""


class Terminal:
    """Observes a run and shows the figures it is judged by (`headline`), illegal moves, and the time left.

    What the run is doing meanwhile it is told as a `Phase`. A thread looks at that phase, so that a single call that
    takes minutes, such as the loading of a model, is shown too.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._table_now: Table | None = None
        self._phase: tuple[Phase, float] | None = None
        """What is going on, and since when."""
        self._closed, self._thread = threading.Event(), threading.Thread(target=self._watch, daemon=True)
        self._steps = self._last_step = 0
        self._first_step: int | None = None
        self._started, self._last_line = 0.0, clock()
        self._last_text = clock()
        self._latest: dict[str, float] = {}
        self._first_headline: dict[str, tuple[float, ...]] = {}
        # Last, since it looks at the picture at once.
        live = console.is_terminal and not console.quiet
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._picture) if live else None

    def progress(self, phase: Phase) -> None:
        """The run goes on with this; see `spiral.api.progress`."""
        self._phase = (phase, self._clock())
        if self._live is not None:
            self._live.start()
        elif not self._console.quiet and self._thread.ident is None:
            self._thread.start()

    def beat(self) -> None:
        """Say what is going on, if nothing was said for `SILENT_S`."""
        phase = self._phase
        if phase is not None and self._clock() - self._last_text >= SILENT_S:
            self._print(_told(*phase, self._clock()))

    def _watch(self) -> None:
        while not self._closed.wait(BEAT_S):
            self.beat()

    def _picture(self) -> Group:
        """What stands on a terminal now: the table of the last step, and a bar of what takes long."""
        parts: list[RenderableType] = [] if self._table_now is None else [self._table_now]
        phase, now = self._phase, self._clock()
        if phase is not None and now - phase[1] >= PHASE_S:
            parts.append(escape(printable(_told(*phase, now))))
            if phase[0].total:
                parts.append(ProgressBar(total=phase[0].total, completed=phase[0].done(), width=60))
        return Group(*parts)

    @hookimpl
    def run_started(self, config: Mapping[str, Any], run_dir: Path) -> None:
        self._steps = config["steps"]
        self._last_step = self._steps - (not config["evaluate"]["every"])  # a last evaluation is reported by itself
        self._print(f"{config['model']['name']} learns {_source(config)}, run {run_dir}")
        self._started = self._clock()
        if self._live is not None:
            self._live.start()

    @hookimpl
    def step_finished(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._first_step is None:
            self._first_step, self._started = step, self._clock()
        self._latest.update(metrics)
        news = headline(metrics)
        for name, values in news.items():
            self._first_headline.setdefault(name, values)
        if self._live is not None:
            self._table_now = self._table(step)
        elif news or step == self._last_step or self._clock() - self._last_line > PLAIN_EVERY_S:
            self._last_line = self._clock()
            self._print(self._line(step))

    @hookimpl
    def health_event(self, event: Mapping[str, Any]) -> None:
        text = f"step {event['step']}: {event['sentence']} {DONE.get(event['action'], event['action'])}"
        self._print(text)

    @hookimpl
    def run_finished(self, step: int) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._phase = None
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._live is not None:
            self._live.stop()

    def _print(self, text: str) -> None:
        self._last_text = self._clock()
        self._console.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    def _line(self, step: int) -> str:
        m = self._latest
        parts = [f"step {step:>5}/{self._steps}"]
        parts += [f"{name} {_by_player(values)}" for name, values in (headline(m) or alone(m)).items()]
        parts += [f"illegal {m[metric_names.ILLEGAL_RATE]:.1%}"] if metric_names.ILLEGAL_RATE in m else []
        parts += [f"cut {cut:.0f} games"] if (cut := m.get(metric_names.CUT_GAMES)) else []
        return "  ".join([*parts, f"{self._left(step)} left"])

    def _table(self, step: int) -> Table:
        table = Table(title=f"step {step} of {self._steps}, {self._left(step)} left", title_justify="left")
        table.add_column("measure")
        table.add_column("first", justify="right")
        table.add_column("now", justify="right")
        for name, values in (headline(self._latest) or alone(self._latest)).items():
            first = self._first_headline.setdefault(name, values)
            table.add_row(escape(printable(name)), _by_player(first), f"[bold]{_by_player(values)}[/bold]")
        cut = [metric_names.CUT_GAMES] if self._latest.get(metric_names.CUT_GAMES) else []
        for name in (metric_names.ILLEGAL_RATE, *cut, "learner/entropy", "learner/kl", "speed/games_per_s"):
            if name in self._latest:
                table.add_row(name, "", _figure(self._latest[name]))
        return table

    def _left(self, step: int) -> str:
        done = step - (self._first_step or 0)
        if done < 1:
            return "?"
        seconds = (self._clock() - self._started) / done * (self._steps - step)
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def _told(phase: Phase, since: float, now: float) -> str:
    """A phase as a line: how much of how much, how fast, for how long."""
    elapsed, done = now - since, phase.done()
    parts = [f"{phase.name}: {done:,.0f} of {phase.total:,.0f} {phase.unit}"] if phase.total else [phase.name]
    if phase.total and done:
        parts.append(f"{_figure(done / max(elapsed, 1e-9))} {phase.unit}/s")
    parts += [f"{elapsed:.0f} s", phase.note()]
    return ", ".join(filter(None, parts))


def headline(metrics: Mapping[str, float]) -> dict[str, tuple[float, ...]]:
    """The figures a run is judged by, under the names shown: NashConv, or win rates by player where it is unknown; the
    mean return of a game for one player; the share of a benchmark's questions that were right; and of a supervised run
    the loss on games, or the bits per byte of text, that were held out."""
    named = _of_games(metrics)
    exact = {name.game: value for name, value in named if (name.stage, name.quantity) == ("eval", "nash_conv")}
    found: dict[str, tuple[float, ...]] = {f"NashConv {game}": (value,) for game, value in exact.items()}
    for name, value in named:
        if (name.stage, name.quantity, name.opponent) == ("eval", "return", None):
            found[f"return {name.game}"] = (value,)
        if (name.stage, name.quantity) == ("eval", "held_out_loss"):
            found[f"held-out loss {name.game}"] = (value,)
        if name.opponent is not None and name.quantity == "win" and name.game not in exact:
            title = f"wins {name.game} vs {name.opponent}"
            found[title] = (*found.get(title, ()), value)
    for metric, value in metrics.items():
        if (task := metric_names.parse_task(metric)) is not None and task[1] == "accuracy":
            found[f"right {task[0]}"] = (value,)
    if (bits := metrics.get(metric_names.bits_per_byte())) is not None:
        found["bits per byte"] = (bits,)
    return found


def alone(metrics: Mapping[str, float]) -> dict[str, tuple[float, ...]]:
    """Mean returns of games for one player in training, where no evaluation tells more: with more players, self-play's
    returns tell players apart and not progress."""
    found: dict[str, dict[int, float]] = {}
    for name, value in _of_games(metrics):
        quantity, player = metric_names.split_player(name.quantity)
        if name.stage == "play" and quantity == "return" and player is not None:
            found.setdefault(name.game, {})[player] = value
    return {f"return {game}": (returns[0],) for game, returns in found.items() if returns.keys() == {0}}


def _source(config: Mapping[str, Any]) -> str:
    """What a run learns, and from what."""
    if paths := config["text"]["paths"]:
        return f"the text in {', '.join(paths)}: {config['text']['step_tokens']} tokens a step"
    games, played = ", ".join(game["name"] for game in config["games"]), config["examples"]["path"]
    how = f"the replies in {played}" if played else f"{config['opponents']['name']} opponents, "
    how += "" if played else config["advantage"]["name"]
    return f"{games}: {how}, {config['rollout']['episodes']} games a step"


def _of_games(metrics: Mapping[str, float]) -> list[tuple[MetricName, float]]:
    return [(parsed, value) for name, value in metrics.items() if (parsed := metric_names.parse(name))]


def _figure(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # 1235 games a second, and not 1.23e+03


def _by_player(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:.3f}" for value in values)
