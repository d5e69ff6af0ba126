"""What a config keeps in memory, in the terms of the arithmetic; the one place that reads it out of a config."""

from __future__ import annotations

from dataclasses import dataclass

from spiral.config.schema import Config
from spiral.learning.chunked_head import MAX_LOGIT_BYTES
from spiral.policies.reference import PolicyRef
from spiral.training.memory.architecture import Adapter

MAX_ROWS = 256
"""Texts that an engine decodes at once, where its arguments do not say."""
VLLM_SHARE = 0.92
"""Of a GPU's memory that vLLM takes for each of its engines, where its arguments do not say."""
PROMPT_TOKENS = 1024
"""A prompt that is planned for, where nothing else is said."""


@dataclass(frozen=True)
class LearnerSettings:
    """What the learner keeps."""

    row_tokens: int
    """Of a forward pass: a micro-batch, or one longer text."""
    precision: str = "float32"
    optimizer: str = "adamw"
    checkpoint_activations: bool = False
    shared_tokens: int | None = None
    """Of the longest beginning that rows share as trees under a dense mask; None where no mask is made."""
    chunk_bytes: int = MAX_LOGIT_BYTES
    """Of the float32 logits that are in memory at once."""
    adapter: Adapter | None = None
    """What is trained in place of the model's own weights."""
    average: bool = False
    references: int = 0
    """Copies for the KL term: the reference, and where it moves to next."""
    initial: bool = False
    """Whether the policy that the run began with is kept, for the anchor."""
    policies: int = 1
    """That are trained, each with weights and all that is kept for them; they learn one after another."""
    rollback: bool = False
    """Whether weights and optimiser state are copied before a step, which several optimiser steps on one batch need."""


@dataclass(frozen=True)
class EngineSettings:
    """What the engine keeps."""

    num_policies: int
    """With weights of their own: the learner, its average, snapshots, and other models of the pool, taken as large."""
    rows: int
    """Texts in flight at once."""
    text_tokens: int
    """Of the longest planned text, prompt and reply."""
    dtype: str | None = None
    """Of its weights and caches; None for that of the learner's weights."""
    tensor_parallel: int = 1
    claims: float | None = None
    """Share of a device that each of its engines takes, whatever it needs; None for an engine that takes what it
    needs."""
    sleeps: bool = False
    """Whether it gives its memory away while the learner works."""
    shares_model: bool = True
    """Whether adapters are laid over the learner's own base model, and not over a copy."""

    @property
    def num_caches(self) -> int:
        """Caches of keys and values: one for each policy with weights of its own."""
        return self.num_policies

    def instances(self, learner: LearnerSettings) -> int:
        """How many engines there are that take a share: one a policy, or one for all adapters of one model."""
        return self.num_policies if learner.adapter is None else 1


@dataclass(frozen=True)
class HeldPolicies:
    """How many policies with weights of their own the engines of a run hold."""

    average: int
    """Of the learner that is evaluated, where one is kept."""
    snapshots: int
    others: int
    """Models of the pool and of evaluation that are no part of the run."""
    learners: int = 1

    @classmethod
    def of(cls, config: Config) -> HeldPolicies:
        """What a config asks for."""
        others = {member.policy for member in (*config.pool.members, *config.evaluate.opponents)}
        return cls(
            average=int(config.learner.ema > 0 and config.evaluate.every > 0),
            snapshots=config.pool.size * (1 + len(config.learners)) if config.pool.every else 0,
            others=sum(PolicyRef.parse(policy).has_weights for policy in others),
            learners=1 + len(config.learners),
        )

    @property
    def num(self) -> int:
        """Of all, the learners among them."""
        return self.learners + self.average + self.snapshots + self.others


def settings_of(
    config: Config, context: int, adapter: Adapter | None, prompt_tokens: int, on_gpu: bool
) -> tuple[LearnerSettings, EngineSettings]:
    """What a run of `config` keeps, for texts whose prompts have at most `prompt_tokens`; `adapter`: the one that its
    learner trains."""
    c, args = config.learner, config.engine.args
    text_tokens = min(context, prompt_tokens + config.rollout.max_new_tokens)
    learner = LearnerSettings(
        row_tokens=max(c.micro_batch_tokens, text_tokens),
        precision=c.precision,
        optimizer=c.optimizer,
        shared_tokens=prompt_tokens if c.attention == "sdpa" or (c.attention == "auto" and not on_gpu) else None,
        checkpoint_activations=c.checkpoint_activations,
        adapter=adapter,
        average=c.ema > 0,
        references=(1 + int(c.reference_every > 0)) if c.kl > 0 else 0,
        initial=c.anchor > 0 and c.anchor_to == "initial",
        policies=1 + len(config.learners),
        rollback=c.epochs * c.minibatches > 1,
    )
    vllm = config.engine.name == "vllm"
    most = int(args.get("max_rows") or args.get("max_num_seqs") or MAX_ROWS)
    engine = EngineSettings(
        num_policies=HeldPolicies.of(config).num,
        rows=min(most, config.rollout.max_concurrent, config.rollout.episodes),
        text_tokens=text_tokens,
        dtype=args.get("dtype"),
        tensor_parallel=int(args.get("tensor_parallel_size", 1)),
        claims=float(args.get("gpu_memory_utilization", VLLM_SHARE)) if vllm and on_gpu else None,
        sleeps=bool(args.get("enable_sleep_mode", False)),
        shares_model=not vllm,
    )
    return learner, engine
