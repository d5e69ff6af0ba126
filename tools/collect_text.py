"""Collects the documentation of a Debian machine as text to pretrain on: python -m tools.collect_text OUT

Copies of licences, READMEs, manuals and guides under /usr/share, as UTF-8 files in the same folders below OUT. Logs of
changes are left out, which are lists more than language, and so is what is generated or of more than a megabyte. Each
long paragraph stands once, in the first file that has it: copyright files repeat the licences a thousand times, and
what is trained on would otherwise be held out too. The same packages give the same files.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

FOLDERS = ("common-licenses", "doc", "vim", "perl", "perl5", "cmake-*/Help")
"""Below /usr/share."""
WANTED = re.compile(
    r"(?i)(.*\.(txt|md|rst|pod|debian)|(copyright|licen[cs]e|readme|faq|thanks|install|bugs).*"
    r"|(l?gpl|gfdl|mpl|apache|artistic|bsd|cc0)[-0-9.]*)"
)
"""Names of documentation, and of Debian's copies of common licences."""
LOGS = re.compile(r"(?i)(change|news|history|release|version[0-9]|todo|authors|unicore|tags)")
"""What names of files and folders of the rest have in them."""
MAX_BYTES = 1_000_000
LONG = 80
"""Characters of a paragraph that may stand once only."""


def collect(share: Path, out: Path) -> tuple[int, int]:
    """Write the text below `share` to `out`; how many files, and how many bytes. Raises SystemExit where `out` holds
    something."""
    if out.exists() and any(out.iterdir()):
        raise SystemExit(f"{out} is not empty; give another folder, or remove it")
    seen: set[str] = set()
    num_files = num_bytes = 0
    for file in _files(share):
        text = _text(file)
        kept = "" if text is None else _without_repeated(text, seen)
        if not kept.strip():
            continue
        target = out / file.relative_to(share).with_name(file.name.removesuffix(".gz"))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(kept, encoding="utf-8", newline="")
        num_files, num_bytes = num_files + 1, num_bytes + len(kept.encode("utf-8"))
    return num_files, num_bytes


def _files(share: Path) -> Iterator[Path]:
    for pattern in FOLDERS:
        for folder in sorted(share.glob(pattern)):
            for directory, folders, names in os.walk(folder):
                folders[:] = sorted(name for name in folders if not LOGS.search(name))
                for name in sorted(names):
                    file, plain = Path(directory, name), name.removesuffix(".gz")
                    if WANTED.fullmatch(plain) and not LOGS.search(plain) and file.is_file() and not file.is_symlink():
                        yield file


def _text(file: Path) -> str | None:
    """None for what is no text, or too much of it."""
    raw = file.read_bytes()
    try:
        raw = gzip.decompress(raw) if file.suffix == ".gz" else raw
        return None if b"\0" in raw or len(raw) > MAX_BYTES else raw.decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError):
        return None


def _without_repeated(text: str, seen: set[str]) -> str:
    """A text without the long paragraphs that stood before, in it or another; `seen` learns of its own."""
    kept = []
    for paragraph in text.split("\n\n"):
        words = " ".join(paragraph.split())
        if len(words) >= LONG:
            if words in seen:
                continue
            seen.add(words)
        kept.append(paragraph)
    return "\n\n".join(kept)


def main(words: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=Path, default=Path("/usr/share"), help="(default: /usr/share)")
    given = parser.parse_args(words)
    num_files, num_bytes = collect(given.share, given.out)
    print(f"{given.out}: {num_files} files, {num_bytes:,} bytes")


if __name__ == "__main__":
    main()
