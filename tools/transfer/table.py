"""The tables of a comparison, from its results.json alone: what each arm got, and how far that is from the start.

Values are means over seeds. Seeds and questions are crossed, since each seed is asked the same questions, and both are
samples: of runs that might have been, and of questions that might have been asked. An interval adds the squares of both
errors, Student's t for the few seeds and the normal for the many questions (the part that both share is counted twice,
so it is a little too wide). With one seed it is that of questions alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiral.theory.intervals import TWO_SIDED_95

Json = dict[str, Any]
Floats = NDArray[np.float64]
Estimate = tuple[float, float, float]
"""(mean, low, high), 95%."""
STUDENT_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Of 1, 2, ... degrees of freedom; more seeds than that take the last."""


def estimate(tasks: Sequence[Floats], lowest: float, highest: float) -> Estimate:
    """The unweighted mean over tasks of shares (seeds, questions), which lie between two bounds; all of the same seeds.

    Questions that all came out alike are joined by one at each bound, since they do not show how far others may lie.
    """
    by_seed = np.mean([shares.mean(1) for shares in tasks], axis=0)
    squared = 0.0
    for shares in tasks:
        by_question = shares.mean(0)
        shown = [*by_question, lowest, highest] if np.ptp(by_question) == 0 else by_question
        squared += float(np.var(shown, ddof=1)) / len(shown) / len(tasks) ** 2
    half = math.hypot(TWO_SIDED_95 * math.sqrt(squared), _half_of_seeds(by_seed))
    mean = float(by_seed.mean())
    return mean, max(lowest, mean - half), min(highest, mean + half)


def of_seeds(values: Sequence[float]) -> Estimate | None:
    """The mean of one value a seed, with Student's interval; None of fewer than two seeds."""
    if len(values) < 2:
        return None
    mean, half = float(np.mean(values)), _half_of_seeds(np.asarray(values, dtype=float))
    return mean, mean - half, mean + half


def _half_of_seeds(values: Floats) -> float:
    if len(values) < 2:
        return 0.0
    quantile = STUDENT_95[min(len(values) - 1, len(STUDENT_95)) - 1]
    return quantile * float(values.std(ddof=1)) / math.sqrt(len(values))


def summary(results: Json) -> dict[str, Json]:
    """Arm -> its accuracy by task and their mean, the same beyond the start, and its games; all over seeds."""
    tasks, start = list(results["tasks"]), next(iter(results["arms"]))
    found: dict[str, Json] = {}
    for arm in results["arms"] if results["runs"] else ():
        shares = [_shares(results, arm, task) for task in tasks]
        told: Json = {
            "accuracy": {task: estimate([of], 0, 1) for task, of in zip(tasks, shares, strict=True)},
            "mean": estimate(shares, 0, 1),
            "games": {measure: _game(results, arm, measure) for measure in results["games"]},
            "tokens": round(float(np.mean([run["arms"][arm]["tokens"] for run in results["runs"]]))),
            "steps": [run["arms"][arm]["steps"] for run in results["runs"]],
            "minutes": float(np.mean([run["arms"][arm]["train_s"] for run in results["runs"]])) / 60,
        }
        if arm != start:
            beyond = [of - _shares(results, start, task) for task, of in zip(tasks, shares, strict=True)]
            by_seed = [float(np.mean([of[place].mean() for of in beyond])) for place in range(len(results["runs"]))]
            worst = int(np.argmin(by_seed))
            told["beyond"] = {task: estimate([of], -1, 1) for task, of in zip(tasks, beyond, strict=True)}
            told["mean_beyond"] = estimate(beyond, -1, 1)
            told["worst"] = {"value": by_seed[worst], "seed": results["runs"][worst]["seed"]}
            unseen = [of for task, of in zip(tasks, beyond, strict=True) if arm not in results["tasks"][task]["trains"]]
            told["unseen_beyond"] = estimate(unseen, -1, 1) if unseen else None
        found[arm] = told
    return found


def tables(results: Json) -> str:
    """Accuracy, what is beyond the start, games, and what it took: Markdown."""
    if not results["runs"]:
        return "Not measured."
    told, arms = summary(results), results["arms"]
    start, *others = arms
    heads = [f"{one['label']}{'*' if one['trains'] else ''}" for one in results["tasks"].values()]
    accuracy = [
        [arms[a], *(_percent(told[a]["accuracy"][t]) for t in results["tasks"]), _percent(told[a]["mean"])]
        for a in arms
    ]
    beyond = [
        [
            arms[a], *(_points(told[a]["beyond"][t]) for t in results["tasks"]), _points(told[a]["mean_beyond"]),
            _points(told[a]["unseen_beyond"]), _worst(told[a]["worst"]),
        ]
        for a in others
    ]  # fmt: skip
    games = [[arms[a], *(_value(told[a]["games"][m]) for m in results["games"])] for a in arms]
    took = [
        [arms[a], f"{told[a]['tokens']:,}", ", ".join(f"{n:,}" for n in told[a]["steps"]), f"{told[a]['minutes']:.1f}"]
        for a in arms
    ]
    return "\n\n".join(
        [
            "Right answers, %:",
            _table(["arm", *heads, "mean"], accuracy),
            f"Beyond {arms[start]}, on the same questions, points of %:",
            _table(["arm", *heads, "mean", "mean of unseen tasks", "worst mean"], beyond),
            "Games:",
            _table(["arm", *(f"{m} {'↓' if 'NashConv' in m else '↑'}" for m in results["games"])], games),
            "What it took:",
            _table(["arm", "reply tokens", "steps by seed", "minutes"], took),
        ]
    )


def headline(results: Json) -> str:
    """The last arm against the start, in a few words."""
    (start, *_, last), told = results["arms"].items(), summary(results)
    return f"{last[1]}, points of % beyond {start[1]}: {_points(told[last[0]]['mean_beyond'])}"


def _worst(told: Json) -> str:
    return f"{100 * told['value']:+.1f} (seed {told['seed']})"


def _shares(results: Json, arm: str, task: str) -> Floats:
    """(seeds, questions): the share of a question's replies that were right."""
    samples = results["tasks"][task]["samples"]
    return np.array([[int(n) / samples for n in run["arms"][arm]["right"][task]] for run in results["runs"]])


def _game(results: Json, arm: str, measure: str) -> Sequence[float]:
    """(mean, low, high) over seeds; of one seed what its own matches say."""
    values = [run["arms"][arm]["games"][measure] for run in results["runs"]]
    return of_seeds([value[0] for value in values]) or values[0]


def _percent(value: Sequence[float]) -> str:
    mean, low, high = (100 * one for one in value)
    return f"{mean:.1f} [{low:.0f}, {high:.0f}]"


def _points(value: Sequence[float] | None) -> str:
    if value is None:
        return ""
    mean, low, high = (100 * one for one in value)
    text = f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def _value(value: Sequence[float]) -> str:
    return f"{value[0]:.2f} [{value[1]:.2f}, {value[2]:.2f}]" if len(value) > 1 else f"{value[0]:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in (head, ["---"] * len(head), *rows))
