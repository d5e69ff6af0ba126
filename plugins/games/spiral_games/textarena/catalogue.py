"""The catalogue of TextArena's environments, from environments.tsv, as measured by tools/textarena_page.py.

Reading it does not import TextArena.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any

from spiral import SpiralError
from spiral_games.similar_names import similar_names

FILE = "environments.tsv"
UNKNOWN_MAX_TURNS = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """One environment. The file is a TSV with these columns, flags as `yes` and empty."""

    env_id: str
    offline: bool
    """Whether it can be played without a network, on every supported Python."""
    reason: str
    """Why it cannot be played, as the end of a sentence; empty if it can."""
    num_players: int
    """How many play unless the config says otherwise."""
    max_players: int
    max_turns: int
    """Turns after which a match is cut, unless the config says otherwise."""
    zero_sum: bool
    perfect_information: bool
    worst_return: float
    brackets: bool
    """Whether a move is put into square brackets for the environment."""
    restore: bool
    """Whether a refused move changes the environment, which then has to be put back from a copy."""
    listed: bool
    """Whether `legal_moves` lists the moves."""
    mean_turns: float
    """Under random play."""
    steps_s: float
    """Steps a second of the bare environment."""
    adapter_us: float
    """Microseconds a turn that the adapter adds."""
    conformance: str
    """What `spiral.testing.check_game` finds; empty if nothing."""
    broken: str
    """What is wrong with its rules upstream; empty if nothing is known."""


@functools.cache
def rows() -> Mapping[str, Row]:
    """Base id -> row, in TextArena's order."""
    path = resources.files(__package__).joinpath(FILE)
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    environments = [read_row(line) for line in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]
    return {row.env_id: row for row in environments}


def read_row(line: Mapping[str, str]) -> Row:
    """One line of the file as a row."""
    values: dict[str, Any] = {}
    for field in fields(Row):
        text = line[field.name]
        values[field.name] = text == "yes" if field.type == "bool" else _READ[str(field.type)](text)
    return Row(**values)


_READ: Mapping[str, Any] = {"str": str, "int": int, "float": float}


def environment_ids() -> list[str]:
    """Every base id of TextArena 0.7.4 that can be played offline."""
    return [row.env_id for row in rows().values() if row.offline]


def find(env_id: str) -> Row:
    """The row of an id. Raises SpiralError for one that does not exist or cannot be played."""
    row = rows().get(env_id)
    if row is None:
        near = similar_names(env_id, environment_ids()) or similar_names(env_id, rows())
        hint = f"near are {', '.join(near)}" if near else "see docs/games/textarena.md"
        raise SpiralError(f"TextArena has no environment '{env_id}' ({len(rows())} are known); {hint}")
    if not row.offline:
        raise SpiralError(
            f"TextArena's '{env_id}' cannot be played: {row.reason}; docs/games/textarena.md lists what can."
        )
    return row
