"""Collects the files of a run into one bounded JSON value, the data of its page.

Any file may be missing, empty or cut off in the middle of a line: a run can be killed at any moment.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from spiral.reports.html.curves import read_curves, series, total
from spiral.reports.html.game_index import game_index, task_index
from spiral.reports.html.timeline import read_timeline
from spiral.reports.html.values import Json, as_dict, as_list, as_name, as_number, as_text
from spiral.runs import metric_names

MAX_EPISODES = 200
"""Games that can be replayed."""
MAX_PARSED = 4000
"""Lines of episodes.jsonl that are looked into, spread over the run."""
MAX_READ = 16 << 20
"""Bytes of episodes.jsonl that are read; of a larger file, NUM_PARTS parts spread over it."""
NUM_PARTS = 64
MAX_TURNS = 200
"""Turns shown of one game: the first half and the last half of them."""
MAX_GAME_CHARS = 24_000
"""Characters of observations shown of one game, and as many of replies."""
MAX_VOIDED = 50
"""Voided games shown, the last ones."""
MAX_EVENTS = 50
"""Health events shown, the last ones."""
MAX_RATED = 60
"""Rows of a table of ratings, the best and the learner; and tables, one a game."""
MAX_SAMPLED_STEPS = 12
"""Steps of which samples of text are shown, the first and the last among them, and samples of one."""
MAX_STATES = 500
"""Rows of a policy table."""
MAX_MOVES = 20
"""Moves shown of one row."""

T = TypeVar("T")


def collect(run_dir: Path) -> Json:
    """All that the page shows, bounded in size, as plain JSON values."""
    unreadable: dict[str, int] = {}
    curves = read_curves(_objects(run_dir / "metrics.jsonl", unreadable))
    episodes, num_episodes = read_episodes(run_dir / "episodes.jsonl", unreadable)
    voided = [_voided(row) for row in _objects(run_dir / "voided.jsonl", unreadable)]
    events = [_event(row) for row in _objects(run_dir / "events.jsonl", unreadable)]
    policy = {as_name(game): _policy(entry) for game, entry in _object(run_dir / "policy.json", unreadable).items()}
    rated = list(_object(run_dir / "pool.json", unreadable).items())[:MAX_RATED]
    pool = {as_name(game): _ratings(rows) for game, rows in rated}
    plugins = _object(run_dir / "plugins.json", unreadable)
    config = _read(run_dir / "config.yaml").decode("utf-8", "replace")
    configured = from_config(config)
    games = game_index(configured["games"], curves, [*pool, *policy, *(row["game"] for row in episodes)])
    learners = sorted({"", *(metric_names.split_learner(name)[0] for name in curves)})
    others = [metric_names.learners_game("", learner) for learner in learners if learner]
    return {
        "run": run_dir.resolve().name,
        "config": config,
        "games": games,
        "tasks": task_index(curves),
        "learners": [{"name": name, "prefix": metric_names.of_learner(name, "")} for name in learners],
        "played": [game["name"] for game in games if not any(map(game["name"].endswith, others))],
        "model": configured["model"],
        "steps": configured["steps"],
        # A step's line is written when the step is done; a last evaluation may stand on a line of its own.
        "done": 1 + max((p[-1][0] for n, p in curves.items() if p and not metric_names.is_evaluation(n)), default=-1),
        "totals": {
            name: total(curves.get(name, []))
            for name in (metric_names.STEP_SECONDS, metric_names.REFUSED, metric_names.VOIDED)
        },
        "series": {name: series(points) for name, points in curves.items()},
        "episodes": episodes,
        "num_episodes": num_episodes,
        "samples": _samples([*_objects(run_dir / "samples.jsonl", unreadable)]),
        "timeline": read_timeline(_objects(run_dir / "timeline.jsonl", unreadable)),
        "voided": voided[-MAX_VOIDED:],
        "num_voided": len(voided),
        "voided_causes": dict(Counter(game["cause"] for game in voided).most_common(8)),
        "voided_metrics": [name for name in curves if metric_names.voided_cause(name) is not None],
        "events": events[-MAX_EVENTS:],
        "num_events": len(events),
        "pool": pool,
        "policy": policy,
        "plugins": {name: as_name(version) for name, version in plugins.items()},
        "unreadable": unreadable,
    }


def read_episodes(path: Path, unreadable: dict[str, int]) -> tuple[list[Json], int | None]:
    """Games to replay, spread over the run, and how many there are; None if they were too many to count.

    Each kind of game and ending gets an equal share as far as it has games: an illegal move late in training
    is rare, and is what a reader wants to see.
    """
    lines, complete = _lines(path)
    rows = [row for line in _spread(lines, MAX_PARSED) for row in _parsed(line, path.name, unreadable)]
    kinds: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        kinds.setdefault((as_name(row.get("game")), as_name(row.get("ending"))), []).append(i)
    chosen: list[int] = []
    # The rarest kind first, so that what it leaves of its share goes to the commoner ones.
    for k, kind in enumerate(sorted(kinds.values(), key=len)):
        chosen += _spread(kind, (MAX_EPISODES - len(chosen)) // (len(kinds) - k))
    return [_episode(rows[i]) for i in sorted(chosen)], len(lines) if complete else None


def _episode(row: Json) -> Json:
    turns = [turn for turn in as_list(row.get("turns")) if isinstance(turn, dict)]
    numbered = list(enumerate(turns))
    shown = numbered if len(turns) <= MAX_TURNS else numbered[: MAX_TURNS // 2] + numbered[-MAX_TURNS // 2 :]
    limit = MAX_GAME_CHARS // max(1, len(shown))
    return {
        "step": as_number(row.get("step")),
        "game": as_name(row.get("game")),
        "deal": as_text(row.get("deal"), 40),  # as text: 64 bits do not fit in a script's numbers
        "policies": [as_name(policy) for policy in as_list(row.get("policies"))],
        "returns": [as_number(value) for value in as_list(row.get("returns"))],
        "ending": as_name(row.get("ending")),
        "offender": as_number(row.get("offender")),
        "num_turns": len(turns),
        "turns": [_turn(k, turn, limit) for k, turn in shown],
    }


def _turn(number: int, turn: Json, limit: int) -> Json:
    move = turn.get("move")
    return {
        "number": number,
        "player": as_number(turn.get("player")),
        "observation": as_text(turn.get("observation"), limit),
        "reply": as_text(turn.get("reply"), limit),
        "move": None if move is None else as_text(move, 500),
        "legal": turn.get("legal") is not False,
        "finish": as_text(turn.get("finish"), 40),
        "logprob": as_number(turn.get("logprob")),
        "advantage": as_number(turn.get("advantage")),
        "num_tokens": len(as_list(turn.get("token_logprobs"))) - len(as_list(turn.get("forced"))),
    }


def _samples(rows: Sequence[Json]) -> list[Json]:
    """Texts that the model wrote, of steps spread over the run."""
    by_step: dict[float, list[Json]] = {}
    for row in rows:
        if (step := as_number(row.get("step"))) is not None:
            by_step.setdefault(step, []).append(row)
    return [
        {"step": step, "prompt": as_text(row.get("prompt"), 1000), "text": as_text(row.get("text"), 4000)}
        for step in _spread(sorted(by_step), MAX_SAMPLED_STEPS)
        for row in by_step[step][:MAX_SAMPLED_STEPS]
    ]


def _voided(row: Json) -> Json:
    return {
        "step": as_number(row.get("step")),
        "game": as_name(row.get("game")),
        "deal": as_text(row.get("deal"), 40),
        "moves": [as_text(move, 100) for move in as_list(row.get("moves"))[-20:]],
        "cause": as_text(row.get("cause"), 100) or "game",
        "reason": as_text(row.get("reason"), 1000),
    }


def _event(row: Json) -> Json:
    return {
        "step": as_number(row.get("step")),
        "since": as_number(row.get("since")),
        "kind": as_text(row.get("kind"), 100),
        "game": as_name(row.get("game")),
        "sentence": as_text(row.get("sentence"), 1000),
        "severity": as_text(row.get("severity"), 40),
        "action": as_text(row.get("action"), 300),
    }


def _ratings(rows: Any) -> Json:
    """Policies with a rating, the best first; with the learner's score against each, if it met it."""
    rated = [
        (
            mu,
            {"policy": as_name(row.get("policy")), "mu": mu}
            | {key: as_number(row.get(key)) for key in ("sigma", "score", "games")},
        )
        for row in as_list(rows)
        if isinstance(row, dict) and (mu := as_number(row.get("mu"))) is not None
    ]
    best = [row for _, row in sorted(rated, key=lambda pair: -pair[0])]
    kept = [row for i, row in enumerate(best) if i < MAX_RATED or row["policy"] == "learner"]
    return {"rows": kept[: MAX_RATED + 1], "num_rows": len(rated)}


