"""Writes a new plug-in distribution from the templates beside this file."""

from __future__ import annotations

import importlib.metadata
import keyword
import re
from pathlib import Path
from string import Template
from typing import Literal, get_args

from spiral.api.errors import SpiralError
from spiral.runs.files import make_directory, write_atomic

Kind = Literal["game", "estimator", "opponent"]

TEMPLATES = Path(__file__).parent / "templates"
SUFFIX = ".tmpl"
"""Keeps tools from taking a template for a module."""


def create(kind: Kind, name: str, directory: Path) -> Path:
    """Write the distribution `spiral-KIND-NAME` into the folder `directory` and return its path.

    It holds a working plug-in called `name`, its tests, a README and a pyproject.toml, and passes its own tests as it
    is. Raises SpiralError for an unknown kind, a name that is no Python identifier, or a folder that is not empty.
    """
    if kind not in get_args(Kind):
        raise SpiralError(f"there is no template for '{kind}'; give one of {', '.join(get_args(Kind))}")
    # ASCII, and a letter or digit at both ends, because the name becomes part of a distribution's name too.
    if not re.fullmatch(r"[A-Za-z](\w*[A-Za-z0-9])?", name, re.ASCII) or keyword.iskeyword(name):
        raise SpiralError(
            f"'{name}' cannot name a plug-in; give letters, digits and underscores, a letter first, such as tic_tac_toe"
        )
    distribution = f"spiral-{kind}-{name}".replace("_", "-").lower()
    words = {
        "name": name,
        "distribution": distribution,
        "package": distribution.replace("-", "_"),
        "version": importlib.metadata.version("spiral-selfplay"),
        "class_name": "".join(part[:1].upper() + part[1:] for part in name.split("_")) + kind.capitalize(),
    }
    root = directory / distribution
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise SpiralError(f"{root} exists and is not an empty folder; choose another name or --dir")
    for template in sorted((TEMPLATES / kind).rglob(f"*{SUFFIX}")):
        place = template.relative_to(TEMPLATES / kind).with_suffix("")
        parts = [words["package"] if part == "package" else part for part in place.parts]
        target = root.joinpath(*parts)
        make_directory(target.parent)
        write_atomic(target, Template(template.read_text(encoding="utf-8")).substitute(words))
    return root
