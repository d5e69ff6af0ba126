"""The Protocols of training: curricula, rewards, estimators, prompts, engines and learners; loads no model library."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from spiral.api.errors import PromptTooLong, SpiralError
from spiral.api.progress import Progress, no_progress
from spiral.api.records import Completion, Continuation, Episode, PolicyId, Request, Trajectory, Turn

Weights = Mapping[str, Any]
"""torch tensors by name; typed loosely, since the contracts load no model library."""


@runtime_checkable
class Stateful(Protocol):
    """A sampler, curriculum, reward, estimator or bot with a `state`: JSON values, saved with every checkpoint and set
    again on resume."""

    state: dict[str, Any]


@runtime_checkable
class RecordsEpisodes(Protocol):
    """An opponent sampler or curriculum that learns from each finished episode, in the order of the games' numbers."""

    def record(self, episode: Episode) -> None: ...


class GameSampler(Protocol):
    """Which game is played next. Optional member: `record(episode)`.

    `choose` changes nothing: each process chooses for its own games. What there is to learn is learnt in `record`.
    """

    def choose(self, rng: random.Random) -> str:
        """The name of one of the run's games; all chance from `rng`."""


class RewardShaper(Protocol):
    """Changes rewards before credit is assigned; applied in the order of the config.

    Changes `Trajectory.reward` and `Turn.reward` only: `returns` stays what the game said. A trajectory's reward
    includes those of its turns.
    """

    def __call__(self, episode: Episode) -> Episode: ...


class AdvantageEstimator(Protocol):
    """Turns returns into credit. Called once a step with the learner's trajectories, in the order of the games.

    Optional members: `min_group_size: int = 1`, for estimators that compare games of one deal;
    `order_dependent: bool = False`, for those whose result depends on the order of the trajectories;
    `needs_joint_state: bool = False`, for those that read `Turn.joint_state`, which is empty otherwise;
    `needs_other_prompts: bool = False`, for those that read `Turn.other_prompts`;
    `features: Callable | None = None`, for those that read the learner's hidden states: before the first step the run
    sets it to a function from distinct prompts to those of their last tokens, a float32 torch tensor, (number of
    prompts, H), on the CPU and without a gradient, by the weights that the step was played with (`ReadsFeatures`).
    """

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[list[float]]:
        """`out[i][k]`: the advantage of turn k of trajectory i, for all i and k."""


def min_group_size(estimator: AdvantageEstimator) -> int:
    """How many games of one deal the estimator has to compare."""
    return int(getattr(estimator, "min_group_size", 1))


def is_order_dependent(estimator: AdvantageEstimator) -> bool:
    """Whether the estimator declares that its result depends on the order of the trajectories."""
    return bool(getattr(estimator, "order_dependent", False))


def needs_joint_state(estimator: AdvantageEstimator) -> bool:
    """Whether the estimator reads what all players together had seen before a turn."""
    return bool(getattr(estimator, "needs_joint_state", False))


def needs_other_prompts(estimator: AdvantageEstimator) -> bool:
    """Whether the estimator reads what the other players would be asked at a turn."""
    return bool(getattr(estimator, "needs_other_prompts", False))


Features = Callable[[Sequence[tuple[int, ...]]], Any]
"""Distinct prompts -> hidden states, (number of prompts, H). Which are asked for together changes them by rounding
only."""


@runtime_checkable
class ReadsFeatures(Protocol):
    """Optional: an estimator that values turns by what the learner makes of their prompts; see `AdvantageEstimator`."""

    features: Features | None


