"""The optimiser of an update, by the precision of the weights that it changes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from spiral.api.errors import SpiralError
from spiral.config.schema import LearnerConfig
from spiral.learning.rounding import RoundedAdamW
from spiral.seeds import derive

BETAS = (0.9, 0.95)


def make_optimizer(parameters: Sequence[torch.nn.Parameter], config: LearnerConfig) -> torch.optim.Optimizer:
    """AdamW as `config.optimizer` says; `set_rate` sets its learning rate at each step.

    Raises SpiralError for one whose library is not installed.
    """
    if config.optimizer == "adamw_8bit":
        return _adamw_8bit(parameters, config.lr, config.weight_decay)
    return adamw(parameters, config.lr, config.weight_decay)


def adamw(parameters: Sequence[torch.nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW whose weights move whatever the learning rate: in one fused pass over float32, rounded stochastically where
    a parameter is bfloat16."""
    if any(parameter.dtype == torch.bfloat16 for parameter in parameters):
        return RoundedAdamW(parameters, lr, BETAS, weight_decay)
    return torch.optim.AdamW(parameters, lr=lr, betas=BETAS, weight_decay=weight_decay, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate from the next step on."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):  # torchao compiles its step, for which a new number is a new program
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _adamw_8bit(parameters: Sequence[torch.nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """torchao's, in blocks of 256 numbers (Dettmers et al. 2022, arXiv 2110.02861); it rounds bfloat16 stochastically
    too. Its states are tensors that FSDP2 can share out, and its arithmetic is compiled for CPUs and GPUs alike."""
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise SpiralError(
            "learner.optimizer=adamw_8bit needs torchao, which is not installed: pip install 'spiral-selfplay[8bit]', "
            "or set learner.optimizer=adamw"
        ) from error
    optimizer: torch.optim.Optimizer = AdamW8bit(
        parameters, lr=lr, betas=BETAS, weight_decay=weight_decay, bf16_stochastic_round=True
    )
    _seed_steps(optimizer)
    return optimizer


def _seed_steps(optimizer: torch.optim.Optimizer) -> None:
    """Let each step of an optimiser that draws from torch's global generator be a function of the step's number, and
    leave that generator as it was."""
    device = optimizer.param_groups[0]["params"][0].device
    forks: list[AbstractContextManager[None]] = []

    def seed(stepping: torch.optim.Optimizer, *_: Any) -> None:
        number = max((int(state["step"]) for state in stepping.state.values()), default=0)
        forks.append(torch.random.fork_rng([] if device.type == "cpu" else [device]))
        forks[-1].__enter__()
        torch.manual_seed(derive(0, "rounding", number))

    def put_back(*_: Any) -> None:
        forks.pop().__exit__(None, None, None)

    optimizer.register_step_pre_hook(seed)
    optimizer.register_step_post_hook(put_back)
