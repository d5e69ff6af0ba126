"""Keeps verdicts on disk, so that none is paid for twice: one small file each, named by a hash of all it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from spiral.evaluation.patterns.prompts import Verdict
from spiral.runs.files import make_directory, write_atomic


class VerdictStore:
    """Verdicts of all judges in one folder, which processes may share; its methods may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def key(self, identity: str, messages: Sequence[dict[str, str]]) -> str:
        """Of one verdict: the judge, and all that it is asked, which holds the rubric and the trace."""
        return hashlib.sha256(json.dumps([identity, list(messages)], sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> Verdict | None:
        """The verdict that is kept; None without one. A damaged file counts as none."""
        try:
            found = json.loads(self._path(key).read_text(encoding="utf-8"))
            shown = {str(name): bool(value) for name, value in found["shown"].items()}
            return Verdict(shown, {name: str(found["reasons"][name]) for name in shown})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def put(self, key: str, verdict: Verdict) -> None:
        """Keep a verdict. Raises WriteError where it cannot be written."""
        path = self._path(key)
        make_directory(path.parent)
        write_atomic(path, json.dumps(asdict(verdict)), shared=True)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key[2:]}.json"
