"""The schema of a run: every key, its default and its meaning; the page of the configuration is generated from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from spiral.config.cluster import ClusterConfig
from spiral.config.dropout import DropoutConfig
from spiral.config.sources import ExamplesConfig, TextConfig


@dataclass(frozen=True)
class PluginConfig:
    """A plug-in by name; `advantage=rae` is short for `advantage={name: rae}`."""

    name: str
    """The registered name; `spiral plugins` lists them."""
    args: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of its factory."""


@dataclass(frozen=True)
class GameConfig(PluginConfig):
    """A game of the mixture."""

    weight: float = 1.0
    """How often it is played, relative to the others."""


@dataclass(frozen=True)
class MemberConfig:
    """A fixed opponent: a bot, a checkpoint of another run or a saved model."""

    policy: str
    """A bot, `NAME` or `NAME:key=value`; a checkpoint of a run, `run:DIR` or `run:DIR@STEP`; a saved model,
    `model:PATH`."""
    games: list[str] = field(default_factory=list)
    """The games it plays, as they are labelled in tables; empty for all."""


@dataclass(frozen=True)
class PoolConfig:
    """The policies that opponent samplers may choose from, beside the learner as it is."""

    members: list[MemberConfig] = field(default_factory=list)
    """Bots and other models; a name alone is short for {policy: name}."""
    every: int = 0
    """Steps between snapshots of the learner, the first at step 0; 0 takes none."""
    size: int = 8
    """Snapshots kept."""
    keep: Literal["last", "spaced", "best"] = "spaced"
    """Which: the newest, spread evenly over the run, or those with the highest rating."""


@dataclass(frozen=True)
class RolloutConfig:
    """How games are played."""

    episodes: int = 512
    """Finished games a step trains on."""
    group_size: int = 1
    """Games that start from the same deal (GRPO's group); group estimators need at least 2."""
    max_concurrent: int = 1024
    """Games in play at once, at most."""
    max_new_tokens: int = 16
    """The longest reply."""
    max_turns: int = 200
    """A game that is not over after so many turns of all players together is cut (truncated); see `cut`."""
    cut: Literal["draw", "judge", "void"] = "draw"
    """What a cut game is worth: a `draw`, 0 for each (one player alone: the game's own judgement, else its worst
    return); `judge`, the game's own judgement, a draw where it has none; or `void`, replaced and not trained on."""
    max_voided: int = 16
    """Voided games of a step, in all processes together, that are replaced before the run stops and says why."""
    illegal: Literal["forfeit", "penalty"] = "forfeit"
    """What an illegal move costs: `forfeit`, the game's worst return, the others share the opposite; or `penalty`."""
    penalty: tuple[float, float] = (-1.5, 0.5)
    """With `illegal: penalty`, the returns of the offender and of each other player (SPIRAL's numbers)."""
    cut_replies: Literal["illegal", "mask", "train"] = "illegal"
    """A reply that is cut at `max_new_tokens`: `illegal`, whatever it says, and trained as such; `mask`, illegal too,
    but its tokens are left out of the loss; or `train`, read, played and trained like any other."""
    retries: int = 0
    """Illegal replies of a turn that are asked again before the move counts as illegal."""
    turn_deadline_s: float = 60.0
    """Longest that a game, with the quick bots that play it, may take from one reply to the next question, half of it
    at least; one that takes more is voided."""
    deadline_s: float = 600.0
    """Longest wait for an engine that finishes no reply, before the run stops and says so."""


