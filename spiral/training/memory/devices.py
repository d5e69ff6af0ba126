"""The devices that a run may use: those of this machine, or those that a word such as `8x80GB` names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from spiral.api.errors import SpiralError

GB = 1 << 30
"""What vendors of GPUs call a GB: a card of 80 GB has 80 x 2^30 bytes, less a percent."""
GPU_SHARE = 0.92
"""Of a GPU that a plan may fill: the rest is the driver's context and what the allocator cannot hand out again."""


@dataclass(frozen=True)
class Devices:
    """Devices that are alike."""

    num: int
    num_bytes: int
    """Of each."""
    is_gpu: bool

    @property
    def usable_bytes(self) -> int:
        """Of each, what a plan may fill."""
        return int(self.num_bytes * GPU_SHARE) if self.is_gpu else self.num_bytes

    def __str__(self) -> str:
        size = f"{self.num_bytes / GB:.1f} GB"
        if not self.is_gpu:
            return f"this machine's memory, {size} free"
        return f"{self.num} GPU{'' if self.num == 1 else 's'} of {size}"


def parse_gpus(word: str) -> Devices:
    """`8x80GB`, or `80GB` for one. Raises SpiralError for a word that is none."""
    found = re.fullmatch(r"(?:(\d+)\s*[xX*]\s*)?(\d+(?:\.\d+)?)\s*(?:GB|GiB|G)", word.strip(), re.IGNORECASE)
    num, size = (int(found[1] or 1), float(found[2])) if found else (0, 0.0)
    if num < 1 or size <= 0:
        raise SpiralError(
            f"--gpus {word!r} names no GPUs; write how many and how much memory each has, such as 8x80GB or 24GB"
        )
    return Devices(num, int(size * GB), is_gpu=True)


def found_devices() -> Devices:
    """The GPUs of this machine with what is free on the fullest of them, or its main memory where it has none."""
    import torch

    if torch.cuda.is_available():
        free = [torch.cuda.mem_get_info(device)[0] for device in range(torch.cuda.device_count())]
        return Devices(len(free), min(free), is_gpu=True)
    return Devices(1, _free_memory(), is_gpu=False)


def _free_memory() -> int:
    """Bytes of main memory that can be had, page caches included; all there is where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = dict(line.split(":", 1) for line in lines)
        return int(sizes["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
