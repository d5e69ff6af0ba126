"""What a run takes of each device against what there is, and the cheapest change that makes it fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from spiral.training.memory.architecture import Adapter, Architecture
from spiral.training.memory.arithmetic import (
    Part,
    engine_parts,
    engine_weights,
    learner_parts,
    num_trained,
    peak,
    text_bytes,
)
from spiral.training.memory.devices import Devices
from spiral.training.memory.settings import EngineSettings, LearnerSettings

RANK = 16
"""Of the adapter that a remedy asks for."""
LEAST_ROW = 256
"""Tokens of a micro-batch below which a remedy does not go: smaller ones are slow and save nothing more."""


@dataclass(frozen=True)
class Plan:
    """A run on devices, each of which holds an engine and the learner, or one of `shards` parts of it."""

    architecture: Architecture
    learner: LearnerSettings
    engine: EngineSettings
    devices: Devices
    shards: int = 1

    @property
    def parts(self) -> list[Part]:
        """All that takes memory on a device."""
        return [
            *learner_parts(self.architecture, self.learner, self.shards, self.devices.is_gpu),
            *engine_parts(self.architecture, self.learner, self.engine, self.devices.num_bytes),
        ]

    @property
    def needed_bytes(self) -> int:
        """Of each device, at most at once."""
        return peak(self.parts)

    @property
    def fits(self) -> bool:
        """Whether it does, and the engine's share holds its weights and one text."""
        return self.needed_bytes <= self.devices.usable_bytes and self.engine_has_room

    @property
    def engine_has_room(self) -> bool:
        """Whether a share of the device that the engine takes holds its weights and one text of each policy."""
        if self.engine.claims is None:
            return True
        share = int(self.engine.claims * self.devices.num_bytes) * self.engine.instances(self.learner)
        return share >= self._least_of_engine

    @property
    def num_trained(self) -> int:
        """Parameters with gradients."""
        return num_trained(self.architecture, self.learner)

    @property
    def texts_at_once(self) -> int:
        """Planned texts that the engine's caches hold for each policy, and no more than there are in flight."""
        text = self.engine.num_caches * text_bytes(self.architecture, self.learner, self.engine)
        caches = sum(p.num_bytes for p in self.parts if p.holder == "engine" and p.name.startswith("keys and values"))
        return min(self.engine.rows, caches // text)

    @property
    def _least_of_engine(self) -> int:
        weights = engine_weights(self.architecture, self.learner, self.engine)
        return weights + self.engine.num_caches * text_bytes(self.architecture, self.learner, self.engine)

    def share_left(self) -> float | None:
        """The largest share of a device, in whole hundredths, that each engine may take beside the learner; None where
        it would not hold its weights."""
        without = [part for part in self.parts if part.holder == "learner"]
        always = sum(part.num_bytes for part in without if part.when == "always")
        beside = always if self.engine.sleeps else peak(without)
        left = (self.devices.usable_bytes - beside) / self.devices.num_bytes
        share = int(100 * left / self.engine.instances(self.learner)) / 100
        found = replace(self, engine=replace(self.engine, claims=share))
        return share if share > 0 and found.engine_has_room else None


@dataclass(frozen=True)
class Remedy:
    """Changes of a config, and a plan with them."""

    overrides: tuple[str, ...]
    """As the command line takes them."""
    shards: int
    """Processes that the learner is sharded over."""
    plan: Plan


Change = Callable[[Plan], Iterator[tuple[str, Plan]]]
"""Ways to save memory of one kind, the mildest first, each with its override."""


def cheapest_change(plan: Plan) -> Remedy | None:
    """The first of the changes, by what they cost, that makes a plan fit, with those before it that it still needs;
    None where none does."""
    made: list[tuple[str, Change, int]] = []
    current = plan
    for change in CHANGES:
        options = list(change(current))
        if not options:
            continue
        place = next((i for i, (_, changed) in enumerate(options) if _fit(changed)), len(options) - 1)
        made.append((options[place][0], change, place))
        current = _fitted(options[place][1])
        if current.fits:
            return _fewest(plan, made)
    return None


def _fewest(plan: Plan, made: list[tuple[str, Change, int]]) -> Remedy:
    """Without the changes that the last ones made needless, the most costly of them first."""
    for dropped in reversed(made[:-1]):
        fewer = [one for one in made if one is not dropped]
        if (remedy := _with(plan, fewer)).plan.fits:
            return _fewest(plan, fewer) if len(fewer) > 1 else remedy
    return _with(plan, made)


def _with(plan: Plan, made: list[tuple[str, Change, int]]) -> Remedy:
    overrides = []
    for _, change, place in made:
        options = list(change(plan))
        override, plan = options[min(place, len(options) - 1)] if options else ("", plan)
        overrides.append(override)
    fitted = _fitted(plan)
    if fitted.engine.claims != plan.engine.claims:
        overrides.append(f"engine.args.gpu_memory_utilization={fitted.engine.claims}")
    return Remedy(tuple(filter(None, overrides)), fitted.shards, fitted)


def _fit(plan: Plan) -> bool:
    return _fitted(plan).fits


def _fitted(plan: Plan) -> Plan:
    """With a share for the engine that leaves room for the learner, where it takes a share and there is one."""
    if plan.engine.claims is None or plan.fits or (share := plan.share_left()) is None:
        return plan
    return replace(plan, engine=replace(plan.engine, claims=share))


def _engine_share(plan: Plan) -> Iterator[tuple[str, Plan]]:
    if plan.engine.claims is not None:
        yield "", plan  # `_fitted` chooses the share


def _smaller_rows(plan: Plan) -> Iterator[tuple[str, Plan]]:
    tokens = plan.learner.row_tokens // 2
    while tokens >= max(LEAST_ROW, plan.engine.text_tokens):
        yield f"learner.micro_batch_tokens={tokens}", _learner(plan, row_tokens=tokens)
        tokens //= 2


def _learner(plan: Plan, **changed: object) -> Plan:
    return replace(plan, learner=replace(plan.learner, **changed))  # type: ignore[arg-type]


def _checkpointed(plan: Plan) -> Iterator[tuple[str, Plan]]:
    if not plan.learner.checkpoint_activations:
        yield "learner.checkpoint_activations=true", _learner(plan, checkpoint_activations=True)


def _sharded(plan: Plan) -> Iterator[tuple[str, Plan]]:
    if plan.devices.num > plan.shards and plan.learner.optimizer != "adamw_8bit":  # see `check_accelerate_config`
        yield "", replace(plan, shards=plan.devices.num)


def _half_precision(plan: Plan) -> Iterator[tuple[str, Plan]]:
    for precision in {"float32": ("mixed", "bf16"), "mixed": ("bf16",)}.get(plan.learner.precision, ()):
        yield f"learner.precision={precision}", _learner(plan, precision=precision)


def _eight_bit(plan: Plan) -> Iterator[tuple[str, Plan]]:
    if plan.learner.optimizer == "adamw" and plan.shards == 1:
        yield "learner.optimizer=adamw_8bit", _learner(plan, optimizer="adamw_8bit")


def _adapter(plan: Plan) -> Iterator[tuple[str, Plan]]:
    if plan.learner.adapter is None:
        yield "learner.method=lora", _learner(plan, adapter=Adapter(RANK, ()))


CHANGES: tuple[Change, ...] = (
    _engine_share,
    _smaller_rows,
    _checkpointed,
    _sharded,
    _half_precision,
    _eight_bit,
    _adapter,
)
"""By what they cost: nothing, then time, then messages between devices, then exactness, then what is trained."""
