"""Advantage estimators: how the return of a finished game becomes credit for the moves that led to it."""

from spiral.hookspecs import Register, hookimpl
from spiral_advantages.grpo import Grpo
from spiral_advantages.rae import Rae
from spiral_advantages.reinforce import Reinforce
from spiral_advantages.rloo import Rloo


@hookimpl
def register_advantages(register: Register) -> None:
    register("rae", Rae)
    register("reinforce", Reinforce)
    register("grpo", Grpo)
    register("rloo", Rloo)
