"""Rubrics: the patterns that a judge looks for, read from YAML; the paper's three, and those of a user's own file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spiral.api.errors import SpiralError

BUILT_IN = Path(__file__).with_name("rubric.yaml")
MAX_PATTERNS = 24
"""Of all rubrics together: each is a part of every prompt, and of every answer."""
FORM = "patterns: [{name: ..., description: ..., question: ...}]"


@dataclass(frozen=True)
class Pattern:
    """One pattern of reasoning."""

    name: str
    description: str
    """What the first wording of the prompt tells a judge."""
    question: str
    """What the second wording asks; the description where a rubric has no question."""


def read_rubrics(paths: tuple[Path, ...], own_only: bool = False) -> list[Pattern]:
    """The paper's patterns, unless `own_only`, and those of the files. Raises SpiralError, a line for every fault."""
    problems: list[str] = []
    found: list[tuple[Pattern, Path]] = []
    for path in ((), (BUILT_IN,))[not own_only] + paths:
        for pattern in _read(path, problems):
            same = [(p, where) for p, where in found if p.name.casefold() == pattern.name.casefold()]
            if same:
                where = "the paper's rubric" if same[0][1] == BUILT_IN else str(same[0][1])
                problems.append(f"{path} has a pattern '{pattern.name}', which {where} has too; give it another name")
            else:
                found.append((pattern, path))
    if len(found) > MAX_PATTERNS:
        problems.append(f"there are {len(found)} patterns, and at most {MAX_PATTERNS} fit a prompt; leave some out")
    if not found and not problems:
        problems.append("there is no pattern to look for; give a --rubric, or take the paper's with it")
    if problems:
        raise SpiralError("\n".join(problems))
    return [pattern for pattern, _ in found]


def _read(path: Path, problems: list[str]) -> Iterator[Pattern]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"--rubric {path} cannot be read ({error.strerror}); give a YAML file of the form {FORM}")
        return
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        problems.append(f"--rubric {path} is no YAML ({reason}); write {FORM}")
        return
    entries = tree.get("patterns") if isinstance(tree, dict) else None
    if not isinstance(entries, list) or not entries:
        problems.append(f"--rubric {path} has no list of patterns; write {FORM}")
        return
    if more := [str(key) for key in tree if key != "patterns"]:
        problems.append(f"--rubric {path} has the key '{more[0]}', and takes patterns alone; take it out")
    for number, entry in enumerate(entries, 1):
        problem = _problem(entry)
        if problem:
            problems.append(f"--rubric {path}: pattern {number} {problem}")
            continue
        texts = {key: " ".join(value.split()) for key, value in entry.items()}
        yield Pattern(texts["name"], texts["description"], texts.get("question", texts["description"]))


def _problem(entry: Any) -> str | None:
    """What is wrong with one entry; None if nothing is."""
    if not isinstance(entry, dict):
        return f"is {type(entry).__name__}, no mapping; write name and description"
    if more := [key for key in entry if key not in ("name", "description", "question")]:
        return f"has the key '{more[0]}', and takes name, description and question"
    for key in ("name", "description"):
        if key not in entry:
            return f"has no {key}; say {'what it is called' if key == 'name' else 'when a text shows it'}"
    for key, value in entry.items():
        limit = 80 if key == "name" else 2000
        if not isinstance(value, str) or not value.strip():
            return f"has a {key} that is no text ({value!r}); write it as a text"
        if len(value) > limit:
            return f"has a {key} of {len(value)} characters, and {limit} are the most; shorten it"
    return None
