"""Registers the first-party advantage estimators, and the reward shapers that are applied before them."""

from spiral import Register, hookimpl
from spiral_advantages.critic import Critic
from spiral_advantages.grpo import Grpo
from spiral_advantages.nested import Nested
from spiral_advantages.rae import Rae
from spiral_advantages.reinforce import Reinforce
from spiral_advantages.rewards.discount import Discount
from spiral_advantages.rewards.format_bonus import FormatBonus
from spiral_advantages.rewards.illegal_penalty import IllegalPenalty
from spiral_advantages.rewards.length_penalty import LengthPenalty
from spiral_advantages.rloo import Rloo
from spiral_advantages.turn_gae import TurnGae


@hookimpl
def register_advantages(register: Register) -> None:
    register("rae", Rae)
    register("nested", Nested)
    register("reinforce", Reinforce)
    register("grpo", Grpo)
    register("rloo", Rloo)
    register("turn_gae", TurnGae)
    register("critic", Critic)


@hookimpl
def register_rewards(register: Register) -> None:
    register("format_bonus", FormatBonus)
    register("illegal_penalty", IllegalPenalty)
    register("length_penalty", LengthPenalty)
    register("discount", Discount)
