"""When an arm has spent its tokens: what a run has trained on so far, and how many steps it is to have next."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from spiral.runs.directory import RunDir, step_of

TOKENS = "learner/reply_tokens"
"""The metric: reply tokens of a step, those of play all sampled by the learner itself."""
SHORT_OF = 0.95
"""How much of a long way is gone at once: replies may grow, and a run cannot be made shorter."""
LONG = 50
"""Steps from which a way is long."""


@dataclass(frozen=True)
class Spent:
    """What a run has behind it, up to its newest checkpoint."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    """In steps, without start-up."""


def spent(run_dir: Path) -> Spent:
    """Of a run; nothing where there is none yet, or no checkpoint."""
    paths = RunDir(run_dir).checkpoint_paths() if (run_dir / "config.yaml").exists() else []
    if not paths:
        return Spent()
    steps = step_of(paths[-1])
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    done = [line for line in lines if line["step"] < steps and TOKENS in line]
    return Spent(steps, int(sum(line[TOKENS] for line in done)), sum(line["time/step_s"] for line in done))


def next_steps(now: Spent, budget: int, first: int) -> int | None:
    """How many steps the run is to have in all before it is looked at again; None once the budget is spent.

    It comes from below and ends at the step that spends the last token, or a few later where steps grew: nothing of the
    arms follows a schedule over steps, so a run that is continued is the run that would have been.
    """
    if now.tokens >= budget:
        return None
    if not now.tokens:
        return now.steps + first
    need = math.ceil((budget - now.tokens) * now.steps / now.tokens)
    return now.steps + (math.floor(SHORT_OF * need) if need > LONG else need)
