"""Every hook a plug-in may implement, on one screen, and nothing else. Arguments live in the factory's signature."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pluggy

from spiral.api.records import Episode

hookspec = pluggy.HookspecMarker("spiral")
hookimpl = pluggy.HookimplMarker("spiral")


class Register(Protocol):
    """register(name, factory). A name that two distributions take is an error, naming both, for who asks for it."""

    def __call__(
        self, name: str, factory: Callable[..., Any], members: Callable[[], Iterable[str]] | None = None
    ) -> None:
        """With `members`, a family: factory(member, **args) makes `name/member`; `members()` lists those known."""


@hookspec
def register_games(register: Register) -> None:
    """factory(**args) -> Game, a fresh match each call."""


@hookspec
def register_bots(register: Register) -> None:
    """factory(**args) -> Bot."""


@hookspec
def register_opponents(register: Register) -> None:
    """factory(**args) -> OpponentSampler."""


@hookspec
def register_curricula(register: Register) -> None:
    """factory(games, **args) -> GameSampler; `games` maps each game's name to its weight."""


@hookspec
def register_rewards(register: Register) -> None:
    """factory(**args) -> RewardShaper, (Episode) -> Episode, applied before credit."""


@hookspec
def register_advantages(register: Register) -> None:
    """factory(**args) -> AdvantageEstimator."""


@hookspec
def register_models(register: Register) -> None:
    """factory(**args) -> (model, tokenizer) of Hugging Face. Optional: factory.num_pretrained(**args) -> its size if it
    read text; .skeleton(**args) -> it without weights; .to_stock(model, tokenizer) -> both in transformers' classes."""


@hookspec
def register_engines(register: Register) -> None:
    """factory(model, tokenizer, **args) -> Engine."""


@hookspec
def register_learners(register: Register) -> None:
    """factory(setup: LearnerSetup, **args) -> Learner. Optional: factory.prepare(model, **args) -> the model that is
    trained and played, such as one with an adapter; factory.lr_factor, which full training's default rate is times."""


@hookspec
def register_prompts(register: Register) -> None:
    """factory(tokenizer, **args) -> PromptFormat."""


@hookspec
def register_benchmarks(register: Register) -> None:
    """factory(**args) -> a sequence of Tasks, the same ones in the same order each time. Optional: factory.missing(
    **args) -> what has to be there first, such as a file, as the end of a sentence; empty if nothing is missing."""


@hookspec
def register_loggers(register: Register) -> None:
    """factory(run_dir, **args) -> an object with any of the observers below as hookimpls."""


@hookspec
def run_started(config: Mapping[str, Any], run_dir: Path) -> None:
    """A run begins or resumes with this configuration, as in its config.yaml; on the main process, as all observers."""


@hookspec
def measure_step(step: int, metrics: Mapping[str, float], episodes: Sequence[Episode]) -> Mapping[str, float] | None:
    """Metrics of a plug-in's own, under names that `metrics` does not have: written, drawn and logged as all others."""


@hookspec
def step_finished(step: int, metrics: Mapping[str, float], episodes: Sequence[Episode]) -> None:
    """One step of training is done; `metrics` holds everything that was measured, and cannot be changed."""


@hookspec
def health_event(event: Mapping[str, Any]) -> None:
    """Something collapsed; `event` is a line of events.jsonl."""


@hookspec
def checkpoint_saved(step: int, path: Path) -> None:
    """A complete checkpoint now stands at `path`."""


@hookspec
def run_finished(step: int) -> None:
    """The run reached its last step."""
