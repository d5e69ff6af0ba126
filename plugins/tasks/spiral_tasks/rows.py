"""Rows of a user's own file or folder: JSON lines, or what `datasets` saved."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spiral import SpiralError

FOLDER = "SPIRAL_TASKS_DIR"
"""The environment variable that names the folder with a user's sets of questions."""

Row = Mapping[str, Any]


def found(name: str, path: str | None, source: str) -> Path:
    """Where the questions of a set are: at `path`, else in the folder that the environment names, as NAME.jsonl or a
    folder NAME. Raises SpiralError where they are not; `source` says where to get them."""
    if path is not None:
        place = Path(path).expanduser()
        if not place.exists():
            raise SpiralError(f"benchmark '{name}': there is no {place}; give the path of {source}")
        return place
    folder = os.environ.get(FOLDER)
    places = [Path(folder).expanduser() / end for end in (f"{name}.jsonl", name)] if folder else []
    for place in places:
        if place.exists():
            return place
    where = f"{FOLDER}={folder} has no {name}.jsonl" if folder else f"{FOLDER} is not set"
    raise SpiralError(
        f"benchmark '{name}' needs its questions, which spiral does not bring, and {where}; give path=... of {source}, "
        f"or put it there as {name}.jsonl"
    )


def read_rows(place: Path, split: str = "test") -> list[Row]:
    """The rows of a file of JSON lines, or of a folder of `datasets`. Raises SpiralError for what holds none."""
    rows = _of_folder(place, split) if place.is_dir() else _of_file(place)
    if not rows:
        raise SpiralError(f"{place} holds no question; give a file with one JSON object a line")
    return rows


def sha256(place: Path) -> str:
    """Of a file's bytes, in hexadecimal digits."""
    return hashlib.sha256(place.read_bytes()).hexdigest()


def _of_file(place: Path) -> list[Row]:
    rows: list[Row] = []
    try:
        text = place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpiralError(f"{place} cannot be read as UTF-8 text ({error}); give a file of JSON lines") from error
    # Not splitlines, which also cuts at characters that JSON leaves in its strings.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise SpiralError(f"{place}, line {number}: {error}; give one JSON object a line") from error
        if not isinstance(row, dict):
            raise SpiralError(f"{place}, line {number} is no JSON object; give one a line")
        rows.append({**row, LINE: number})
    return rows


LINE = "\x00line"
"""The key under which a row keeps its line's number."""


def _of_folder(place: Path, split: str) -> list[Row]:
    if importlib.util.find_spec("datasets") is None:
        raise SpiralError(
            f"{place} is a folder, and reading it needs the package datasets; pip install datasets, or "
            "give a file of JSON lines"
        )
    import datasets

    loaded = datasets.load_from_disk(str(place))
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise SpiralError(f"{place} has no part '{split}', only {', '.join(loaded)}; give part=...")
        loaded = loaded[split]
    return [{**row, LINE: number} for number, row in enumerate(loaded, 1)]
