"""The configuration of each policy that a run trains: the run's own, with what a policy has for itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace

from spiral.api.errors import ConfigError
from spiral.config.annotations import type_mismatch
from spiral.config.layers import types_of
from spiral.config.schema import Config, LearnerConfig, TrainedConfig
from spiral.config.validation import validate

SHARED = ("objective", "method", "precision", "optimizer", "attention", "dropout")
"""Keys of `learner` that all policies of a run have in common, since they share its model and its engine; dropout is
none for all of them, since they play."""
RESERVED = ("learner", "averaged", "snapshots", "members")
"""Names that samplers and tables use otherwise."""


def config_of(config: Config, name: str) -> Config:
    """The configuration as it holds for one policy; the run's own for the main one, whose name is empty."""
    one = next((one for one in config.learners if one.name == name), None)
    if one is None:
        return config
    learner = _with(config.learner, one)
    return replace(config, learner=learner, advantage=one.advantage or config.advantage)


def problems_of_learners(config: Config) -> Iterator[str]:
    """What is wrong with `learners`, a sentence each."""
    names = [one.name for one in config.learners]
    for one in config.learners:
        if not re.fullmatch(r"[A-Za-z]\w*", one.name) or one.name in RESERVED:
            yield (
                f"learners: '{one.name}' is no name for a policy; take letters, digits and underscores, the first one "
                f"a letter, and none of {', '.join(RESERVED)}"
            )
        if names.count(one.name) > 1 and names.index(one.name) == config.learners.index(one):
            yield f"learners: {names.count(one.name)} policies are named '{one.name}'; give each its own name"
        if not 0 < one.share < 1e6:
            yield f"learners: share of {one.name} is {one.share}, and must be positive"
        if one.reset_every < 0:
            yield f"learners: reset_every of {one.name} is {one.reset_every}, and must be at least 0"
        for key in one.settings:
            if key in SHARED:
                yield (
                    f"learners: {one.name} has {key} in its settings, which all policies of a run share; set "
                    f"learner.{key}"
                )
        try:
            own = replace(config, learner=_with(config.learner, one), learners=[])
        except ConfigError as error:
            yield str(error)
        else:
            known = validate(replace(config, learners=[]))
            yield from (f"learners: {one.name}: {problem}" for problem in validate(own) if problem not in known)
    if config.learners and config.examples.path:
        yield "learners has policies that play, and examples.path names games that were played before; give one of them"
    if config.learners and len(config.learners) + 1 > config.rollout.episodes // max(1, config.rollout.group_size):
        yield (
            f"learners and the main policy are {len(config.learners) + 1} policies, and a step has "
            f"{config.rollout.episodes // max(1, config.rollout.group_size)} groups of games; raise rollout.episodes"
        )


def _with(learner: LearnerConfig, one: TrainedConfig) -> LearnerConfig:
    """`learner` with a policy's own settings. Raises ConfigError for a key or a value that it cannot have."""
    types, known = types_of(LearnerConfig), [f.name for f in fields(LearnerConfig) if f.name not in SHARED]
    settings = {key: value for key, value in one.settings.items() if key not in SHARED}
    for key, value in settings.items():
        if key not in known:
            raise ConfigError(f"learners: {one.name} has the unknown setting '{key}'; known: {', '.join(known)}")
        if reason := type_mismatch(value, types[key]):
            raise ConfigError(f"learners: {key} of {one.name} {reason}")
    return replace(learner, **settings)