class PromptFormat(Protocol):
    """The text around a game: observation -> prompt ids, reply -> move.

    Text from players is encoded as plain text, never as special tokens. Where `reply` names the one reply that says a
    move, play takes that reply alone for it, however many others `read` reads as the move: exact figures score one.

    Optional members: `lists_moves: bool = False`, whether prompts name the legal moves; `has_history: bool = False`,
    whether a prompt holds the player's earlier turns; `drops_turns: bool = False`, whether the oldest of them may leave
    when the context is full, which voids the game otherwise; `continuation(reply) -> Continuation`, of a format whose
    replies are sampled in parts: asked with () before the first, and with all ids so far, none of them a stop id,
    whenever a part has run to its `num_tokens`; `min_new_tokens: int = 1`, the shortest `rollout.max_new_tokens` that
    has room for the parts; `write`, see `WritesReplies`; `said`, see `SpellsReplies`.
    """

    stop_ids: tuple[int, ...]
    """Ids that end a reply."""

    def encode(
        self, rules: str, observation: str, moves: Sequence[str] | None = None, turns: Sequence[Turn] = ()
    ) -> list[int]:
        """Prompt ids for a decision.

        `rules`: of the game; `QUESTION` of a question that is no game, for which a format may have words of its own.
        `moves`: the legal ones, None without `lists_moves` and where moves are free text. `turns`: the player's own of
        this game so far, () without `has_history`. Their reply ids stand in the prompt as they were sampled: the prompt
        begins with the last turn's prompt and reply, but for what the format says that it leaves out.
        """

    def reply(self, move: str) -> list[int] | None:
        """The one reply that says `move`, its stop id included; None if many replies say it (free thinking)."""

    def read(self, reply: Sequence[int]) -> str | None:
        """The move in a finished reply, or None if there is none."""


@runtime_checkable
class WritesReplies(Protocol):
    """Optional: a prompt format in which many replies say one move, and which can write one, to learn from."""

    def write(self, move: str, thoughts: str) -> list[int] | None:
        """A finished reply that gives `thoughts`, which may be empty, and then says `move`, so that `read` gives the
        move back; None where no reply does."""


def lists_moves(prompt_format: object) -> bool:
    """Whether a prompt format declares that its prompts name the legal moves."""
    return bool(getattr(prompt_format, "lists_moves", False))


def has_history(prompt_format: object) -> bool:
    """Whether a prompt format declares that a prompt holds the player's earlier turns."""
    return bool(getattr(prompt_format, "has_history", False))


def drops_turns(prompt_format: object) -> bool:
    """Whether a prompt format declares that the oldest turns may leave a prompt that has no room for them."""
    return bool(getattr(prompt_format, "drops_turns", False))


def continues(prompt_format: object) -> Callable[[Sequence[int]], Continuation] | None:
    """A prompt format's `continuation`; None of one whose replies are sampled at a stretch."""
    found: Callable[[Sequence[int]], Continuation] | None = getattr(prompt_format, "continuation", None)
    return found


def min_new_tokens(prompt_format: object) -> int:
    """The fewest tokens that a prompt format declares its replies need room for."""
    return int(getattr(prompt_format, "min_new_tokens", 1))


@runtime_checkable
class SpellsReplies(Protocol):
    """Optional: a prompt format that says what text a whole reply is, to be graded as the answer to a question. Without
    it that is the reply's ids as text."""

    def said(self, reply: Sequence[int]) -> str:
        """All that a reply says, its end left out; a thought that the prompt opened is opened in it too."""


class Engine(Protocol):
    """Continuous batching: requests come and go at any time. Policies it has no weights for are refused.

    Optional members: `capacity: int`, the policies that it can have weights of at once; any number without it.
    `context: int`, the ids that a prompt and its reply may have together; any number without it. `dtype`: the torch
    dtype in which log-probabilities are computed, of an engine that has another precision or other kernels than the
    model's own forward pass. `sleep() -> bool` and `wake()`, called around an update: the first gives the device's
    memory to the learner, and says whether it did; after the second every policy has the weights that it had.
    `loads_in_flight: bool = False`, whether weights may be loaded while requests of their policy are in flight: those
    go on with the new ones from the next id on, as if the text so far were a prompt, and tell by `Completion.older`.
    `close()`, where dropping it does not free what it holds; nothing is asked of it afterwards.
    """

    def submit(self, request: Request) -> None:
        """Queue one request; returns at once. Raises PromptTooLong for a prompt that leaves less room for a reply than
        `max_new_tokens`: a reply that is cut for want of room would be trained on as if the policy had chosen it."""

    def step(self) -> list[Completion]:
        """Do a bounded amount of work; the replies that it finished, [] while busy or idle."""

    def load_weights(self, policy: PolicyId, weights: Weights, version: int) -> None:
        """Replace the policy's weights. Only when no request of that policy is in flight, unless the engine says that
        it `loads_in_flight`. What several processes share
        out is gathered as it is read, so every process reads the same tensors in the same order."""

    def drop(self, policy: PolicyId) -> None:
        """Forget a policy and free its memory; nothing if it is not known. Only when none of its requests is in
        flight."""


