"""What a process of several does with a learner, without a run around it: `python learners.py OUT`, by torchrun or alone.

Each process writes what it found to OUT/RANK.pt; alone it is rank 0 of 1.
"""

import dataclasses
import os
import random
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from spiral.api.records import LEARNER, Trajectory, Turn
from spiral.config.schema import LearnerConfig
from spiral.learning.distributed import make_accelerator
from spiral.learning.full_learner import FullLearner
from spiral.learning.packing import Batch, pack
from spiral.learning.sharding import Gathered, Sharding
from spiral.models.bfloat16 import to_bfloat16
from spiral.models.logits import parameters
from spiral.models.sharded import whole
from spiral.runs import checkpoints
from spiral.runs.directory import RunDir

VOCABULARY = 257
"""Odd, so that neither the embedding nor the head divides evenly between two processes."""
EVERYTHING = {"kl": 0.1, "reference_every": 2, "ema": 0.9, "anchor": 0.1, "anchor_to": "initial", "entropy": 0.01}


def model(adapter=False):
    torch.manual_seed(3)
    sizes = {"hidden_size": 36, "intermediate_size": 50, "num_hidden_layers": 3, "num_attention_heads": 3}
    made = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=64, **sizes))
    if adapter:
        from peft import LoraConfig, get_peft_model

        made = get_peft_model(made, LoraConfig(r=3, target_modules=["q_proj", "down_proj"], init_lora_weights=False))
    return made


def learner(accelerator, made=None, **settings):
    config = LearnerConfig(**{"ratio_tolerance": 1e9, "lr": 1e-3, "kl": 0.0, "ema": 0.0, **settings})
    made = made or model()
    if config.precision == "bf16":
        to_bfloat16(made)
    return FullLearner(made, config, 10, accelerator)


def played(step, num=9):
    """The turns of `num` games, each with a reply and an advantage of its own."""
    rng = random.Random(step)
    trajectories, advantages = [], []
    for game in range(num):
        prompt = (1, *rng.choices(range(2, 250), k=rng.randint(1, 12)), game)
        reply = tuple(rng.choices(range(2, VOCABULARY), k=rng.randint(1, 4)))
        turn = Turn("", prompt, reply, (-5.5,) * len(reply), "x", True, "stop", 0)
        trajectories.append(Trajectory("game", 0, LEARNER, 0.0, (turn,), 0))
        advantages.append([rng.uniform(-2, 2)])
    return trajectories, advantages


def update(to, accelerator, step, num=9, minibatches=1, spoil=None):
    """One update on this process's part of a step's games; that of rank `spoil` has an advantage that is no number."""
    batch = pack(*played(step, num), 40, accelerator.process_index, accelerator.num_processes, minibatches)
    if spoil == accelerator.process_index:
        part, *others = batch.minibatches
        first, *rest = part.micro_batches
        spoiled = dataclasses.replace(first, positive=first.positive * float("nan"))
        batch = Batch((dataclasses.replace(part, micro_batches=(spoiled, *rest)), *others))
    return to.update(batch, step, num)


def read(weights):
    return {name: weight.clone() for name, weight in weights.items()}


def trained(accelerator, steps=3, num=9, adapter=False, **settings):
    """The weights, averages, scores and metrics after some steps."""
    one = learner(accelerator, model(adapter), **settings)
    before = read(one.weights())
    stats = [update(one, accelerator, step, num, settings.get("minibatches", 1)) for step in range(steps)]
    [first] = pack(*played(0), 10**6).micro_batches
    scores = [
        one.scorer(averaged)(first.ids, first.positions, first.mask, first.rows, first.columns).detach()
        for averaged in (True, False)
    ]
    averaged = one.averaged()
    whole_model = sum(p.untyped_storage().nbytes() for p in parameters(one._whole).values())
    return {
        "whole model": whole_model,
        "before": before,
        "weights": read(one.weights()),
        "averaged": {} if averaged is None else read(averaged),
        "scores": scores,
        "stats": stats,
        "bytes": sum(
            p.to_local().nbytes if hasattr(p, "to_local") else p.nbytes for p in parameters(one.model).values()
        ),
    }


