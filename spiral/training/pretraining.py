"""Starts runs that learn from text: the number of steps follows from the text, as far as it is not said."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spiral.api.errors import RunError, SpiralError
from spiral.training.launch import checked_config, new_run, resumed_run, run_training

if TYPE_CHECKING:
    from spiral.config.loading import Override
    from spiral.config.schema import Config
    from spiral.plugins.registry import Plugins
    from spiral.runs.directory import RunDir

EPOCHS = 1.0
NUM_TIMED = 3
"""Updates that are timed for a run of so many minutes, after one that warms up."""


def launch(
    paths: Sequence[str],
    overrides: Sequence[Override],
    epochs: float | None,
    minutes: float | None,
    run_dir: Path | None,
    resume: bool,
    quiet: bool = False,
) -> RunDir:
    """Start a run that learns from the text at `paths`, or continue it, to its last step. Raises SpiralError.

    `epochs`: passes over the text in place of `steps`; then the model's tokenizer is made once more than the run needs
    it, to count tokens. `minutes`: as many steps as take about so long now and here; a few of them are made to see.
    """
    from spiral.plugins.registry import Plugins
    from spiral.selfplay.validation import check

    plugins = Plugins.installed()
    if resume:
        if epochs is not None or minutes is not None:
            raise SpiralError("--resume excludes --epochs and --minutes; for more steps give steps=N")
        run, config = _resumed(paths, overrides, run_dir)
        check(config, plugins)
    else:
        if not paths:
            raise SpiralError("no text is named; give files, folders or datasets of text")
        words = [word for word in overrides if isinstance(word, str) and word.partition("=")[0] == "steps"]
        asked = words[-1:] + [
            f"--{name} {value:g}" for name, value in (("epochs", epochs), ("minutes", minutes)) if value
        ]
        if len(asked) > 1:
            raise SpiralError(f"{' and '.join(asked)} exclude each other; give one of them")
        layers = [{"text": {"paths": [*paths]}}, *overrides]
        config = checked_config(None, layers, plugins)
        run = new_run(run_dir, config, "pretrain-")
        if not words:
            num = _steps_in(config, plugins, minutes) if minutes else _num_steps(config, plugins, epochs or EPOCHS)
            config = checked_config(None, [*layers, {"steps": num}], plugins)
    run_training(config, run, plugins, resume, "pretrain", quiet=quiet)
    return run


def _resumed(paths: Sequence[str], overrides: Sequence[Override], run_dir: Path | None) -> tuple[RunDir, Config]:
    from spiral.runs.directory import step_of

    run, config = resumed_run(run_dir, None, overrides)
    if not config.text.paths:
        raise RunError(f"{run.path} does not learn from text; go on with: spiral train --run-dir {run.path} --resume")
    if paths and [*paths] != config.text.paths:
        raise RunError(
            f"--resume continues {run.path}, which learns from {', '.join(config.text.paths)}, not from "
            f"{', '.join(paths)}; give that, or no text"
        )
    checkpoints = [step_of(path) for path in run.checkpoint_paths()]
    # A run whose last evaluation a kill cut off goes on with it: its metrics end before the last step.
    told = max((line["step"] for line in run.metrics()), default=-1)
    last = config.steps if config.evaluate.every else config.steps - 1
    if checkpoints and checkpoints[-1] == config.steps and told >= last:
        raise RunError(f"{run.path} is finished, at step {config.steps}; for more steps give steps=N, N above that")
    return run, config


def _num_steps(config: Config, plugins: Plugins, epochs: float) -> int:
    from spiral.learning.documents import read_documents
    from spiral.learning.text_rows import TextRows
    from spiral.policies.loading import make_model
    from spiral.training.text import rows_a_step

    text = config.text
    trained, _ = read_documents(text.paths).split(text.held_out_bytes, text.trained_bytes)
    _, tokenizer = make_model(config.model, config, plugins)
    rows = TextRows(trained, tokenizer, text.row_tokens, config.seed)
    return max(1, math.ceil(epochs * rows.num_rows / rows_a_step(config)))


def _steps_in(config: Config, plugins: Plugins, minutes: float) -> int:
    """Steps that take about `minutes` with their evaluations, by a few updates of a model that is thrown away."""
    from spiral.api.progress import no_progress
    from spiral.learning.row_cost import RowCost
    from spiral.training.components import make_components

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SpiralError("several processes would each find another number of steps in --minutes; give steps=N")
    c, seconds = make_components(config, plugins, no_progress, fresh=True), list[float]()
    for step in range(1 + NUM_TIMED):
        start = time.monotonic()
        (one,) = c.trained
        credit = one.credit(c.experience, c.experience.episodes(step))
        batch = one.batch(credit, step, c.processes, RowCost.of(c.play.model))
        one.learner.update(batch, step, len(credit.episodes))
        seconds.append(time.monotonic() - start)
    each = statistics.median(seconds[1:])
    if config.evaluate.every:
        start = time.monotonic()
        c.experience.evaluate(c.trained[0].learner.scorer(), 0)
        each += (time.monotonic() - start) / config.evaluate.every
    return max(1, round(60 * minutes / each))