def check_request(engine: object, request: Request, policies: Collection[PolicyId]) -> None:
    """What every engine refuses in `submit`. Raises SpiralError for a policy that is not among `policies`, those it has
    weights of, and PromptTooLong for an empty prompt or one without room for the reply."""
    if request.policy not in policies:
        known = ", ".join(sorted(policies)) or "none"
        raise SpiralError(f"the engine has no weights for '{request.policy}' (it has: {known}); load_weights first")
    if not request.prompt:
        raise PromptTooLong("a prompt of 0 tokens has nothing that a reply could follow; encode at least one")
    check_room(engine, len(request.prompt), request.sampling.max_new_tokens)


def check_room(engine: object, num_prompt_tokens: int, num_reply_tokens: int) -> None:
    """Raise PromptTooLong if a prompt and a reply of these lengths do not fit the engine's context."""
    context = getattr(engine, "context", None)
    if context is not None and num_prompt_tokens + num_reply_tokens > context:
        room = max(0, context - num_prompt_tokens)
        raise PromptTooLong(
            f"a prompt of {num_prompt_tokens} tokens leaves room for a reply of {room} in the model's context of "
            f"{context}, and {num_reply_tokens} may be asked for; take a longer context (model.args.context, "
            f"{num_prompt_tokens + num_reply_tokens} at least), a shorter text (of a game with a style, such as "
            "style=board, or another prompt format), or a smaller rollout.max_new_tokens"
        )


@dataclass(frozen=True, slots=True)
class LearnerSetup:
    """What a learner is made of."""

    model: Any
    """A Hugging Face model with its initial weights, as `prepare` of the learner's factory gave it."""
    config: Any
    """The run's `learner`: rates, objective and regularisers."""
    num_steps: int
    """Updates of the run, which fix its schedules."""
    accelerator: Any
    """accelerate's view of this process among those of the run."""
    progress: Progress = no_progress
    engine_dtype: Any = None
    """The engine's `dtype`, where it has one."""
    seed: int = 0
    """The run's; what an update draws, such as dropout, descends from it."""
    is_async: bool = False
    """Whether games began with weights that are older than the update's."""


class Learner(Protocol):
    """Holds the weights that are trained, and what an optimiser needs to go on."""

    def update(self, batch: Any, step: int, num_games: int) -> dict[str, float]:
        """One optimiser step an epoch on a packed batch; the objective is divided by `num_games`. The metrics."""

    def weights(self) -> Weights:
        """The live weights by name; not a copy. Of a model that the processes of a run share out each is gathered when
        it is read: all processes read them, in the order of the mapping."""

    def averaged(self) -> Weights | None:
        """The averaged weights by name, which evaluation uses; not a copy. None where no average is kept: evaluation
        uses the live ones."""

    def scorer(self, averaged: bool = True) -> Any:
        """A `spiral.models.logits.TokenLogits` over the averaged weights, or the live ones where there is no average or
        `averaged` is False; for exact figures. All processes of a run call it, and what it gives, alike."""

    def state(self) -> dict[str, Any]:
        """All that an update depends on: groups of tensors by name under `tensors`, `live` and where there is one
        `averaged` among them, the optimiser's own under `optimizer`, plain JSON values under `values`. A tensor may be
        a DTensor, whose parts the processes hold."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave. Raises KeyError or RunError for the state of another learner."""

    def save_model(self, path: Path) -> None:
        """Write the model with the averaged weights, or else the live ones, as transformers saves it. Where `state`
        holds parts, all processes call it, and the main one writes; elsewhere that one alone calls it."""
