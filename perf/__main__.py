"""`python -m perf [NAME...]`: run the benches named, or all; JSON lines on stdout, a few words on stderr."""

from __future__ import annotations

import importlib
import os
import sys
import time

BENCHES = {
    "R1": "selfplay",
    "engine": "generation",
    "R2": "learning",
    "R2-rows": "without_play",
    "head": "head_memory",
    "adapter": "adapter",
    "R7": "framework",
    "schedule": "schedule",
    "pool": "pool",
    "several": "several",
    "textarena": "textarena",
    "merge": "merging",
    "rows": "rows",
    "memory": "memory",
    "bench": "bench_speed",
    "grading": "grading",
    "startup": "startup",
    "vllm": "vllm",
    "arena": "arena",
    "models": "models",
    "products": "products",
    "cluster": "cluster",
    "simulated": "simulated",
}
"""Name -> the module whose `figures()` yields its figures."""


def main(names: list[str]) -> int:
    """Run benches by name; 2 for an unknown name."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no bench named '{unknown[0]}' (there are: {', '.join(BENCHES)})", file=sys.stderr)
        return 2
    # One thread: processes that share the cores would otherwise measure each other.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # vLLM's threads would otherwise spin while ours works
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    from perf.measure import rounded, say

    torch.set_num_threads(1)
    begun = time.perf_counter()
    for name in names or BENCHES:
        start = time.perf_counter()
        say(f"-- {name}  (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
        for figure in importlib.import_module(f"perf.{BENCHES[name]}").figures():
            print(figure.line(), flush=True)
            verdict = {None: "", True: "ok", False: "MISSED"}[figure.meets]
            say(f"   {figure.name:<34} {rounded(figure.value):>10} {figure.unit:<22} {verdict}")
        say(f"   {time.perf_counter() - start:.0f} s")
    say(f"-- {time.perf_counter() - begun:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
