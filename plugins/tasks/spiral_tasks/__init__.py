"""Registers the benchmarks: known sets of questions, any file of JSON lines, and the generators of reasoning-gym."""

from spiral import Register, hookimpl
from spiral_tasks.generated import generated, generator_names
from spiral_tasks.json_lines import json_lines
from spiral_tasks.known_sets import SETS, KnownBenchmark


@hookimpl
def register_benchmarks(register: Register) -> None:
    register("jsonl", json_lines)
    register("reasoning_gym", generated, members=generator_names)
    for name in SETS:
        register(name, KnownBenchmark(name))
