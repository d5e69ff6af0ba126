"""Prints how much memory two updates of a learner took at most: python one_update.py FOLDER ROW_TOKENS CONFIG_JSON

FOLDER holds a config.json; the weights are random ones of that shape. CONFIG_JSON is a config's `learner`. What Python
and its libraries take is not counted: a tiny model is updated first, in the same way.
"""

import gc
import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import AutoConfig, AutoModelForCausalLM

from spiral.api.records import LEARNER, Trajectory, Turn
from spiral.api.training import LearnerSetup
from spiral.config.loading import load
from spiral.learning.packing import pack
from spiral.plugins.registry import Plugins
from spiral.policies.loading import prepared

TINY = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64}


def update_twice(config, row_tokens, asked):
    """Two micro-batches of a row each, all of whose tokens but the first are trained: gradients and moments are there
    while the last one is computed."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    settings = load(None, [{"learner": {**asked, "micro_batch_tokens": row_tokens, "ratio_tolerance": 1e9}}])
    plugins, method = Plugins.installed(), settings.learner.method
    model = prepared(model, settings, plugins).eval()
    setup = LearnerSetup(model, settings.learner, 10, Accelerator(cpu=True))
    learner = plugins.make("learner", method.name, setup, **method.args)
    for step in range(2):
        rows = torch.randint(0, config.vocab_size, (2, row_tokens)).tolist()
        turns = [Turn("", tuple(r[:1]), tuple(r[1:]), (-3.0,) * (row_tokens - 1), "x", True, "stop", 0) for r in rows]
        batch = pack([Trajectory("g", 0, LEARNER, 0.0, (turn,), 0) for turn in turns], [[1.0], [1.0]], row_tokens)
        assert len(batch.micro_batches) == 2
        learner.update(batch, step, 2)


def process_bytes(name):
    """A line of /proc/self/status. Of the peaks that Linux tells, getrusage's counts the parent's memory before exec too."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def main():
    folder, row_tokens, asked = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    torch.set_num_threads(1)
    update_twice(AutoConfig.for_model("llama", **TINY), 16, asked)
    gc.collect()
    before = process_bytes("VmRSS")
    update_twice(AutoConfig.from_pretrained(folder), row_tokens, asked)
    print(process_bytes("VmHWM") - before)


if __name__ == "__main__":
    main()
