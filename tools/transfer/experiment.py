"""The comparison as data: the common start, the arms, and the tokens that each may spend. Settings are changed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "transfer"


@dataclass(frozen=True)
class Arm:
    """One way to train on from the common start."""

    name: str
    label: str
    """In tables."""
    words: tuple[str, ...] = ()
    """Overrides of the config that all arms share."""
    reads: Literal["", "start", "experts"] = ""
    """The file of examples that it learns from; empty for one that plays."""
    against_experts: bool = False
    """Whether the experts sit opposite, in place of itself."""
    tasks: tuple[str, ...] = ()
    """The benchmarks that it plays in place of the games, by names of `Experiment.questions`."""


@dataclass(frozen=True)
class Experiment:
    """All that the runs of a comparison follow from, beside their seeds."""

    config: Path
    """What all arms share: games, model, rollouts, and what is measured."""
    budget_tokens: int
    """Reply tokens that each arm trains on. Those of play it sampled itself; those of supervised training it reads."""
    start: Arm
    """Makes the common start from random weights."""
    start_steps: int
    arms: tuple[Arm, ...]
    experts: Mapping[str, str]
    """Name of a game -> the bot that plays it well."""
    questions: Mapping[str, Mapping[str, Any]]
    """Benchmark -> arguments of the questions that are trained on, none of which is measured."""
    num_expert_games: int
    """Of each game."""
    num_random_games: int
    """Of each game, random legal play, in the examples of the start."""
    first_steps: int = 20
    """Steps after which an arm's tokens a step are known well enough to say how many more it takes."""


SUPERVISED = ("learner.kl=0", "learner.anchor=0", "learner.ema=0.99")

TRANSFER = Experiment(
    config=RECIPE / "config.yaml",
    budget_tokens=1_500_000,
    start=Arm("base", "base", (*SUPERVISED, "learner.lr=0.002", "rollout.episodes=128"), reads="start"),
    start_steps=1500,
    arms=(
        Arm("sft", "SFT on experts' games", (*SUPERVISED, "rollout.episodes=64"), reads="experts"),
        Arm(
            "rlvr",
            "RLVR on three of the tasks",
            (
                "advantage=rloo", "rollout.group_size=16", "rollout.episodes=1024", "learner.kl=0.05",
                "learner.anchor=0", "learner.reference_every=0", "learner.lr=0.001",
            ),
            tasks=("reasoning_gym/chain_sum", "reasoning_gym/count_bits", "reasoning_gym/simple_equations"),
        ),
        Arm("fixed", "play against experts", against_experts=True),
        Arm("self_play", "self-play with RAE"),
    ),
    experts={"kuhn_poker": "equilibrium", "tic_tac_toe": "perfect", "openspiel/liars_dice": "openspiel_cfr"},
    questions={
        "reasoning_gym/chain_sum": {"size": 8000, "split": "train", "max_terms": 2, "max_digits": 2},
        "reasoning_gym/count_bits": {"size": 790, "split": "train", "max_n": 999},
        "reasoning_gym/simple_equations": {"size": 8000, "split": "train", "max_terms": 2, "max_value": 9},
        "reasoning_gym/leg_counting": {
            "size": 8000, "split": "train", "min_animals": 1, "max_animals": 2, "max_instances": 4,
        },
        "reasoning_gym/number_sequence": {
            "size": 2000, "split": "train", "max_terms": 4, "min_value": 0, "max_value": 9, "max_complexity": 1,
        },
        "reasoning_gym/gcd": {"size": 700, "split": "train", "max_value": 30},
    },
    num_expert_games=4000,
    num_random_games=1000,
)  # fmt: skip
