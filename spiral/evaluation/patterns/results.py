"""What verdicts come to: shares of traces that show a pattern, agreement, and what games and tasks have in common.

A trace shows a pattern where every reading of it says so. A trace without a verdict of each reading is counted, and
left out of every share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from spiral.evaluation.patterns.judges import NoVerdict
from spiral.evaluation.patterns.prompts import Verdict
from spiral.evaluation.patterns.traces import Stages, Trace
from spiral.seeds import derive
from spiral.theory.agreement import agreement
from spiral.theory.intervals import difference_interval, wilson_interval

Json = dict[str, Any]


@dataclass(frozen=True)
class JudgedTrace:
    """A trace, and what each reading said of it; None where it was not asked any more."""

    trace: Trace
    stage: int | None
    verdicts: Sequence[Verdict | NoVerdict | None]

    @property
    def whole(self) -> list[Verdict] | None:
        """The verdicts of all readings; None if one is missing."""
        found = [verdict for verdict in self.verdicts if isinstance(verdict, Verdict)]
        return found if len(found) == len(self.verdicts) else None

    def shows(self, pattern: str) -> bool | None:
        """Whether every reading says so; None without a verdict of each."""
        return None if self.whole is None else all(verdict.shown[pattern] for verdict in self.whole)


def cells(judged: Sequence[JudgedTrace], patterns: Sequence[str], stages: dict[str, Stages]) -> list[Json]:
    """A row a policy, stage of its training, and game or benchmark."""
    groups: dict[tuple[Any, ...], list[JudgedTrace]] = {}
    for one in judged:
        key = one.trace.policy, -1 if one.stage is None else one.stage, one.trace.domain, one.trace.name
        groups.setdefault(key, []).append(one)
    return [
        {
            "policy": policy,
            "stage": None if stage < 0 else stage,
            "steps": "" if stage < 0 else stages[policy].label(stage),
            "domain": domain,
            "name": name,
            "traces": len(found),
            "patterns": [{"pattern": pattern, **_share(found, pattern)} for pattern in patterns],
        }
        for (policy, stage, domain, name), found in sorted(groups.items())
    ]


def transfer(judged: Sequence[JudgedTrace], patterns: Sequence[str], stages: dict[str, Stages]) -> list[Json]:
    """A row a policy and stage: the shares in its games, in its tasks, and the second less the first."""
    groups = sorted({(one.trace.policy, -1 if one.stage is None else one.stage) for one in judged})
    rows = []
    for policy, stage in groups:
        own = [j for j in judged if j.trace.policy == policy and (-1 if j.stage is None else j.stage) == stage]
        games, tasks = ([one for one in own if one.trace.domain == domain] for domain in ("game", "task"))
        rows.append(
            {
                "policy": policy,
                "stage": None if stage < 0 else stage,
                "steps": "" if stage < 0 else stages[policy].label(stage),
                "patterns": [
                    {
                        "pattern": pattern,
                        "games": _share(games, pattern),
                        "tasks": _share(tasks, pattern),
                        "difference": _difference(tasks, games, pattern),
                    }
                    for pattern in patterns
                ],
            }
        )
    return rows


def changes(judged: Sequence[JudgedTrace], patterns: Sequence[str], stages: dict[str, Stages]) -> list[Json]:
    """How the shares in games and in tasks moved from the first stage of a policy's training to its last one."""
    rows = []
    for policy in sorted(stages):
        for domain in ("game", "task"):
            own = [one for one in judged if one.trace.policy == policy and one.trace.domain == domain]
            reached = sorted({one.stage for one in own if one.stage is not None})
            if len(reached) < 2:
                continue
            first, last = ([one for one in own if one.stage == stage] for stage in (reached[0], reached[-1]))
            moved = {pattern: _difference(last, first, pattern) for pattern in patterns}
            found = [{"pattern": pattern, **change} for pattern, change in moved.items() if change is not None]
            steps = {"from": stages[policy].label(reached[0]), "to": stages[policy].label(reached[-1])}
            if found:  # neither stage may have a trace with verdicts
                rows.append({"policy": policy, "domain": domain, **steps, "patterns": found})
    return rows


def agreements(judged: Sequence[JudgedTrace], patterns: Sequence[str], seed: int) -> list[Json]:
    """How far the two readings agree on each pattern, over the traces that both judged."""
    pairs = [one.whole for one in judged if one.whole is not None]
    return [
        {
            "pattern": pattern,
            **asdict(
                agreement(
                    [first.shown[pattern] for first, _ in pairs],
                    [second.shown[pattern] for _, second in pairs],
                    derive(seed, "patterns", "agreement", pattern),
                )
            ),
        }
        for pattern in patterns
    ]


def without_verdict(judged: Iterable[JudgedTrace], reading: int) -> dict[str, int]:
    """Causes for which a reading has no verdict, with how often."""
    missing = [one.verdicts[reading] for one in judged]
    return dict(Counter("not asked" if v is None else v.cause for v in missing if not isinstance(v, Verdict)))


def _share(found: Sequence[JudgedTrace], pattern: str) -> Json:
    """How many of the traces show a pattern, with Wilson's 95% interval; and the share by each reading alone."""
    whole = [one.whole for one in found if one.whole is not None]
    shown, num = sum(all(v.shown[pattern] for v in one) for one in whole), len(whole)
    low, high = wilson_interval(shown, num)
    by_reading = [sum(one[k].shown[pattern] for one in whole) / num for k in range(len(whole[0]))] if whole else []
    return {
        "shown": shown,
        "judged": num,
        "share": shown / num if num else None,
        "low": low,
        "high": high,
        "by_reading": by_reading,
    }


def _difference(found: Sequence[JudgedTrace], others: Sequence[JudgedTrace], pattern: str) -> Json | None:
    """The share of the first less that of the second, with Newcombe's 95% interval; None without traces of both."""
    one, other = _share(found, pattern), _share(others, pattern)
    if not one["judged"] or not other["judged"]:
        return None
    low, high = difference_interval(one["shown"], one["judged"], other["shown"], other["judged"])
    return {"share": one["share"] - other["share"], "low": low, "high": high}
