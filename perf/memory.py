"""Peak memory of the engine's keys and values and of an update, each in a process of its own.

The least that keys and values can take is one vector of each for every id of every text in flight. The rest is room
to grow, and while a buffer grows the old one stands beside the new one.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from perf.measure import Figure

PRESET = "byte-1m"
ROWS, PROMPT, NEW_TOKENS = 128, 200, 64
FLOAT = 4


def figures() -> Iterator[Figure]:
    """Peak over the least for the engine; bytes for an update."""
    engine = _child("engine")
    yield Figure("memory engine", engine["peak_delta"] / engine["least"], "x least bytes", detail=engine)
    update = _child("update")
    yield Figure("memory update", update["peak_delta"] / 2**20, "MiB", detail=update)


def _child(what: str) -> dict[str, float]:
    command = [sys.executable, "-m", "perf.memory", what]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _engine() -> dict[str, float]:
    """Decode ROWS distinct texts side by side; what the process grew by at its highest."""
    from perf.parts import drain, make_parts
    from spiral.api.records import LEARNER, Request, Sampling

    parts = make_parts(f"model={PRESET}", f"engine.args.max_rows={ROWS}")
    rng = random.Random(0)
    drain(parts.engine, [Request(0, LEARNER, (1,), Sampling(2, ()), 0)])
    before = reset_peak()
    sampling = Sampling(NEW_TOKENS, ())
    prompts = [tuple(rng.randrange(256) for _ in range(PROMPT)) for _ in range(ROWS)]
    drain(parts.engine, [Request(n, LEARNER, p, sampling, n) for n, p in enumerate(prompts)])
    model = parts.setup.model.config
    entry = 2 * model.num_hidden_layers * model.num_key_value_heads * model.head_dim * FLOAT
    return {
        "peak_delta": status("VmHWM") - before,
        "stays_delta": status("VmRSS") - before,
        "buffers": parts.engine.cache_bytes,
        "least": entry * ROWS * (PROMPT + NEW_TOKENS),
        "bytes_a_token": entry,
        "rows": ROWS,
        "longest": PROMPT + NEW_TOKENS,
    }


def _update() -> dict[str, float]:
    """One update over a full micro-batch of distinct rows."""
    from accelerate import Accelerator

    from perf.parts import make_parts
    from spiral.api.records import LEARNER, Trajectory, Turn
    from spiral.config.schema import LearnerConfig
    from spiral.learning.full_learner import FullLearner
    from spiral.learning.packing import pack

    settings = LearnerConfig(ratio_tolerance=1e9)
    parts = make_parts(f"model={PRESET}")
    rng = random.Random(0)
    trajectories = []
    for _ in range(2 * settings.micro_batch_tokens // 128):
        prompt, reply = (tuple(rng.randrange(256) for _ in range(num)) for num in (112, 16))
        turn = Turn("", prompt, reply, (-5.6,) * len(reply), "", True, "stop", 0)
        trajectories.append(Trajectory("game", 0, LEARNER, 1.0, (turn,), 0))
    size = sum(p.numel() for p in parts.setup.model.parameters()) * FLOAT
    before = reset_peak()
    learner = FullLearner(parts.setup.model, settings, 10, Accelerator())
    batch = pack(trajectories, [[1.0]] * len(trajectories), settings.micro_batch_tokens)
    learner.update(batch, 0, len(trajectories))
    return {
        "peak_delta": status("VmHWM") - before,
        "stays_delta": status("VmRSS") - before,
        "weights": size,
        "least_to_stay": 3 * size,  # two moments of AdamW and the average; gradients are freed
        "micro_batch_tokens": settings.micro_batch_tokens,
        "micro_batches": len(batch.micro_batches),
    }


def status(key: str) -> int:
    """Bytes of a line of /proc/self/status (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key + ":"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {key}")


def reset_peak() -> int:
    """Let VmHWM start again from what the process holds now, and say how much that is."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return status("VmRSS")


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    print(json.dumps({"engine": _engine, "update": _update}[sys.argv[1]]()))
