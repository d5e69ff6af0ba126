"""The learner that trains every weight of a model, in one process or several, through accelerate.

Of a model with an adapter they are the adapter's (`spiral.models.adapted`). The model stays in eval mode, since dropout
in an update would score another policy than the one that played; where replies of others or text are learned from, it
may have dropout in the passes that gradients are made of, and in no other.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from spiral.api.errors import RunError, SpiralError
from spiral.api.progress import Phase, Progress, no_progress
from spiral.config.schema import LearnerConfig
from spiral.learning.agreement import Agreement
from spiral.learning.attention import prepare_attention
from spiral.learning.averaging import ModelAverage, Reference
from spiral.learning.dropout import Dropout
from spiral.learning.loss import LossTerms
from spiral.learning.movement import Movement
from spiral.learning.objective import Objective
from spiral.learning.optimizers import make_optimizer, set_rate
from spiral.learning.out_of_memory import memory_errors_named
from spiral.learning.packing import Batch, MiniBatch, filler
from spiral.learning.policy_loss import PolicyLoss
from spiral.learning.schedule import learning_rate, objective
from spiral.learning.sharding import Gathered, Sharding
from spiral.learning.totals import Totals, metrics, mismatch_metrics
from spiral.models.adapted import copied, frozen_copy, save
from spiral.models.logits import TokenLogits, load_parameters, parameters
from spiral.models.room import give_up_room, room_for
from spiral.models.sharded import WholeWeights, parts_like, whole
from spiral.runs.metric_names import MOVED, RATIO_BEYOND, RATIO_GAP

Weights = Mapping[str, Tensor]

MAX_REFUSED = 5
"""Steps in a row whose loss or gradient was not finite, before the run stops."""


@dataclass(frozen=True)
class _Scorers:
    """Score with models in parts."""

    live: Gathered
    average: Gathered | None


class FullLearner:
    """Updates `model` in place. `num_steps` fixes the learning-rate schedule; `engine_dtype`, `is_async`: see
    `LearnerSetup`."""

    def __init__(
        self,
        model: Any,
        config: LearnerConfig,
        num_steps: int,
        accelerator: Accelerator,
        progress: Progress = no_progress,
        engine_dtype: torch.dtype | None = None,
        seed: int = 0,
        is_async: bool = False,
    ) -> None:
        self._config, self._num_steps, self._accelerator = config, num_steps, accelerator
        self._progress, self._num_computed = progress, 0
        self._whole = model.to(accelerator.device).eval()
        prepare_attention(self._whole, config)  # before it is copied
        if accelerator.num_processes > 1:
            for parameter in self._whole.parameters():  # a warm start may round differently on each device
                torch.distributed.broadcast(parameter.data, 0)
        sharding = Sharding.asked(accelerator)
        # An engine may make its own models from the whole one, so a copy of it is shared out.
        self.model = self._whole if sharding is None else copied(self._whole)
        self._dropout = Dropout(self.model, config.dropout, seed, "learner")
        mixed = config.precision == "mixed"
        loss = PolicyLoss(self.model, checkpoint_activations=config.checkpoint_activations, autocast=mixed)
        self._loss: Callable[..., LossTerms] = loss
        self._average = ModelAverage(self.model, config.ema, config.ema_power) if config.ema else None
        self._reference = Reference(self.model, config.reference_ema, config.reference_every) if config.kl else None
        needs_initial = config.anchor and config.anchor_to == "initial"
        self._initial = TokenLogits(frozen_copy(self.model)) if needs_initial else None
        # After the copies, which are made of whole models, and before the optimiser, which holds what is trained.
        self._scorers = None if sharding is None else self._shard(sharding, loss)
        if sharding is not None:
            give_up_room(self._whole)
        self._parameters = _trained(self.model)
        self._optimizer = make_optimizer(self._parameters, config)
        own_dtype = torch.bfloat16 if mixed else self.model.dtype
        self._agreement = Agreement.of(config, own_dtype, engine_dtype, is_async)
        self._num_updates = self._num_refused = 0

    def _shard(self, sharding: Sharding, loss: PolicyLoss) -> _Scorers:
        """Share out all models: those of the loss under one root, the average under its own."""
        live = TokenLogits(self.model)
        compared = (None if self._reference is None else self._reference.lm, self._initial)
        root, average = sharding.shard(loss, *(lm for lm in compared if lm is not None)), None
        self._loss = Gathered(root, loss, trains=True)
        if self._average is not None:
            lm = TokenLogits(self._average.model)
            average = Gathered(sharding.shard(lm), lm)
        return _Scorers(Gathered(root, live), average)

    @property
    def evaluated_model(self) -> Any:
        """The model that evaluation scores and checkpoints publish: the averaged one, or without an average the live
        one itself."""
        return self.model if self._average is None else self._average.model

    def weights(self) -> Weights:
        """See `Learner.weights`; a tied one once."""
        return self._readable(parameters(self.model))

    def averaged(self) -> Weights | None:
        """The exponential moving average of the weights, which evaluation uses. None without `ema`."""
        return None if self._average is None else self._readable(parameters(self._average.model))

    def _readable(self, weights: dict[str, Tensor]) -> Weights:
        return weights if self._scorers is None else WholeWeights(weights)

    def update(self, batch: Batch, step: int, num_games: int) -> dict[str, float]:
        """One pass per epoch over `batch`, an optimiser step for each of its minibatches; the metrics of the update.

        The objective of a minibatch is divided as `learner.normalisation` says: by `num_games` over the minibatches of
        the config, a constant that the step was asked for, or by what the minibatch holds in all processes. A loss or
        gradient that is not finite leaves the weights as they were and is counted; MAX_REFUSED such steps in a row
        raise RunError, as does a fresh batch whose log-probabilities are too far from those at sampling.
        """
        self._num_computed, num_steps = 0, self._config.epochs * len(batch.minibatches)
        num_passes = self._config.epochs + (len(batch.minibatches) > 1)
        total = batch.num_computed_tokens * num_passes
        self._progress(Phase("learning", total, "tokens", lambda: self._num_computed))
        if self._accelerator.num_processes > 1:
            batch = Batch(tuple(self._agreed(part) for part in batch.minibatches))
        rate = learning_rate(self._config, step, self._num_steps)
        weights = self._agreement.applied(objective(self._config, step, self._num_steps))
        set_rate(self._optimizer, rate)
        before = copy.deepcopy((parameters(self.model), self._optimizer.state_dict())) if num_steps > 1 else None
        stats, refused = self._take_steps(batch, step, num_games, weights)
        self._optimizer.zero_grad()
        if refused and before is not None:  # a later step was refused: those before it were on the same batch
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

    def scorer(self, averaged: bool = True) -> TokenLogits | Gathered:
        """See `Learner.scorer`."""
        if self._scorers is not None:
            return (averaged and self._scorers.average) or self._scorers.live
        return TokenLogits(self.evaluated_model if averaged else self.model)

    def state(self) -> dict[str, Any]:
        """All that an update depends on; `load_state` takes it back."""
        tensors = {"live": parameters(self.model)}
        if self._average is not None:
            tensors["averaged"] = parameters(self._average.model)
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
        moments = state["optimizer"]["state"].items()
        own = {index: parts_like(self._parameters[index], values) for index, values in moments}
        self._optimizer.load_state_dict({"state": own, "param_groups": groups})
        self._num_refused = values["num_refused"]

    def save_model(self, path: Path) -> None:
        """See `Learner.save_model`; of a model with an adapter, that alone is written, as peft does."""
        if self._scorers is None:
            save(self.evaluated_model, path)
            return
        # One tensor after another into the whole model, which an engine makes its own from and then loads weights into.
        with torch.no_grad(), room_for(self._whole):
            load_parameters(self._whole, self._readable(parameters(self.evaluated_model)))
            if self._accelerator.is_main_process:
                save(self._whole, path)

    def _take_steps(self, batch: Batch, step: int, num_games: int, weights: Objective) -> tuple[dict[str, float], bool]:
        """The optimiser steps of an update: their metrics, and whether one was refused, which ends them."""
        parts, stats, movement = batch.minibatches, dict[str, float](), Movement(self._parameters, self._accelerator)
        old: list[list[Tensor]] = [[] for _ in parts]
        if len(parts) > 1:  # when the second has its turn, the weights are no longer those that the batch was played by
            old, fresh = self._score(batch, weights)
            stats |= self._compared(fresh, batch)
        for epoch in range(self._config.epochs):
            passed: Counter[str] = Counter()
            for number, (part, known) in enumerate(zip(parts, old, strict=True)):
                divisor = self._divisor(part, num_games)
                draw = step, epoch, number, self._accelerator.process_index
                with self._dropout.during(step / self._num_steps, *draw):
                    terms = self._backward(part, divisor, weights, known)
                norm = float(whole(torch.nn.utils.clip_grad_norm_(self._parameters, self._config.max_grad_norm)))
                # Known only after the whole backward pass, and before this step moved a weight.
                if not math.isfinite(norm) or not math.isfinite(terms["objective"]):
                    return stats, True
                if epoch == 0 and len(parts) == 1:
                    stats |= self._compared(terms, batch)
                with movement.measured():
                    self._optimizer.step()
                self._optimizer.zero_grad()
                scaled = {f"mean_{name}": terms[name] / divisor / len(parts) for name in ("objective", "surrogate")}
                passed.update({**terms, **scaled, "norm": norm / len(parts)})  # a Counter's update adds
            if epoch == 0:
                stats |= metrics(passed, batch)
            stats["learner/clipped"] = passed["clipped"] / max(1, batch.num_reply_tokens)
        moved = movement.share()
        return stats if moved is None else {**stats, MOVED: moved}, False

    def _divisor(self, part: MiniBatch, num_games: int) -> float:
        """Of the objective of a minibatch: the same in every process, whatever each has of it."""
        by_number = {"tokens": part.num_reply_tokens, "sequence": part.num_turns}
        constant = num_games / self._config.minibatches
        return max(1, by_number.get(self._config.normalisation, constant))

    def _compared(self, fresh: Mapping[str, float], batch: Batch) -> dict[str, float]:
        """The metrics of learner against engine, from the sums over a batch before its first optimiser step."""
        if self._config.objective == "likelihood":  # no engine of this run sampled the replies
            return {}
        found = mismatch_metrics(fresh, batch)
        self._agreement.check(found[RATIO_GAP], found[RATIO_BEYOND])
        return found

    @torch.no_grad()
    def _score(self, batch: Batch, weights: Objective) -> tuple[list[list[Tensor]], dict[str, float]]:
        """The log-probabilities of a batch's trained tokens, by minibatch and micro-batch; sums of the loss terms."""
        totals, old = Totals(self._accelerator), list[list[Tensor]]()
        for part in batch.minibatches:
            old.append([])
            for micro_batch in part.micro_batches:
                with memory_errors_named(micro_batch, self._config):
                    terms = self._loss(micro_batch.to(self._accelerator.device), weights)
                totals.add(terms)
                old[-1].append(terms.logprobs)
                self._num_computed += micro_batch.ids.numel()
        return old, totals.over_processes()

    def _backward(
        self, part: MiniBatch, divisor: float, weights: Objective, old: list[Tensor] | None = None
    ) -> dict[str, float]:
        """Gradients of a minibatch, summed over micro-batches and processes; sums of the loss terms.

        `old`: by micro-batch, the log-probabilities before the update's first step; where it is empty, that is now, and
        they are added to it.
        """
        totals, now = Totals(self._accelerator), list[Tensor]()
        reference = None if self._reference is None else self._reference.lm
        before: Sequence[Tensor | None] = old or [None] * len(part.micro_batches)
        for micro_batch, known in zip(part.micro_batches, before, strict=True):
            with memory_errors_named(micro_batch, self._config):
                on_device = micro_batch.to(self._accelerator.device)
                terms = self._loss(on_device, weights, reference, self._initial, known)
                # Not accelerator.backward, which an environment variable makes divide by accumulation steps.
                (-terms.objective / divisor).backward()  # type: ignore[no-untyped-call]
            totals.add(terms)
            now.append(terms.logprobs)
            self._num_computed += micro_batch.ids.numel()
        if old == []:
            old += now
        self._reduce_gradients(part)
        return totals.over_processes()

    def _agreed(self, part: MiniBatch) -> MiniBatch:
        """With the computed tokens of all processes, and of sharded models with as many micro-batches as the process
        with the most has: all gather the parameters of each and add up its gradients together."""
        own = torch.tensor([[len(part.micro_batches), part.num_computed_tokens]], device=self._accelerator.device)
        gathered = self._accelerator.gather(own)
        most, computed = int(gathered[:, 0].max()), int(gathered[:, 1].sum())
        missing = 0 if self._scorers is None else most - len(part.micro_batches)
        micro_batches = (*part.micro_batches, *[filler() for _ in range(missing)])
        return replace(part, micro_batches=micro_batches, num_computed_tokens=computed)

    def _reduce_gradients(self, part: MiniBatch) -> None:
        """Add up the gradients of all processes, where that was not done in the backward passes. Without a turn none
        has a gradient, and one of zeros would still move what has momentum."""
        if self._accelerator.num_processes == 1 or self._scorers is not None or not part.num_turns:
            return
        for parameter in self._parameters:
            gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            parameter.grad = self._accelerator.reduce(gradient, "sum")

    def _count_refused(self, refused: bool, step: int) -> None:
        self._num_refused = self._num_refused + 1 if refused else 0
        if self._num_refused >= MAX_REFUSED:
            raise RunError(
                f"the loss or gradient was not finite for {MAX_REFUSED} steps in a row up to step {step}; the weights "
                "are those before; lower learner.lr or learner.max_grad_norm"
            )


def _trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The parameters that have gradients. Raises SpiralError for one that would never reach an engine."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if lost := trained.keys() - parameters(model).keys():
        raise SpiralError(
            f"{min(lost)} would be trained, and only the adapter's own weights reach the engine and the checkpoints; "
            "freeze it, or train the model without an adapter"
        )
    return list(trained.values())
