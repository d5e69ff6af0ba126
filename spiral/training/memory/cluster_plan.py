"""What fits where on a cluster of nodes with GPUs that are alike, before one is asked for: players and the learner's
processes, by the arguments of `cluster=ray`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from spiral.api.errors import SpiralError
from spiral.cluster.settings import RaySettings
from spiral.training.memory.arithmetic import PRECISIONS, Part, engine_parts, learner_parts, num_trained, peak
from spiral.training.memory.devices import GB, Devices
from spiral.training.memory.plan import Plan


@dataclass(frozen=True)
class Nodes:
    """Nodes with GPUs that are alike."""

    num: int
    gpus: int
    """Of each."""
    gpu: Devices
    """One of them."""

    @classmethod
    def parsed(cls, word: str) -> Nodes:
        """`4x8x80GB`: four nodes with eight GPUs of 80 GB each. Raises SpiralError for a word that is none."""
        found = re.fullmatch(r"(\d+)\s*x\s*(\d+)\s*x\s*(\d+(?:\.\d+)?)\s*(?:GB|GiB|G)", word.strip(), re.IGNORECASE)
        nodes, gpus, size = (int(found[1]), int(found[2]), float(found[3])) if found else (0, 0, 0.0)
        if min(nodes, gpus) < 1 or size <= 0:
            raise SpiralError(
                f"--cluster {word!r} names no nodes; write how many, their GPUs and the memory of each, such as "
                "4x8x80GB"
            )
        return cls(nodes, gpus, Devices(1, int(size * GB), is_gpu=True))


@dataclass(frozen=True)
class OnNode:
    """What is placed on a node."""

    learners: int
    engines: int
    idle_gpus: float


@dataclass(frozen=True)
class ClusterPlan:
    """A run's processes on nodes. `plan`: of the run on one device."""

    plan: Plan
    settings: RaySettings
    nodes: Nodes

    @property
    def engine_parts(self) -> list[Part]:
        """Of each GPU of a player; one that is spread over several shares out what it has."""
        p, over = self.plan, max(1, int(self.settings.engine_gpus))
        parts = engine_parts(p.architecture, p.learner, p.engine, self.nodes.gpu.num_bytes)
        return [Part(one.holder, one.name, one.num_bytes // over, one.when) for one in parts]

    @property
    def learner_parts(self) -> list[Part]:
        """Of each GPU of the learner."""
        a, learner = self.plan.architecture, self.plan.learner
        parts = learner_parts(a, learner, self.settings.learners if self.settings.sharded else 1, True)
        if self.settings.transport != "store":
            copies = 2 * learner.policies * (2 if learner.average else 1)  # while one version takes the other's place
            num_bytes = copies * num_trained(a, learner) * PRECISIONS[learner.precision].held
            parts.append(Part("learner", "two versions of the weights, for engines to read", num_bytes))
        return parts

    @property
    def gpus(self) -> list[tuple[str, list[Part]]]:
        """The kinds of GPU, by who has them, and what takes their memory."""
        if not self.settings.engines:
            return [("engine and learner", [*self.learner_parts, *self.engine_parts])]
        return [("learner", self.learner_parts), ("engine", self.engine_parts)]

    @property
    def placed(self) -> list[OnNode]:
        """By node: the learner's processes first, then engines, each within one node, where there are GPUs left."""
        s = self.settings
        learners, found, left = s.learners, [], None if s.engines == "all" else s.engines
        for _ in range(self.nodes.num):
            free = float(self.nodes.gpus)
            here = min(learners, int(free // s.learner_gpus)) if s.learner_gpus else learners
            learners -= here
            free -= here * s.learner_gpus
            room = int(free // s.engine_gpus) if s.engine_gpus else 0
            engines = room if left is None else min(room, left)
            left = None if left is None else left - engines
            found.append(OnNode(here, engines, free - engines * s.engine_gpus))
        return found

    @property
    def problems(self) -> list[str]:
        """Why it does not fit, a sentence each."""
        s, placed = self.settings, self.placed
        found = []
        if not s.learner_gpus or (s.engines and not s.engine_gpus):
            found.append("cluster.args.engine_gpus and learner_gpus say what a process has; set both, such as 1")
        if (num := sum(node.learners for node in placed)) < s.learners:
            found.append(
                f"{s.learners} learner processes are asked for, and {num} have room; add nodes, or ask for less"
            )
        num = sum(node.engines for node in placed)
        if s.engines != "all" and num < s.engines:
            found.append(f"{s.engines} engines are asked for, and {num} have room; add nodes, or ask for less")
        if s.engines == "all" and not num:
            found.append("no GPU is left for an engine; add nodes, or ask for fewer learners")
        for who, parts in self.gpus:
            if (needs := peak(parts)) > self.nodes.gpu.usable_bytes:
                found.append(
                    f"a GPU of the {who} needs {needs / GB:.1f} GB, and {self.nodes.gpu.usable_bytes / GB:.1f} GB can "
                    "be used; share the model out over more learner processes (sharded: true, learners), spread an "
                    "engine over more GPUs (engine_gpus), or see spiral plan without --cluster for changes of the run"
                )
        return found

    def lines(self) -> Iterator[str]:
        """What fits where."""
        n = self.nodes
        yield f"{n.num} nodes with {n.gpus} GPUs of {n.gpu.num_bytes / GB:.0f} GB:"
        first = 0
        placed = self.placed
        for number, node in enumerate(placed):
            if number + 1 < len(placed) and placed[number + 1] == node:
                continue
            which = f"node {number + 1}" if first == number else f"nodes {first + 1} to {number + 1}, each"
            idle = f", {node.idle_gpus:g} GPUs without work" if node.idle_gpus else ""
            yield f"  {which}: {node.learners} learner processes, {node.engines} engines{idle}"
            first = number + 1
        if workers := self.settings.workers:
            cores = workers * self.settings.worker_cpus
            yield f"  {workers} workers, on {cores:g} cores of any of them"
        for who, parts in self.gpus:
            yield f"a GPU of the {who}: {peak(parts) / GB:.1f} GB of {n.gpu.usable_bytes / GB:.1f} GB"
            for part in parts:
                during = "" if part.when == "always" else f", while {part.when}"
                yield f"  {part.num_bytes / GB:>8.2f} GB  {part.holder}: {part.name}{during}"
        yield from (self.problems or ["it fits"])
