"""The identity of saved weights is their content: a hash of every file that a model is read from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from spiral.api.errors import RunError
from spiral.config.loading import resolved


def fingerprint(path: Path) -> str:
    """Of a file, or of a folder: the names and the whole content of its files, but for hidden ones and `.md`.

    It reads everything, at about 1 GB/s a core (SHA-256, files in parallel), which is what loading costs again at most.
    Sizes, dates or samples would be cheaper, and could not tell a model from the same one trained further. Raises
    RunError for a file that cannot be read.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if _counts(file, path))
    try:
        with ThreadPoolExecutor() as pool:
            contents = list(pool.map(_content, files))
    except OSError as error:
        raise RunError(
            f"{error.filename} cannot be read ({error.strerror}); allow it, or name another model"
        ) from error
    named = [(file.relative_to(path).as_posix(), content) for file, content in zip(files, contents, strict=True)]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:32]


def read_from(args: Mapping[str, Any]) -> dict[str, str]:
    """The files and folders that a plug-in's arguments name, of those that are there -> their fingerprints."""
    paths = [
        str(value) for value in resolved(args).values() if isinstance(value, str) and value and Path(value).exists()
    ]
    return {path: fingerprint(Path(path)) for path in paths}


def _counts(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)  # such as a downloader's own notes
    return file.is_file() and not hidden and file.suffix != ".md"


def _content(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
