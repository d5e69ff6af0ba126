"""What `perf/gpu.sh` starts: runs each part of `perf.gpu_parts` in a process of its own, and prints one JSON object.

A process each, since after a failed kernel or an exhausted memory no further call on the device can be trusted, and
since a part that hangs can be ended. What a part had found by then is kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

BUDGETS = {
    "device": 60.0,
    "learner_small_full": 60.0,
    "engine_small": 80.0,
    "learner_large_full": 90.0,
    "engine_large": 90.0,
    "agreement": 60.0,
    "step": 60.0,
    "learner_small_lora": 60.0,
    "learner_large_lora": 80.0,
}
"""Seconds that a part may take, in the order in which they run: what matters most comes first."""
WHOLE_S = 570.0
"""Seconds for all; a part has what is left of them, if that is less."""
LAST_WORDS = 2000
"""Characters of a failed part's stderr that are kept."""


def run_part(command: Sequence[str], budget_s: float) -> dict[str, Any]:
    """What a part printed, one object from all lines; with `error` where it did not end well, and `seconds`."""
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, timeout=budget_s)
        out, err, status = done.stdout, done.stderr, done.returncode
        error = None if status == 0 else f"exit status {status}: {_text(err)[-LAST_WORDS:]}"
    except subprocess.TimeoutExpired as expired:
        out, err = expired.stdout or b"", expired.stderr or b""
        error = f"not done within {budget_s:.0f} s: {_text(err)[-LAST_WORDS:]}"
    found: dict[str, Any] = {}
    for line in _text(out).splitlines():
        found |= _object(line)
    if error is not None:
        found["error"] = error
    return found | {"seconds": round(time.perf_counter() - start, 2)}


def run_all(
    budgets: Mapping[str, float], flags: Sequence[str], whole_s: float, module: str = "perf.gpu_parts"
) -> dict[str, Any]:
    """Every part by name, however the others fared."""
    start, parts = time.perf_counter(), {}
    for name, budget in budgets.items():
        left = whole_s - (time.perf_counter() - start)
        if left < 1:
            parts[name] = {"error": f"not begun: the {whole_s:.0f} s for all parts were over"}
            continue
        parts[name] = run_part([sys.executable, "-m", module, name, *flags], min(budget, left))
        print(f"{name}: {json.dumps(parts[name])}", file=sys.stderr, flush=True)
    return {"parts": parts, "seconds": round(time.perf_counter() - start, 1)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the object. 1 if a part failed, after all of them ran; 2 for a part that does not exist."""
    parser = argparse.ArgumentParser(prog="perf/gpu.sh", description="Measures spiral on one GPU.")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on the CPU, to see that everything runs")
    parser.add_argument("--parts", default=",".join(BUDGETS), help="the parts to run, comma-separated")
    asked = parser.parse_args(arguments)
    names = asked.parts.split(",")
    if unknown := [name for name in names if name not in BUDGETS]:
        parser.error(f"no part is named '{unknown[0]}' (there are: {', '.join(BUDGETS)})")
    flags = ["--tiny"] if asked.tiny else []
    result = {"tiny": asked.tiny, **run_all({name: BUDGETS[name] for name in names}, flags, WHOLE_S)}
    print(json.dumps(result, indent=1))
    return int(any("error" in part for part in result["parts"].values()))


def _text(output: bytes) -> str:
    return output.decode(errors="replace")


def _object(line: str) -> dict[str, Any]:
    """The object that a line of JSON holds; an empty one for any other line."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


if __name__ == "__main__":
    sys.exit(main())
