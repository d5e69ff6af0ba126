"""The rules of a configuration: values of the right type that would train something else than asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import reduce
from typing import Any

from spiral.config.dropout import PLACES
from spiral.config.schema import Config

_RANGES: dict[str, tuple[float, float, str]] = {
    "at least 1": (
        1,
        math.inf,
        "steps threads rollout.episodes rollout.group_size rollout.max_concurrent rollout.max_new_tokens "
        "rollout.max_turns learner.epochs learner.minibatches learner.importance_cap "
        "learner.micro_batch_tokens checkpoint.every "
        "warm_start.check_every warm_start.batch evaluate.matches evaluate.max_nodes pool.size "
        "health.window examples.max_held_out text.evaluate_tokens text.sample_tokens text.trained_bytes "
        "learner.dropout.cycles warm_start.dropout.cycles",
    ),
    "at least 8": (8, math.inf, "text.row_tokens"),
    "at least 0": (
        0,
        math.inf,
        "rollout.retries rollout.max_voided pool.every health.max_rollbacks evaluate.every warm_start.max_steps "
        "checkpoint.keep checkpoint.episodes learner.warmup_steps learner.kl learner.anchor learner.weight_decay "
        "learner.ema_power learner.clip learner.clip_high learner.reference_every text.samples text.held_out_bytes",
    ),
    "positive": (
        1e-300,
        1e300,
        "learner.lr learner.max_grad_norm learner.ratio_tolerance warm_start.lr rollout.deadline_s "
        "rollout.turn_deadline_s process_deadline_s",
    ),
    "from 0 to 1": (
        0,
        1,
        "learner.lr_end learner.kl_end learner.anchor_end warm_start.legal health.fallback_share learner.decay "
        "learner.dropout.switch learner.dropout.ramp warm_start.dropout.switch warm_start.dropout.ramp",
    ),
    "at least 0 and below 1": (
        0,
        1 - 1e-12,
        "learner.ema learner.reference_ema examples.held_out learner.dropout.rate warm_start.dropout.rate",
    ),
}
"""What a value must be -> (lowest, highest, the keys it is asked of)."""


def validate(config: Config) -> list[str]:
    """Values of the right type that would train something else than asked, a sentence each."""
    c = config
    problems = [
        f"{key} is {number}, and must be a finite number"
        for key, number in _numbers("", c)
        if not math.isfinite(number)
    ]
    problems += [
        f"{key} is {value}, and must be {rule}"
        for rule, (low, high, keys) in _RANGES.items()
        for key in keys.split()
        if (value := _value(c, key)) is not None and (value < low or value > high)
    ]
    problems += [
        f"{key} is {text!r}, which is no UTF-8 text and could not be kept in a config; rename what it names, or set "
        "PYTHONUTF8=1 if the name itself is UTF-8"
        for key, text in _texts("", asdict(config))
        if text != text.encode("utf-8", "replace").decode("utf-8")
    ]
    if not c.games and not c.text.paths:
        problems.append("games is empty; name at least one, such as games=kuhn_poker")
    problems += [f"games: weight of {g.name} is {g.weight}, and must be positive" for g in c.games if g.weight <= 0]
    problems += _wrong_tasks(c)
    if (c.health.action == "rollback") != (c.health.fallback is not None):
        problems.append(
            f"health.action is {c.health.action} and health.fallback is {'' if c.health.fallback else 'not '}given; a "
            "rollback, and nothing else, needs a sampler to fall back on, such as health.fallback=uniform_past"
        )
    if c.rollout.episodes % max(1, c.rollout.group_size):
        problems.append(
            f"rollout.episodes is {c.rollout.episodes}, and must be a multiple of rollout.group_size "
            f"({c.rollout.group_size})"
        )
    problems += _of_dropout(c)
    problems += [
        f"learner.{key} is {value} without learner.clip: later {what} are off-policy; set learner.clip=0.2 or "
        f"learner.{key}=1"
        for key, value, what in (
            ("epochs", c.learner.epochs, "passes"),
            ("minibatches", c.learner.minibatches, "optimiser steps"),
        )
        if value > 1 and c.learner.clip is None
    ]
    if c.learner.clip_high is not None and c.learner.clip is None:
        problems.append(
            f"learner.clip_high is {c.learner.clip_high} without learner.clip, which it widens above 1 only; set "
            "learner.clip=0.2"
        )
    problems += _of_sources(c)
    return problems


def _of_dropout(c: Config) -> Iterator[str]:
    if c.learner.dropout.rate and c.learner.objective == "return":
        yield (
            f"learner.dropout.rate is {c.learner.dropout.rate}, and must be 0 in self-play: the update would score "
            "another policy than the one that played, so every probability ratio would be wrong; use "
            "warm_start.dropout instead"
        )
    for key, dropout in (("learner", c.learner.dropout), ("warm_start", c.warm_start.dropout)):
        for place in dropout.places:
            if place not in PLACES:
                yield f"{key}.dropout.places names {place}, and may name {', '.join(PLACES)}"


def _of_sources(c: Config) -> Iterator[str]:
    """What is learned from has to be what the objective is about."""
    if c.examples.path and c.text.paths:
        yield (
            f"examples.path is {c.examples.path} and text.paths is {c.text.paths}; a run learns from games or from "
            "text: leave one of them out"
        )
    elif (c.learner.objective == "likelihood") != bool(c.examples.path or c.text.paths):
        yield (
            f"learner.objective is {c.learner.objective} and examples.path is {c.examples.path or 'empty'}; a "
            "likelihood needs replies of another policy or text, and a return needs none: name a file of spiral "
            "collect with learner.objective=likelihood (spiral sft does), or text (spiral pretrain does), or neither"
        )
    if c.text.paths and c.text.step_tokens < c.text.row_tokens:
        yield (
            f"text.step_tokens is {c.text.step_tokens}, and must be at least text.row_tokens ({c.text.row_tokens}): a "
            "step takes whole rows"
        )
    if c.text.paths and c.warm_start.max_steps:
        yield (
            f"text.paths is {c.text.paths} and warm_start.max_steps is {c.warm_start.max_steps}; a warm start plays "
            "games, and none is played where text is learned: leave it out"
        )
    if c.text.paths and c.games:
        yield (
            f"text.paths is {c.text.paths} and games is {', '.join(game.name for game in c.games)}; nothing is played "
            "where text is learned: leave games out, and let self-play begin from the model that this run saves"
        )


def _wrong_tasks(config: Config) -> Iterator[str]:
    """What is wrong with how benchmarks are asked in training."""
    for one in config.evaluate.tasks:
        for key, low in (("samples", 1), ("limit", 1), ("max_new_tokens", 1), ("temperature", 0)):
            if (value := getattr(one, key)) is not None and value < low:
                yield f"evaluate.tasks: {key} of {one.name} is {value}, and must be at least {low}"
        if one.samples > 1 and one.temperature == 0:
            yield (
                f"evaluate.tasks: {one.name} is asked for {one.samples} replies to each question at temperature 0, "
                "where they would all be alike; raise its temperature, or set samples: 1"
            )


def _value(config: Config, key: str) -> Any:
    return reduce(getattr, key.split("."), config)


def _numbers(key: str, value: Any) -> Iterator[tuple[str, float]]:
    """Every real number of the schema, with its key; what a plug-in takes as an argument is its own affair."""
    if is_dataclass(value):
        for field in fields(value):
            if field.name != "args":
                yield from _numbers(f"{key}.{field.name}".lstrip("."), getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for place, inside in enumerate(value):
            yield from _numbers(f"{key}.{place}", inside)
    elif isinstance(value, float):
        yield key, value


def _texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text in a config, with its key. A file's name that the locale cannot read holds lone surrogates."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inside in value.items():
            yield from _texts(f"{key}.{name}".lstrip("."), inside)
    elif isinstance(value, list | tuple):
        for place, inside in enumerate(value):
            yield from _texts(f"{key}.{place}", inside)
