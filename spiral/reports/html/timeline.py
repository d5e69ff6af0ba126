"""Who waits for whom in a run of several processes: the last minute of timeline.jsonl, a lane a process, and what holds
the run up, in one sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable

from spiral.reports.html.values import Json, as_list, as_name

WINDOW_S = 60.0
"""Of the end of the run, which are drawn."""
MAX_LANES = 40
"""Lanes drawn: the learner's and those of the first players."""
MAX_SPANS = 4000
"""Spans drawn, the last ones."""
WAITING = ("rollout", "waiting")
"""What the learner does while it waits for games, and a worker while it waits for replies."""
LEARNER, WORKER = "learner", "worker"

Span = tuple[str, float, float, str]


def read_timeline(rows: Iterable[Json]) -> Json | None:
    """Lanes with their spans, seconds from the start of what is drawn; None where a run has no others than its own
    process."""
    spans = [span for row in rows for one in as_list(row.get("spans")) for span in _span(one)]
    lanes = sorted({lane for lane, *_ in spans}, key=lambda lane: (lane != LEARNER, len(lane), lane))
    if len(lanes) < 2:
        return None
    end = max(ended for _, _, ended, _ in spans)
    start = max(end - WINDOW_S, min(began for _, began, _, _ in spans))
    seen = [(lane, max(began, start), ended, what) for lane, began, ended, what in spans if ended > start][-MAX_SPANS:]
    length = max(end - start, 1e-9)
    busy = {
        lane: min(1.0, sum(e - b for one, b, e, what in seen if one == lane and what not in WAITING) / length)
        for lane in lanes
    }
    return {
        "seconds": round(length, 3),
        "sentence": sentence(length, busy),
        "num_lanes": len(lanes),
        "lanes": [
            {
                "name": lane,
                "busy": round(busy[lane], 4),
                "spans": [[round(b - start, 3), round(e - start, 3), what] for one, b, e, what in seen if one == lane],
            }
            for lane in lanes[:MAX_LANES]
        ],
    }


def sentence(length: float, busy: dict[str, float]) -> str:
    """What holds a run up. `busy`: the share of `length` seconds in which each lane worked, and did not wait."""
    learner = busy.get(LEARNER, 0.0)
    workers = _mean([share for lane, share in busy.items() if lane.startswith(WORKER)])
    engines = _mean([share for lane, share in busy.items() if lane != LEARNER and not lane.startswith(WORKER)]) or 0.0
    others = f"the engines {engines:.0%}" + ("" if workers is None else f", the workers {workers:.0%}")
    told = f"In the last {length:.0f} s the learner worked {learner:.0%} of the time, {others}"
    if workers is not None and workers > max(learner, engines):
        return f"{told}: the others wait for the games' own code. More workers would shorten the steps."
    if learner > 0.9 and engines > 0.9:
        return f"{told}: neither waits for the other."
    if learner >= engines:
        return (
            f"{told}: the engines wait for the learner. Fewer engines would do, or more learner processes; in "
            "synchronous steps, cluster.args.staleness=1 lets both work at once."
        )
    return (
        f"{told}: the learner waits for games. More engines would shorten the steps; in synchronous steps, "
        "cluster.args.staleness=1 lets both work at once."
    )


def _mean(shares: list[float]) -> float | None:
    return sum(shares) / len(shares) if shares else None


def _span(value: object) -> Iterable[Span]:
    lane, began, ended, what = (*as_list(value), None, None, None, None)[:4]
    # Not `as_number`, which rounds: these are seconds since 1970.
    if isinstance(began, float | int) and isinstance(ended, float | int) and 0 <= began <= ended < math.inf:
        yield as_name(lane), float(began), float(ended), as_name(what)
