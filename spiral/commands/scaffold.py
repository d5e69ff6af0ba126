"""Writes a new plug-in distribution from the templates beside this file."""

from __future__ import annotations

import importlib.metadata
import keyword
import re
from pathlib import Path
from string import Template

from spiral.api.errors import SpiralError
from spiral.plugins.registry import Plugins
from spiral.runs.files import is_free, make_directory, write_atomic

KINDS = {
    "game": ("A game", "Game"),
    "bot": ("A bot", "Bot"),
    "opponents": ("An opponent sampler", "Sampler"),
    "curriculum": ("A curriculum", "Curriculum"),
    "reward": ("A reward shaper", "Reward"),
    "advantage": ("An advantage estimator", "Estimator"),
    "model": ("A model", "Model"),
    "engine": ("An engine", "Engine"),
    "learner": ("A learner", "Learner"),
    "prompt": ("A prompt format", "Prompt"),
    "benchmark": ("A benchmark", "Task"),
    "logger": ("A logger", "Logger"),
}
"""Kind of plug-in that has a template, as `spiral plugins` calls it -> what it is, and what its class is called."""

TEMPLATES = Path(__file__).parent / "templates"
SUFFIX = ".tmpl"
"""Keeps tools from taking a template for a module."""
SHARED = "shared"
"""The folder of the templates that all kinds have."""


def create(kind: str, name: str, directory: Path) -> Path:
    """Write the distribution `spiral-KIND-NAME` into the folder `directory` and return its path.

    It holds a working plug-in called `name`, its tests, a README and a pyproject.toml, and passes its own tests as it
    is. Raises SpiralError for an unknown kind, a name that is no Python identifier or is taken, or a folder that is not
    empty.
    """
    if kind not in KINDS:
        raise SpiralError(f"there is no template for '{kind}'; give one of {', '.join(KINDS)}")
    # ASCII, and a letter or digit at both ends, because the name becomes part of a distribution's name too.
    if not re.fullmatch(r"[A-Za-z](\w*[A-Za-z0-9])?", name, re.ASCII) or keyword.iskeyword(name):
        raise SpiralError(
            f"'{name}' cannot name a plug-in; give letters, digits and underscores, a letter first, such as tic_tac_toe"
        )
    for r in Plugins.installed().registrations():
        if (r.kind, r.name) == (kind, name):
            raise SpiralError(f"{kind} '{name}' is taken by {r.distribution} {r.version}; choose another name")
    what, suffix = KINDS[kind]
    version = importlib.metadata.version("spiral-selfplay")
    distribution = f"spiral-{kind}-{name}".replace("_", "-").lower()
    words = {
        "name": name,
        "distribution": distribution,
        "package": distribution.replace("-", "_"),
        "What": what,
        # The sampler's template seats a bot of that distribution.
        "dependencies": f'"spiral-selfplay~={version}"' + (', "spiral-opponents"' if kind == "opponents" else ""),
        "class_name": "".join(part[:1].upper() + part[1:] for part in name.split("_")) + suffix,
    }
    root = directory / distribution
    if not is_free(root):
        raise SpiralError(f"{root} exists and is not an empty folder; choose another name or --dir")
    for folder in (TEMPLATES / SHARED, TEMPLATES / kind):
        for template in sorted(folder.rglob(f"*{SUFFIX}")):
            place = template.relative_to(folder).with_suffix("")
            parts = [words["package"] if part == "package" else part for part in place.parts]
            target = root.joinpath(*parts)
            make_directory(target.parent)
            write_atomic(target, Template(template.read_text(encoding="utf-8")).substitute(words))
    return root