@dataclass(frozen=True)
class LearnerConfig:
    """One update: objective, regularisers and optimiser (AdamW)."""

    objective: Literal["return", "likelihood"] = "return"
    """What is maximised: the expected `return` of self-play, by the policy gradient; or the log-`likelihood` of the
    replies of another policy, token by token, as `examples` need."""
    method: PluginConfig = field(default_factory=lambda: PluginConfig("full"))
    """What of the model is trained, and how: `full`, every weight; `lora`, a low-rank adapter over the frozen model."""
    lr: float = 1e-3
    """Peak learning rate."""
    lr_end: float = 0.05
    """Last learning rate as a fraction of `lr`."""
    schedule: Literal["linear", "cosine", "wsd"] = "linear"
    """The way there from the peak: `linear`, a half `cosine`, or `wsd`: the peak until `decay` of the steps are left,
    and linear over those."""
    decay: float = 0.2
    """Share of the steps over which `wsd` (warm-up, stable, decay) falls."""
    warmup_steps: int = 0
    """Steps of linear rise from 0 to `lr`."""
    weight_decay: float = 0.0
    """AdamW's decoupled decay."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    epochs: int = 1
    """Passes over a step's batch, `minibatches` optimiser steps each; more than 1 needs `clip`."""
    minibatches: int = 1
    """Random parts of a step's games, an optimiser step each; more than 1 needs `clip`, and a forward pass of the whole
    batch before the first step."""
    clip: float | None = None
    """PPO's epsilon on the probability ratio; null leaves it unclipped."""
    clip_high: float | None = None
    """Epsilon above 1, where it is not `clip`: DAPO's clip-higher."""
    ratio_level: Literal["token", "sequence"] = "token"
    """Whose probability ratio is clipped: each `token`'s, or that of a whole reply, the geometric mean over its tokens
    (`sequence`: GSPO)."""
    normalisation: Literal["constant", "tokens", "sequence"] = "constant"
    """What the objective is divided by: a `constant`, the games of a step (`rollout.episodes`, by `minibatches`); the
    reply `tokens` of all games; or `sequence`, each reply by its length, and all by their number."""
    importance: Literal["auto", "truncated", "none"] = "auto"
    """Weights that correct for an engine that samples from slightly other probabilities than the learner's: `truncated`
    at `importance_cap` for each token, or `none`; `auto` is `none` where both are one float32 computation."""
    importance_cap: float = 2.0
    """Largest importance weight, pi_learner / pi_engine before the update."""
    entropy: float = 0.0
    """Weight of an entropy bonus, nats summed over a reply's tokens."""
    kl: float = 0.0
    """Weight of KL(policy || reference), the magnet that keeps self-play from cycling."""
    kl_end: float = 1.0
    """Last weight of the KL term as a fraction of `kl`; linear from the first step."""
    anchor: float = 0.0
    """Weight of KL(anchor || policy), the forward KL: its gradient does not vanish with a move's probability, so no
    legal move is lost for good. Moves that cannot be listed have no anchor, unless it is `initial`."""
    anchor_end: float = 0.1
    """Last weight of the anchor as a fraction of `anchor`; linear from the first step."""
    anchor_to: Literal["legal", "initial"] = "legal"
    """The anchor: `legal`, random play over the listed legal moves, for prompt formats in which a move has one reply;
    or `initial`, the policy as the run began, a second model in memory and in every checkpoint."""
    reference_every: int = 25
    """Steps between moving the reference to where the weights are now, on a short average; 0 leaves it where the run
    began."""
    reference_ema: float = 0.95
    """Decay of that average; a longer one lags, and a reference that lags makes self-play circle."""
    ema: float = 0.995
    """Decay of the averaged weights, which evaluation uses; 0 keeps none, and evaluates the live ones."""
    ema_power: float = 4.0
    """Until that decay is the longer memory, step t weighs about t^ema_power in the average, whose mean age is then the
    steps so far / (ema_power + 2); 0 is a plain mean."""
    precision: Literal["float32", "mixed", "bf16"] = "float32"
    """What the learner computes in, the loss always in float32: `float32`; bfloat16 over float32 weights, gradients and
    moments (`mixed`); or `bf16`, all of them in bfloat16, rounded stochastically, which the engine has its weights in
    too."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """`adamw_8bit` keeps AdamW's two moments in a byte each; it needs torchao, the extra `8bit`."""
    micro_batch_tokens: int = 2048
    """Tokens of a forward pass; changes memory, never the result."""
    attention: Literal["auto", "sdpa", "flex", "flash"] = "auto"
    """Of the rows of an update: `sdpa`, torch's own over padded rows, with masks where rows are trees; or on GPUs over
    rows without padding or masks `flex`, torch's flex attention, or `flash`, flash-attention's, which knows no trees.
    `auto` is `flash` where it is installed and the precision is bfloat16, else `flex`, and on a CPU `sdpa`."""
    checkpoint_activations: bool = False
    """Keep the inputs of the model's layers only, and compute the rest again in the backward pass: a third more time
    for a fraction of the memory, and the same result."""
    ratio_tolerance: float | None = None
    """Largest |log-probability now - log-probability at sampling| of a token of a fresh batch, in nats; null is 0.001
    in float32, 0.05 in float16, 0.3 in bfloat16. Where learner and engine are one float32 computation, one token beyond
    stops the run; otherwise such tokens are counted, and more than a tenth of all stops it."""
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    """Where others' replies or text are learned from; in self-play its rate must be 0, or the update would score
    another policy than the one that played."""


@dataclass(frozen=True)
class TrainedConfig:
    """Another policy that is trained in the same run, with weights of its own in the run's model."""

    name: str
    """What samplers, metrics and checkpoints call it: letters, digits and underscores, the first one a letter."""
    share: float = 1.0
    """Of the games of a step that are played for it, where the main policy's is 1."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Keys of `learner` in which it differs from the main policy's."""
    advantage: PluginConfig | None = None
    """How its credit is assigned; null is as the main policy's, with a state of its own."""
    reset_every: int = 0
    """Steps after which it goes back to the weights that the run began with, as a league's exploiters do; a snapshot of
    what it was is taken before. 0 is never."""