def refused(accelerator):
    """The weights before and after a step whose loss is no number on the last process alone."""
    one = learner(accelerator, epochs=2, clip=0.2)
    update(one, accelerator, 0)
    before = read(one.weights())
    stats = update(one, accelerator, 1, spoil=accelerator.num_processes - 1)
    return {"before": before, "weights": read(one.weights()), "stats": stats}


class Ones(nn.Module):
    """Three parameters of ones, which divide unevenly; the loss is their sum, shared out over the processes."""

    def __init__(self):
        super().__init__()
        self.model = nn.ParameterList(
            [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(2, 5))]
        )

    def forward(self, share):
        return share * sum(parameter.sum() for parameter in self.model)


def one_sgd_step(accelerator):
    """A forward pass before the optimiser is made, then a step at a rate of .1 with a gradient of 1."""
    module, sharding = Ones(), Sharding.asked(accelerator)
    call = Gathered(sharding.shard(module), module, trains=True) if sharding else module
    with torch.no_grad():
        call(1.0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    call(1 / accelerator.num_processes).backward()
    optimizer.step()
    return [whole(parameter.detach()) for parameter in module.parameters()]


class Nothing:
    """A tokenizer that has no files."""

    def save_pretrained(self, path):
        pass


def state_of(one):
    state = one.state()
    tensors = {group: {n: whole(w).clone() for n, w in weights.items()} for group, weights in state["tensors"].items()}
    moments = {i: {n: whole(v).clone() for n, v in m.items()} for i, m in state["optimizer"]["state"].items()}
    return {"tensors": tensors, "moments": moments, "values": state["values"]}


def saved(accelerator, folder, **settings):
    """Checkpoints at steps 2 and 4, the state at 4, and the metrics of the step after."""
    one = learner(accelerator, **EVERYTHING, **settings)
    for step in range(4):
        update(one, accelerator, step)
        if step % 2:
            checkpoints.save(RunDir(folder), step + 1, one, Nothing(), {}, accelerator.is_main_process)
    accelerator.wait_for_everyone()
    return {"state": state_of(one), "stats": update(one, accelerator, 4)}


def resumed(accelerator, folder, **settings):
    """The same from the checkpoint at 4 that another process, or several, left."""
    one = learner(accelerator, **EVERYTHING, **settings)
    checkpoints.restore(folder / "checkpoints" / "step-000004", one, {})
    return {"state": state_of(one), "stats": update(one, accelerator, 4)}


def found(accelerator, out, earlier=()):
    """Everything that is compared. `earlier`: folders with checkpoints to resume from."""
    return {
        "plain": trained(accelerator),
        "everything": trained(accelerator, epochs=2, minibatches=2, clip=0.2, **EVERYTHING),
        "few": trained(accelerator, num=1),
        "recomputed": trained(accelerator, steps=2, checkpoint_activations=True),
        "mixed": trained(accelerator, steps=2, precision="mixed", checkpoint_activations=True),
        "bf16": trained(accelerator, steps=2, precision="bf16", **EVERYTHING),
        "adapter": trained(accelerator, adapter=True, kl=0.1, ema=0.9),
        "refused": refused(accelerator),
        "sgd": one_sgd_step(accelerator),
        "saved": saved(accelerator, out),
        "resumed": {name: resumed(accelerator, out.parent / name) for name in [out.name, *earlier]},
        "saved in bf16": saved(accelerator, out / "bf16", precision="bf16"),
        "resumed in bf16": {
            name: resumed(accelerator, out.parent / name / "bf16", precision="bf16") for name in [out.name, *earlier]
        },
    }


def main(out, *earlier):
    torch.set_num_threads(1)
    several = "RANK" in os.environ
    accelerator = make_accelerator() if several else Accelerator(cpu=True)
    result = found(accelerator, out, earlier)
    torch.save(result, out / f"{accelerator.process_index}.pt")
    if several:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
