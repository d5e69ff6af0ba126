"""The index of a run's games and benchmarks: which metric holds which quantity of which of them.

Names of metrics are parsed here and not in the page's script, so that one module of the project knows their form. The
page looks curves up by the names that it finds in this index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spiral.reports.html.values import Json, as_name
from spiral.runs import metric_names
from spiral.runs.metric_names import MetricName

GROUPS = {"eval": "exact", "play": "play", "health": "health", "pool": "pool"}
"""Stage of a metric -> its group in the index; results against an opponent stand under `matches`."""
EXACT = ("nash_conv", "illegal_mass", "return")
"""Evaluations that make a name a game's: what else an evaluation measures need not be a game."""


def game_index(configured: Sequence[str], metrics: Iterable[str], others: Iterable[str]) -> list[Json]:
    """One entry a game: its name, a group a stage, and its matches.

    `configured` are the games of the config, `metrics` names of metrics, `others` games known from elsewhere. A list
    and not an object by game, since a script would move the game `2048` to the front of an object's keys.

    A group is `{"whole": {quantity: metric}, "by_player": {quantity: [{"player": 0, "name": metric}, ...]}}`; a match
    is `{"opponent": name, "by_player": ...}` alike. A name longer than the page shows is cut as it is everywhere there.
    """
    parsed = [(name, found) for name in metrics if (found := metric_names.parse(name)) is not None]
    measured = [as_name(found.game) for _, found in parsed if _names_a_game(found)]
    labels = list(dict.fromkeys([*measured, *others]))
    # A game with arguments is NAME in the config and NAME(key=value) wherever something is measured of it.
    unmeasured = [name for name in configured if not any(label.startswith(f"{name}(") for label in labels)]
    index = {name: _entry(name) for name in [*unmeasured, *labels]}
    for name, found in parsed:
        if (entry := index.get(as_name(found.game))) is not None:
            _add(entry, name, found)
    return list(index.values())


def task_index(metrics: Iterable[str]) -> list[Json]:
    """One entry a benchmark that is asked in training: its name, and the metric of each of its quantities."""
    index: dict[str, Json] = {}
    for name in metrics:
        if (found := metric_names.parse_task(name)) is not None:
            benchmark, quantity = as_name(found[0]), found[1]
            index.setdefault(benchmark, {"name": benchmark, "metrics": {}})["metrics"][quantity] = name
    return list(index.values())


def _names_a_game(found: MetricName) -> bool:
    return found.stage != "eval" or found.opponent is not None or found.quantity in EXACT


def _entry(name: str) -> Json:
    groups: Json = {group: {"whole": {}, "by_player": {}} for group in GROUPS.values()}
    return {"name": name, **groups, "matches": []}


def _add(entry: Json, name: str, found: MetricName) -> None:
    if found.opponent is not None:
        _place(_match(entry["matches"], as_name(found.opponent)), found.quantity, found.player, name)
        return
    group = entry[GROUPS[found.stage]]
    quantity, player = metric_names.split_player(found.quantity)
    if player is None:
        group["whole"][quantity] = name
    else:
        _place(group, quantity, player, name)


def _match(matches: list[Json], opponent: str) -> Json:
    for match in matches:
        if match["opponent"] == opponent:
            return match
    matches.append({"opponent": opponent, "by_player": {}})
    return matches[-1]


def _place(group: Json, quantity: str, player: int | None, name: str) -> None:
    """In order of the players, whatever the order of the file: the page numbers and colours them so."""
    rows = group["by_player"].setdefault(quantity, [])
    rows.append({"player": player, "name": name})
    rows.sort(key=lambda row: row["player"])
