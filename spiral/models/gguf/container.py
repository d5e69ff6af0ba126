"""The container of GGUF: metadata by key, and where each tensor lies; nothing of what a model does with them.

Source: the GGUF specification of ggml, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spiral.api.errors import SpiralError
from spiral.models.gguf.blocks import FORMATS

MAGIC = b"GGUF"
VERSIONS = (2, 3)
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Code of a metadata type -> struct's letter for it."""
_TEXT, _LIST = 8, 9


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies, and as what."""

    shape: tuple[int, ...]
    """As numpy counts: the last dimension is the one whose numbers lie side by side."""
    code: int
    """Of its number format, a key of `FORMATS`."""
    start: int
    """Bytes from the beginning of the file."""


class GgufFile:
    """A file that is read as it is needed: metadata and table at once, each tensor when it is asked for."""

    def __init__(self, path: Path) -> None:
        """Raises SpiralError for a file that is none of GGUF, or that ends too early."""
        self.path = path
        try:
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise SpiralError(f"{path} cannot be read ({error}); give a GGUF file") from error
        try:
            self.metadata, self.tensors = self._header()
        except (struct.error, UnicodeDecodeError, KeyError) as error:
            raise SpiralError(f"{path} is damaged or cut short ({error}); get it again") from error

    def tensor(self, name: str) -> np.ndarray:
        """A tensor as float32, dequantised. Raises SpiralError for one that is not there, or in a format not known."""
        entry = self.tensors.get(name)
        if entry is None:
            raise SpiralError(f"{self.path} holds no tensor '{name}'; it is another kind of model, or cut short")
        number_format = FORMATS.get(entry.code)
        if number_format is None:
            known = ", ".join(known.name for known in FORMATS.values())
            raise SpiralError(
                f"{self.path} keeps '{name}' in number format {entry.code}, and only {known} can be read; take "
                "another file of the model"
            )
        count = math.prod(entry.shape)
        size = number_format.num_bytes(count)
        if entry.start + size > len(self._bytes):
            raise SpiralError(f"{self.path} ends before the tensor '{name}' does; get it again")
        raw = np.frombuffer(self._bytes, np.uint8, size, entry.start)
        return number_format.decode(raw).reshape(entry.shape)

    def _header(self) -> tuple[dict[str, Any], dict[str, TensorEntry]]:
        cursor = _Cursor(self._bytes)
        magic, version = cursor.take("4s"), cursor.take("I")
        if magic != MAGIC or version not in VERSIONS:
            what = f"of version {version}" if magic == MAGIC else "no GGUF file"
            raise SpiralError(f"{self.path} is {what}; give a GGUF file of version {' or '.join(map(str, VERSIONS))}")
        num_tensors, num_keys = cursor.take("Q"), cursor.take("Q")
        metadata = {cursor.text(): cursor.value(cursor.take("I")) for _ in range(num_keys)}
        table = [(cursor.text(), cursor.sizes(), cursor.take("I"), cursor.take("Q")) for _ in range(num_tensors)]
        alignment = int(metadata.get("general.alignment", 32))
        first = -(-cursor.place // alignment) * alignment  # tensors are counted from the next multiple
        return metadata, {name: TensorEntry(shape, code, first + start) for name, shape, code, start in table}


class _Cursor:
    """A place in the bytes, which moves on with all that is taken."""

    def __init__(self, source: mmap.mmap) -> None:
        self._source = source
        self.place = 0

    def take(self, letter: str) -> Any:
        """The next number, or bytes, of struct's `letter`."""
        (value,) = struct.unpack_from(f"<{letter}", self._source, self.place)
        self.place += struct.calcsize(f"<{letter}")
        return value

    def text(self) -> str:
        """The next text: its length, and UTF-8."""
        return str(self.take(f"{self.take('Q')}s").decode("utf-8"))

    def sizes(self) -> tuple[int, ...]:
        """A shape, which the file keeps with the fastest dimension first."""
        return tuple(reversed([self.take("Q") for _ in range(self.take("I"))]))

    def value(self, code: int) -> Any:
        """The next value of a metadata type."""
        if code == _TEXT:
            return self.text()
        if code == _LIST:
            inside, length = self.take("I"), self.take("Q")
            if inside in (_TEXT, _LIST):
                return [self.value(inside) for _ in range(length)]
            letter = f"<{length}{_NUMBERS[inside]}"
            values = struct.unpack_from(letter, self._source, self.place)
            self.place += struct.calcsize(letter)
            return list(values)
        return self.take(_NUMBERS[code])
