"""The learner that trains every weight of a model, in one process or several, through accelerate.

Of a model with an adapter they are the adapter's (`spiral.models.adapted`). The model stays in eval mode: dropout in an
update would score another policy than the one that played.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from spiral.api.errors import RunError, SpiralError
from spiral.api.progress import Phase, Progress, no_progress
from spiral.config.schema import LearnerConfig
from spiral.learning.averaging import ModelAverage, Reference
from spiral.learning.loss import Objective
from spiral.learning.optimizers import make_optimizer
from spiral.learning.packing import Batch
from spiral.learning.policy_loss import PolicyLoss
from spiral.learning.schedule import learning_rate, objective
from spiral.models.adapted import copied, save
from spiral.models.logits import TokenLogits, load_parameters, parameters

Weights = dict[str, Tensor]

MAX_REFUSED = 5
"""Steps in a row whose loss or gradient was not finite, before the run stops."""


class FullLearner:
    """Updates `model` in place. `num_steps` fixes the learning-rate schedule."""

    def __init__(
        self,
        model: Any,
        config: LearnerConfig,
        num_steps: int,
        accelerator: Accelerator,
        progress: Progress = no_progress,
    ) -> None:
        self._config, self._num_steps, self._accelerator = config, num_steps, accelerator
        self._progress, self._num_computed = progress, 0
        self.model = model.to(accelerator.device).eval()
        if accelerator.num_processes > 1:
            for parameter in self.model.parameters():  # a warm start may round differently on each device
                torch.distributed.broadcast(parameter.data, 0)
        self._loss = PolicyLoss(self.model)
        self._parameters = _trained(self.model)
        self._optimizer = accelerator.prepare(make_optimizer(self._parameters, config))
        self._average = ModelAverage(self.model, config.ema, config.ema_power) if config.ema else None
        self._reference = Reference(self.model, config.reference_ema, config.reference_every) if config.kl else None
        needs_initial = config.anchor and config.anchor_to == "initial"
        self._initial = TokenLogits(copied(self.model).requires_grad_(False)) if needs_initial else None
        self._num_updates = self._num_refused = 0

    @property
    def evaluated_model(self) -> Any:
        """The model that evaluation scores and checkpoints publish: the averaged one, or without an average the live
        one itself."""
        return self.model if self._average is None else self._average.model

    def weights(self) -> Weights:
        """The live weights by name, a tied one once; not a copy."""
        return parameters(self.model)

    def averaged(self) -> Weights | None:
        """The exponential moving average of the weights, which evaluation uses; not a copy. None without `ema`."""
        return None if self._average is None else parameters(self._average.model)

    def update(self, batch: Batch, step: int, num_games: int) -> dict[str, float]:
        """One pass per epoch over `batch`, an optimiser step each; the metrics of the update.

        The objective is divided by `num_games`, the constant that the step was asked for. A loss or gradient that is
        not finite leaves the weights as they were and is counted; MAX_REFUSED such steps in a row raise RunError, as
        does a fresh batch whose log-probabilities differ from those at sampling.
        """
        stats: dict[str, float] = {}
        self._num_computed = 0
        total = batch.num_computed_tokens * self._config.epochs
        self._progress(Phase("learning", total, "tokens", lambda: self._num_computed))
        rate = learning_rate(self._config, step, self._num_steps)
        weights = objective(self._config, step, self._num_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        refused = False
        before = copy.deepcopy((self.weights(), self._optimizer.state_dict())) if self._config.epochs > 1 else None
        for epoch in range(self._config.epochs):
            terms = self._backward(batch, num_games, weights)
            norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._config.max_grad_norm))
            # Known only after the whole backward pass, and before this epoch moved a weight.
            refused = not math.isfinite(norm) or not math.isfinite(terms["objective"])
            if not refused and epoch == 0:
                self._check_ratio(terms["gap"])
            if refused:
                break
            self._optimizer.step()
            self._optimizer.zero_grad()
            if epoch == 0:
                stats = self._stats(terms, norm, batch, num_games)
            stats["learner/clipped"] = terms["clipped"] / max(1, batch.num_reply_tokens)
        self._optimizer.zero_grad()
        if refused and before is not None:  # a later epoch was refused: those before it stepped on the same batch
            with torch.no_grad():
                load_parameters(self.model, before[0])
            self._optimizer.load_state_dict(before[1])
        self._count_refused(refused, step)
        # After a refused step too: the averages' decay and the reference's schedule count steps, not accepted updates.
        self._num_updates += 1
        if self._average is not None:
            self._average.update(self.model)
        if self._reference is not None:
            self._reference.update(self.model, step)
        weighed = {"learner/kl_weight": weights.kl, "learner/anchor_weight": weights.anchor}
        return {**stats, "learner/lr": rate, **weighed, "learner/refused": float(refused)}

    def scorer(self, averaged: bool = True) -> TokenLogits:
        """See `Learner.scorer`."""
        return TokenLogits(self.evaluated_model if averaged else self.model)

    def state(self) -> dict[str, Any]:
        """All that an update depends on; `load_state` takes it back."""
        tensors = {"live": self.weights()}
        if (averaged := self.averaged()) is not None:
            tensors["averaged"] = averaged
        if self._reference is not None:
            tensors |= self._reference.tensors()
        if self._initial is not None:
            tensors["initial"] = parameters(self._initial.model)
        return {
            "tensors": tensors,
            "optimizer": self._optimizer.state_dict(),
            "values": {"num_updates": self._num_updates, "num_refused": self._num_refused},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave; a reference that it lacks starts from the averaged weights, or without them
        from the live ones, and so does an average."""
        tensors, values = state["tensors"], state["values"]
        evaluated = tensors.get("averaged", tensors["live"])
        self._num_updates = values["num_updates"]
        load_parameters(self.model, tensors["live"])
        if self._average is not None:
            self._average.load(evaluated, self._num_updates if "averaged" in tensors else 0)
        if self._reference is not None:
            self._reference.load(tensors, evaluated, self._num_updates)
        if self._initial is not None:
            if "initial" not in tensors:
                raise RunError(
                    "learner.anchor_to=initial needs the policy that the run began with, and its checkpoints do not "
                    "hold it, since no anchor was asked for then; use learner.anchor_to=legal, or start a new run"
                )
            load_parameters(self._initial.model, tensors["initial"])
        # The moments only: the groups that torch keeps beside them hold the settings of the run that was saved.
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        self._num_refused = values["num_refused"]

    def save_model(self, path: Path) -> None:
        """Write the evaluated model as transformers saves it, or its adapter as peft does."""
        save(self.evaluated_model, path)

    def _backward(self, batch: Batch, num_games: int, weights: Objective) -> dict[str, float]:
        """Gradients of the whole batch, summed over micro-batches and processes; sums of the loss terms."""
        names = ("objective", "surrogate", "entropy", "kl", "anchor", "anchored", "clipped")
        total = torch.zeros(len(names) + 1, device=self._accelerator.device)
        reference = None if self._reference is None else self._reference.lm
        for micro_batch in batch.micro_batches:
            terms = self._loss(micro_batch.to(self._accelerator.device), weights, reference, self._initial)
            # Not accelerator.backward, which an environment variable makes divide by accumulation steps.
            (-terms.objective / num_games).backward()
            total[:-1] += torch.stack([getattr(terms, name).detach() for name in names])
            total[-1] = torch.maximum(total[-1], terms.gap)
            self._num_computed += micro_batch.ids.numel()
        if self._accelerator.num_processes > 1:
            for parameter in self._parameters:
                gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
                parameter.grad = self._accelerator.reduce(gradient, "sum")
            gathered = self._accelerator.gather(total[None])
            total = torch.cat([gathered[:, :-1].sum(0), gathered[:, -1:].amax(0)])
        return dict(zip([*names, "gap"], total.tolist(), strict=True))

    def _check_ratio(self, gap: float) -> None:
        if gap > self._config.ratio_tolerance:
            raise RunError(
                f"the learner and the engine disagree: a sampled token's log-probability differs by {gap:.2g} nats on "
                f"a fresh batch (learner.ratio_tolerance is {self._config.ratio_tolerance:g}), so every gradient would "
                "be biased; the engine's weights, precision or sampling distribution are not the learner's"
            )

    def _count_refused(self, refused: bool, step: int) -> None:
        self._num_refused = self._num_refused + 1 if refused else 0
        if self._num_refused >= MAX_REFUSED:
            raise RunError(
                f"the loss or gradient was not finite for {MAX_REFUSED} steps in a row up to step {step}; the weights "
                "are those before; lower learner.lr or learner.max_grad_norm"
            )

    @staticmethod
    def _stats(terms: Mapping[str, float], norm: float, batch: Batch, num_games: int) -> dict[str, float]:
        tokens, turns = max(1, batch.num_reply_tokens), max(1, batch.num_turns)
        return {
            "learner/objective": terms["objective"] / num_games,
            "learner/surrogate": terms["surrogate"] / num_games,
            "learner/entropy": terms["entropy"] / turns,
            "learner/entropy_per_token": terms["entropy"] / tokens,
            "learner/kl": terms["kl"] / turns,
            "learner/anchor": terms["anchor"] / turns,
            "learner/anchored": terms["anchored"] / tokens,
            "learner/ratio_gap": terms["gap"],
            "learner/grad_norm": norm,
            "learner/reply_tokens": float(batch.num_reply_tokens),
            "learner/computed_tokens": float(batch.num_computed_tokens),
        }


def _trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The parameters that have gradients. Raises SpiralError for one that would never reach an engine."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if lost := trained.keys() - parameters(model).keys():
        raise SpiralError(
            f"{min(lost)} would be trained, and only the adapter's own weights reach the engine and the checkpoints; "
            "freeze it, or train the model without an adapter"
        )
    return list(trained.values())