def _policy(entry: Any) -> Json:
    """A policy table as rows of (observation, [(move, probability), ...] likeliest first, illegal mass)."""
    entry = as_dict(entry)
    table, illegal = as_dict(entry.get("table")), as_dict(entry.get("illegal_mass"))
    rows = []
    for observation in sorted(table)[:MAX_STATES]:
        moves = [(as_text(move, 100), as_number(p) or 0.0) for move, p in as_dict(table[observation]).items()]
        likeliest = sorted(moves, key=lambda move: -move[1])[:MAX_MOVES]
        rows.append([as_text(observation, 2000), likeliest, as_number(illegal.get(observation))])
    return {"step": as_number(entry.get("step")), "rows": rows, "num_rows": len(table)}


def from_config(text: str) -> Json:
    """Games, model and steps as the run's YAML gives them, as far as plain matching finds them."""
    names: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        if key := re.match(r"(\w+):", line):
            section = key[1]
        if name := re.match(r"(?:  |- |  - )name: *(.+)", line):
            names.setdefault(section, []).append(name[1].strip().strip("'\""))
    steps = re.search(r"^steps: *(\d{1,15})\s*$", text, re.MULTILINE)
    return {
        "games": names.get("games", []),
        "model": " ".join(names.get("model", [])),
        "steps": int(steps[1]) if steps else None,
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _objects(path: Path, unreadable: dict[str, int]) -> Iterator[Json]:
    for line in _read(path).splitlines():
        yield from _parsed(line, path.name, unreadable)


def _object(path: Path, unreadable: dict[str, int]) -> Json:
    return next(_parsed(_read(path), path.name, unreadable), {})


def _parsed(text: bytes, name: str, unreadable: dict[str, int]) -> Iterator[Json]:
    """The JSON object in `text`, or none: a run that was killed leaves half a line, which is counted."""
    if not text.strip():
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        yield value
    else:
        unreadable[name] = unreadable.get(name, 0) + 1


def _lines(path: Path) -> tuple[list[bytes], bool]:
    """Lines of a file, each once, and whether they are all; of a very large file, lines from all over it."""
    size = path.stat().st_size if path.exists() else 0
    if size <= MAX_READ:
        lines = _read(path).splitlines()
    else:
        lines, part = [], MAX_READ // NUM_PARTS
        with path.open("rb") as file:
            for i in range(NUM_PARTS):
                file.seek(i * (size - part) // (NUM_PARTS - 1))
                lines += file.readlines(part)[bool(i) :]  # the first is most likely the rest of a line
    # A resumed run writes its last steps again, byte for byte.
    return list(dict.fromkeys(line.rstrip(b"\r\n") for line in lines)), size <= MAX_READ


def _spread(items: Sequence[T], limit: int) -> list[T]:
    """At most `limit` items at equal distances, the first and the last among them."""
    if len(items) <= limit:
        return list(items)
    # Counted from the end, so that a limit of 1 keeps the last: the newest game says most.
    return [items[-1 - i * (len(items) - 1) // max(1, limit - 1)] for i in reversed(range(limit))]
