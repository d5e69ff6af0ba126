"""One optimiser step: holds the weights that are trained, their average, and the reference; through accelerate.

Knows nothing of games. The model stays in eval mode: dropout in an update would score another policy than the one
that played.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from spiral.api.errors import RunError
from spiral.config.schema import LearnerConfig
from spiral.learning.loss import LossTerms, loss_terms
from spiral.learning.packing import Batch, MicroBatch
from spiral.models.logits import TokenLogits, load_parameters, parameters

Weights = dict[str, Tensor]

MAX_REFUSED = 5
"""Steps in a row whose loss or gradient was not finite, before the run stops."""


class Learner:
    """Updates `model` in place. `num_steps` fixes the learning-rate schedule."""

    def __init__(self, model: Any, config: LearnerConfig, num_steps: int, accelerator: Accelerator) -> None:
        self._config, self._num_steps, self._accelerator = config, num_steps, accelerator
        self.model = model.to(accelerator.device).eval()
        if accelerator.num_processes > 1:
            for parameter in self.model.parameters():  # a warm start may round differently on each device
                torch.distributed.broadcast(parameter.data, 0)
        self._lm = TokenLogits(self.model)
        self._parameters = [p for p in self.model.parameters() if p.requires_grad]
        self._optimizer = accelerator.prepare(
            torch.optim.AdamW(
                self._parameters,
                lr=config.lr,
                betas=(0.9, 0.95),
                weight_decay=config.weight_decay,
                foreach=True,
            )
        )
        self.averaged_model = copy.deepcopy(self.model).requires_grad_(False)
        self._num_averaged = 0
        self._reference = TokenLogits(copy.deepcopy(self.averaged_model)) if config.kl else None
        # Where the reference moves to next: a shorter average than the one that is measured.
        self._trail = {name: weight.clone() for name, weight in self.weights().items()} if config.kl else {}
        self._num_refused = 0

    def weights(self) -> Weights:
        """The live weights by name, a tied one once; not a copy."""
        return parameters(self.model)

    def averaged(self) -> Weights:
        """The exponential moving average of the weights, which evaluation uses; not a copy."""
        return parameters(self.averaged_model)

    def update(self, batch: Batch, step: int, num_games: int) -> dict[str, float]:
        """One pass per epoch over `batch`, an optimiser step each; the metrics of the update.

        The objective is divided by `num_games`, the constant that the step was asked for. A loss or gradient that is
        not finite leaves the weights as they were and is counted; MAX_REFUSED such steps in a row raise RunError, as
        does a fresh batch whose log-probabilities differ from those at sampling.
        """
        stats: dict[str, float] = {}
        rate, kl_weight = self.learning_rate(step), self.kl_weight(step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        refused = False
        before = copy.deepcopy((self.weights(), self._optimizer.state_dict())) if self._config.epochs > 1 else None
        for epoch in range(self._config.epochs):
            terms = self._backward(batch, num_games, kl_weight)
            norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._config.max_grad_norm))
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
        if refused and before is not None:
            with torch.no_grad():
                load_parameters(self.model, before[0])
            self._optimizer.load_state_dict(before[1])
        self._count_refused(refused, step)
        self._follow(step)
        return {**stats, "learner/lr": rate, "learner/kl_weight": kl_weight, "learner/refused": float(refused)}

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then linear from `lr` to `lr * lr_end` at the last step."""
        c = self._config
        if step < c.warmup_steps:
            return c.lr * (step + 1) / c.warmup_steps
        done = (step - c.warmup_steps) / max(1, self._num_steps - 1 - c.warmup_steps)
        return c.lr * (1 - (1 - c.lr_end) * done)

    def kl_weight(self, step: int) -> float:
        """Linear from `kl` to `kl * kl_end` at the last step."""
        c = self._config
        return c.kl * (1 - (1 - c.kl_end) * step / max(1, self._num_steps - 1))

    def state(self) -> dict[str, Any]:
        """All that an update depends on, as tensors and plain values; `load_state` takes it back."""
        return {
            "model": self.weights(),
            "average": self.averaged(),
            "reference": None if self._reference is None else parameters(self._reference.model),
            "optimizer": self._optimizer.state_dict(),
            "trail": self._trail,
            "num_averaged": self._num_averaged,
            "num_refused": self._num_refused,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        load_parameters(self.model, state["model"])
        load_parameters(self.averaged_model, state["average"])
        if self._reference is not None:
            load_parameters(self._reference.model, state["reference"] or state["average"])
            trail = state["trail"] or state["average"]
            for name, weight in self._trail.items():  # into our own: files lie on the CPU and keep no order
                weight.copy_(trail[name])
        self._optimizer.load_state_dict(state["optimizer"])
        self._num_averaged, self._num_refused = state["num_averaged"], state["num_refused"]

    def _backward(self, batch: Batch, num_games: int, kl_weight: float) -> dict[str, float]:
        """Gradients of the whole batch, summed over micro-batches and processes; sums of the loss terms."""
        names = ("objective", "surrogate", "entropy", "kl", "clipped")
        total = torch.zeros(len(names) + 1, device=self._accelerator.device)
        for micro_batch in batch.micro_batches:
            terms = self._terms(micro_batch.to(self._accelerator.device), kl_weight)
            # Not accelerator.backward, which an environment variable makes divide by accumulation steps.
            (-terms.objective / num_games).backward()  # type: ignore[no-untyped-call]
            total[:-1] += torch.stack([getattr(terms, name).detach() for name in names])
            total[-1] = torch.maximum(total[-1], terms.gap)
        if self._accelerator.num_processes > 1:
            for parameter in self._parameters:
                gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
                parameter.grad = self._accelerator.reduce(gradient, "sum")
            gathered = self._accelerator.gather(total[None])
            total = torch.cat([gathered[:, :-1].sum(0), gathered[:, -1:].amax(0)])
        return dict(zip([*names, "gap"], total.tolist(), strict=True))

    def _terms(self, batch: MicroBatch, kl_weight: float) -> LossTerms:
        inputs = (batch.ids, batch.positions, batch.mask, batch.rows, batch.columns)
        reference = None
        if self._reference is not None:
            with torch.no_grad():
                reference = self._reference(*inputs)
        c = self._config
        return loss_terms(self._lm(*inputs), reference, batch, c.clip, c.entropy, kl_weight)

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

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """Move the averages towards the weights, and the reference to its own average when it is due."""
        self._num_averaged += 1
        self._average(list(self.averaged_model.parameters()), self._config.ema)
        if self._reference is not None:
            self._average(list(self._trail.values()), self._config.reference_ema)
            if (step + 1) % self._config.reference_every == 0:
                load_parameters(self._reference.model, self._trail)

    def _average(self, average: list[Tensor], decay: float) -> None:
        """One step of an average: a plain mean at first, since the first weights would otherwise weigh too long."""
        decay = min(decay, 1 - 1 / self._num_averaged)
        torch._foreach_lerp_(average, list(self.weights().values()), 1 - decay)

    @staticmethod
    def _stats(terms: Mapping[str, float], norm: float, batch: Batch, num_games: int) -> dict[str, float]:
        tokens, turns = max(1, batch.num_reply_tokens), max(1, batch.num_turns)
        return {
            "learner/objective": terms["objective"] / num_games,
            "learner/surrogate": terms["surrogate"] / num_games,
            "learner/entropy": terms["entropy"] / turns,
            "learner/entropy_per_token": terms["entropy"] / tokens,
            "learner/kl": terms["kl"] / turns,
            "learner/ratio_gap": terms["gap"],
            "learner/grad_norm": norm,
            "learner/reply_tokens": float(batch.num_reply_tokens),
            "learner/computed_tokens": float(batch.num_computed_tokens),
        }
