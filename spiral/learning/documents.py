"""The text that a run is pretrained on: documents from files, folders and folders that `datasets` saved, each once, and
which of them are held out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spiral.api.errors import SpiralError

MAX_SHARE = 0.1
"""Of the text that is held out, at most."""
COLUMN = "text"
"""Of a dataset, which holds its documents."""
SPLIT = "train"
"""Of a folder of several datasets, that is read."""


@dataclass(frozen=True)
class Documents:
    """Texts, none of them empty and none of them twice, in the order of their files."""

    texts: tuple[str, ...]
    skipped: int
    """Files of the folders that are no text: with a zero byte, or not UTF-8."""
    repeated: int
    """Documents that are equal to an earlier one."""

    @property
    def num_bytes(self) -> int:
        """Of all texts, as UTF-8."""
        return sum(map(num_bytes, self.texts))

    @property
    def fingerprint(self) -> str:
        """Of the content: a run that goes on must read the same."""
        digest = hashlib.sha256()
        for text in self.texts:
            digest.update(_digest(text))
        return digest.hexdigest()[:32]

    def split(self, held_out_bytes: int, trained_bytes: int | None = None) -> tuple[list[str], list[str]]:
        """The texts that are trained on, `trained_bytes` of them or all, and those that are held out: `held_out_bytes`
        of them and at most `MAX_SHARE` of all.

        Whole documents but for one, whose end is held out and whose beginning is not, as where there is one alone. Both
        parts are in the order of the documents' hashes, which neither names nor the run's seed change: all runs on a
        text are measured on the same part of it.
        """
        left, held_out = sorted(self.texts, key=_digest, reverse=True), list[str]()
        wanted = min(held_out_bytes, int(MAX_SHARE * self.num_bytes))
        while wanted > 0:
            text = left.pop()
            beginning, end = _cut(text, max(0, num_bytes(text) - wanted))
            held_out.append(end)
            wanted -= num_bytes(end)
            left += [beginning] if beginning else []
        trained = left[::-1]
        return (trained if trained_bytes is None else _first(trained, trained_bytes)), held_out


def _first(texts: Sequence[str], wanted: int) -> list[str]:
    """The first `wanted` bytes of texts."""
    parts: list[str] = []
    for text in texts:
        if wanted <= 0:
            break
        if part := _cut(text, wanted)[0]:
            parts.append(part)
        wanted -= num_bytes(text)
    return parts


def _cut(text: str, place: int) -> tuple[str, str]:
    """A text before and from a byte on, or from the character on that holds it."""
    before = text.encode("utf-8")[:place].decode("utf-8", "ignore")
    return before, text[len(before) :]


def num_bytes(text: str) -> int:
    """Of a text as UTF-8: what bits per byte are divided by."""
    return len(text.encode("utf-8"))


def read_documents(paths: Sequence[str]) -> Documents:
    """The documents of files, of all files in folders, and of datasets. Raises SpiralError for a path that is not there
    or cannot be read, for a named file that is no text, and where nothing is left."""
    texts: dict[str, None] = {}
    skipped = repeated = 0
    for path in map(Path, paths):
        for text in _of_path(path):
            if text is None:
                skipped += 1
            elif text in texts:
                repeated += 1
            elif text:
                texts[text] = None
    if not texts:
        raise SpiralError(
            f"{', '.join(paths)} holds no text ({skipped} files are binary or not UTF-8); give files or folders with "
            "text in UTF-8"
        )
    return Documents(tuple(texts), skipped, repeated)


def _of_path(path: Path) -> Iterator[str | None]:
    """Texts, and None for each file that is none."""
    if _is_dataset(path):
        yield from _of_dataset(path)
    elif path.is_dir():
        for file in _files(path):
            yield _text(file)
    elif path.is_file():
        if (text := _text(path)) is None:
            raise SpiralError(f"{path} is binary or not UTF-8, and text is read; convert it, or leave it out")
        yield text
    else:
        raise SpiralError(f"{path} does not exist; give files, folders or datasets of text")


def _files(folder: Path) -> Iterator[Path]:
    """Those of a folder and its folders, by name; links are not followed, or a text would be read twice, or without
    end."""
    for directory, folders, files in os.walk(folder, onerror=_refuse):
        folders.sort()
        for name in sorted(files):
            file = Path(directory, name)
            if file.is_file() and not file.is_symlink():
                yield file


def _refuse(error: OSError) -> None:
    raise SpiralError(f"{error.filename} cannot be read ({error.strerror}); allow it, or name other text") from error


def _text(file: Path) -> str | None:
    """As it stands, newlines too; None for what is no text."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise SpiralError(f"{file} cannot be read ({error.strerror}); allow it, or leave it out") from error
    try:
        return None if b"\0" in raw else raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _is_dataset(path: Path) -> bool:
    """Whether `datasets` saved it there, with `save_to_disk`."""
    return any((path / name).is_file() for name in ("dataset_dict.json", "dataset_info.json"))


def _of_dataset(path: Path) -> Iterator[str]:
    try:
        import datasets
    except ImportError as error:
        raise SpiralError(
            f"{path} is a folder that datasets saved, and datasets is not installed: pip install "
            "'spiral-selfplay[datasets]', or give files of text"
        ) from error
    found: Any = datasets.load_from_disk(str(path))
    if isinstance(found, datasets.DatasetDict):
        if SPLIT not in found:
            raise SpiralError(f"{path} has the splits {', '.join(found)}, and no {SPLIT}; give the folder of one split")
        found = found[SPLIT]
    if COLUMN not in found.column_names:
        raise SpiralError(
            f"{path} has the columns {', '.join(found.column_names)}, and no {COLUMN}; rename one to that"
        )
    yield from (str(text) for text in found[COLUMN])


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()
