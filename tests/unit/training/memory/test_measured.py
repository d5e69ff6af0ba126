"""A plan against what a learner really takes of this machine's memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spiral.config.loading import load
from spiral.plugins.pretrained import find_model
from spiral.plugins.registry import Plugins
from spiral.training.memory.arithmetic import peak
from spiral.training.memory.devices import Devices, found_devices
from spiral.training.memory.planning import plan_of

SMALLER = {"model_type": "llama", "hidden_size": 320, "intermediate_size": 896, "num_hidden_layers": 12}
SMALLER |= {"num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 64, "vocab_size": 16384}
SMALLER |= {"tie_word_embeddings": True, "max_position_embeddings": 8192}
"""SmolLM2's shape at a seventh of its parameters."""
LEARNERS = {
    "full": {"ema": 0.0, "kl": 0.0, "anchor": 0.0},
    "lora": {"ema": 0.0, "kl": 0.0, "anchor": 0.0, "method": "lora"},
}
TOLERANCE = 0.15
HOLES = "holes between activations"
OWN_PAGES = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Each tensor in pages of its own, which go back when it is freed. By default glibc raises the size from which it does so
up to 32 MiB, and smaller tensors lie in a heap, between holes whose size depends on where Python's own objects happen to
lie: the same update of all weights took 697 to 771 MB, and 606 to 607 without holes."""


def _planned(folder, row_tokens, learner, without=()):
    plugins = Plugins.installed()
    overrides = [{"model": str(folder), "learner": {**learner, "micro_batch_tokens": row_tokens}}]
    config = load(None, overrides, find_model(plugins))
    plan = plan_of(config, plugins, Devices(1, found_devices().num_bytes, is_gpu=False), prompt_tokens=1)
    return peak([part for part in plan.parts if part.holder == "learner" and part.name not in without])


def _measured(folder, row_tokens, learner, malloc):
    words = [sys.executable, str(Path(__file__).with_name("one_update.py")), str(folder), str(row_tokens)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **malloc}
    done = subprocess.run([*words, json.dumps(learner)], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def _least(folder, row_tokens, learner, enough, num=3):
    """Of up to `num` measurements with the holes of glibc's heap, which only add: no more than it takes to be below
    `enough`."""
    least = _measured(folder, row_tokens, learner, {})
    while least > enough and (num := num - 1):
        least = min(least, _measured(folder, row_tokens, learner, {}))
    return least


@pytest.fixture
def smaller(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SMALLER))
    return tmp_path


has_status = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the size of a process is read as Linux tells it"
)


@has_status
@pytest.mark.parametrize("learner", LEARNERS)
def test_a_plan_but_for_its_holes_is_within_10_percent_of_an_update(learner, smaller):
    """The peak of two real updates in a process of their own, of which all tokens are trained."""
    asked = LEARNERS[learner]
    planned = _planned(smaller, 512, asked, without={HOLES})
    assert planned < _planned(smaller, 512, asked)
    assert _measured(smaller, 512, asked, OWN_PAGES) == pytest.approx(planned, rel=0.1)


@pytest.mark.slow
@has_status
@pytest.mark.parametrize("learner", LEARNERS)
def test_a_plan_is_within_15_percent_of_an_update(learner, smaller):
    """With the holes that a process of these sizes has by default."""
    asked = LEARNERS[learner]
    planned = _planned(smaller, 512, asked)
    assert _least(smaller, 512, asked, planned * (1 + TOLERANCE)) == pytest.approx(planned, rel=TOLERANCE)


@pytest.mark.slow
@pytest.mark.skipif("SPIRAL_TEST_MODEL" not in os.environ, reason="SPIRAL_TEST_MODEL names no model's folder")
@pytest.mark.parametrize("learner", LEARNERS)
def test_a_plan_is_within_15_percent_of_an_update_of_a_real_model(learner):
    """Such as SmolLM2-135M, whose updates take 2 to 5 GB here."""
    folder, asked = os.environ["SPIRAL_TEST_MODEL"], LEARNERS[learner]
    planned = _planned(folder, 384, asked)
    assert _least(folder, 384, asked, planned * (1 + TOLERANCE)) == pytest.approx(planned, rel=TOLERANCE)