@dataclass(frozen=True)
class WarmStartConfig:
    """Behaviour cloning of random legal play until the format is known, before step 0."""

    max_steps: int = 1000
    """Longest warm start; 0 turns it off."""
    batch: int = 128
    """Examples an update."""
    lr: float = 2e-3
    """Learning rate, linear to 0 over `max_steps`."""
    legal: float = 0.95
    """Stop when this share of the games of random play would end without an illegal reply, on fresh ones."""
    check_every: int = 25
    """Updates between two such checks."""
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    """Over `max_steps`."""
    cache: bool = True
    """Keep the result for later runs of the same games, model and seed."""


@dataclass(frozen=True)
class BenchmarkConfig(PluginConfig):
    """A benchmark whose questions are asked in training."""

    samples: int = 1
    """Replies to each question."""
    limit: int | None = None
    """The first so many questions; null for all."""
    temperature: float | None = None
    """0 is greedy; null is 0 for one reply to a question, and 0.6 for several."""
    max_new_tokens: int | None = None
    """The longest reply; null is `rollout.max_new_tokens`."""


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured during training, on the averaged weights."""

    every: int = 25
    """Steps between evaluations; 0 turns them off. The last step is always evaluated otherwise."""
    exploitability: bool = True
    """Exact NashConv of each enumerable game with at most `max_nodes` nodes."""
    max_nodes: int = 20_000
    """Largest game tree that is enumerated in training."""
    opponents: list[MemberConfig] = field(default_factory=list)
    """The policies to play matches against, each as a pool's member; a game for one player is played without."""
    matches: int = 100
    """Matches against each opponent, in each of its games and as each player; and of each game for one player."""
    tasks: list[BenchmarkConfig] = field(default_factory=list)
    """Benchmarks to ask, each in the run's own prompt format and on its engine."""


@dataclass(frozen=True)
class HealthConfig:
    """What happens when self-play collapses; `docs/guides/collapse.md` shows what that looks like."""

    action: Literal["note", "stop", "rollback"] = "note"
    """`note` it in events.jsonl and the report; `stop` the run; or go back to the last healthy checkpoint and let
    `fallback` choose a part of the opponents from then on."""
    fallback: PluginConfig | None = None
    """The sampler of opponents that takes over in part after a rollback, such as `uniform_past`."""
    fallback_share: float = 0.5
    """How much of the games it gets; after each further rollback that much of the rest."""
    max_rollbacks: int = 2
    """A collapse after that many is noted only."""
    window: int = 20
    """About how many steps something must be wrong before it is called a collapse."""


@dataclass(frozen=True)
class CheckpointConfig:
    """What is kept of a run."""

    every: int = 100
    """Steps between checkpoints; the last step always has one."""
    keep: int = 2
    """Newest checkpoints that stay on disk; 0 keeps all."""
    episodes: int = 16
    """Games a step written to episodes.jsonl."""


@dataclass(frozen=True)
class Config:
    """A run."""

    games: list[GameConfig]
    """The mixture that is played."""
    opponents: PluginConfig
    """Which policies the learner plays against."""
    advantage: PluginConfig
    """How credit is assigned."""
    model: PluginConfig
    """What is trained."""
    engine: PluginConfig
    """What generates text."""
    prompt: PluginConfig
    """The text around a game."""
    curriculum: PluginConfig
    """Which game is played next."""
    rewards: list[PluginConfig] = field(default_factory=list)
    """Shapers of returns, applied in order before credit."""
    loggers: list[PluginConfig] = field(default_factory=list)
    """Observers beside metrics.jsonl, which is always written."""
    examples: ExamplesConfig = field(default_factory=ExamplesConfig)
    text: TextConfig = field(default_factory=TextConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    learners: list[TrainedConfig] = field(default_factory=list)
    """Policies that are trained beside the main one, which `learner` is about."""
    warm_start: WarmStartConfig = field(default_factory=WarmStartConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    cluster: ClusterConfig = field(default_factory=lambda: ClusterConfig("local"))
    """Where games are played and policies learn: `local`, in this process or those that torchrun or accelerate started;
    or `ray`, in processes of a Ray cluster."""
    steps: int = 1000
    """Learner updates."""
    seed: int = 0
    """Every random draw descends from it."""
    threads: int = 1
    """CPU threads of torch; tiny models are slower with more."""
    process_deadline_s: float = 1800.0
    """Longest that a process waits for the others of its run, such as for the main one's matches, before the run stops
    and says so."""


FIXED_IN_A_RUN = (
    "games",
    "model",
    "prompt",
    "opponents",
    "pool",
    "health",
    "curriculum",
    "rewards",
    "advantage",
    "examples",
    "text",
    "learner.objective",
    "learner.method",
    "learner.precision",
    "learner.optimizer",
    "learners",
    "seed",
    "warm_start",
)
"""Keys that a resumed run cannot change: its checkpoints would belong to something else, or the time for it is over."""
