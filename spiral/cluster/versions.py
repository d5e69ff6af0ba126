"""What must be the same in all processes of a run: Python, the libraries that carry and compute, and the plug-ins."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass

from spiral.api.errors import RunError
from spiral.plugins.registry import Plugins


@dataclass(frozen=True)
class Origin:
    """The process that started the others."""

    host: str
    folder: str
    """Its working directory, which paths in a config are relative to."""
    versions: Mapping[str, str]

    @classmethod
    def here(cls, plugins: Plugins) -> Origin:
        """This process."""
        return cls(platform.node(), os.getcwd(), versions(plugins))


LIBRARIES = ("torch", "transformers", "ray")


def versions(plugins: Plugins) -> dict[str, str]:
    """Distribution -> version, of what this process has."""
    found = {"python": platform.python_version(), **plugins.distributions}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def check_versions(mine: Mapping[str, str], theirs: Mapping[str, str], here: str, there: str) -> None:
    """Raise RunError if two processes, on the hosts `here` and `there`, have different software."""
    differing = [name for name in sorted({*mine, *theirs}) if mine.get(name) != theirs.get(name)]
    if differing:
        told = "; ".join(
            f"{name} is {mine.get(name, 'not installed')} on {here} and {theirs.get(name, 'not installed')} on {there}"
            for name in differing
        )
        raise RunError(f"the nodes of the cluster differ: {told}; install the same versions on all of them")
