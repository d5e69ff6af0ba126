"""An update of an adapter against one of every weight, in the shape of SmolLM2: time and memory.

Each in a process of its own, in turn, on the same rows of random ids that share nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from perf.measure import Figure, spread

ROWS, ROW_TOKENS, ROUNDS = 2, 128, 2
METHODS = ("full", "lora")


def figures() -> Iterator[Figure]:
    """CPU time, and peak memory beside the model itself."""
    found: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    for turn in range(ROUNDS):
        for method in METHODS if turn % 2 == 0 else reversed(METHODS):
            found[method].append(_child(method))
    for name, key in (("time", "update_cpu_s"), ("memory", "peak_delta"), ("memory kept", "kept_delta")):
        full, lora = ([run[key] for run in found[method]] for method in METHODS)
        ratio = spread(a / b for a, b in zip(lora, full, strict=True))
        detail = {"ratio": ratio, **dict(zip(METHODS, (full, lora), strict=True)), "tokens": ROWS * ROW_TOKENS}
        yield Figure(f"adapter update, {name}", ratio["median"], "x of every weight", detail=detail)


def _child(method: str) -> dict[str, float]:
    command = [sys.executable, "-m", "perf.adapter", method]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(method: str, tiny: bool = False) -> dict[str, float]:
    """CPU seconds of the second update; bytes that the process grew by beside the model: at its highest, and after."""
    import math
    from dataclasses import replace

    from perf.gpu_parts import make_learner
    from perf.learning import PRETRAINED
    from perf.measure import timed
    from perf.memory import reset_peak, status
    from perf.shapes import SMOLLM2, TINY, transcripts
    from spiral.config.schema import PluginConfig
    from spiral.learning.packing import pack

    shape = TINY if tiny else SMOLLM2
    settings = replace(PRETRAINED, method=PluginConfig(method), ratio_tolerance=math.inf)
    model = shape.model()
    trajectories = transcripts(ROWS, 8 if tiny else ROW_TOKENS, 256)
    batch = pack(trajectories, [[t.reward] for t in trajectories], settings.micro_batch_tokens)
    before = reset_peak()
    learner = make_learner(model, settings)
    learner.update(batch, 0, ROWS)
    seconds = timed(lambda: learner.update(batch, 1, ROWS))
    return {
        "update_cpu_s": seconds.cpu,
        "peak_delta": status("VmHWM") - before,
        "kept_delta": status("VmRSS") - before,
        "weights": sum(p.nbytes for p in model.parameters()),
    }


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    print(json.dumps(measure(sys.argv[1])))
