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


def _planned(folder, row_tokens, learner):
    plugins = Plugins.installed()
    overrides = [{"model": str(folder), "learner": {**learner, "micro_batch_tokens": row_tokens}}]
    config = load(None, overrides, find_model(plugins))
    plan = plan_of(config, plugins, Devices(1, found_devices().num_bytes, is_gpu=False), prompt_tokens=1)
    return peak([part for part in plan.parts if part.holder == "learner"])


def _measured(folder, row_tokens, learner):
    words = [sys.executable, str(Path(__file__).with_name("one_update.py")), str(folder), str(row_tokens)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*words, json.dumps(learner)], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the size of a process is read as Linux tells it")
@pytest.mark.parametrize("learner", LEARNERS)
def test_a_plan_is_within_15_percent_of_an_update(learner, tmp_path):
    """The peak of two real updates in a process of their own, of which all tokens are trained."""
    (tmp_path / "config.json").write_text(json.dumps(SMALLER))
    asked = LEARNERS[learner]
    assert _measured(tmp_path, 512, asked) == pytest.approx(_planned(tmp_path, 512, asked), rel=TOLERANCE)


@pytest.mark.slow
@pytest.mark.skipif("SPIRAL_TEST_MODEL" not in os.environ, reason="SPIRAL_TEST_MODEL names no model's folder")
@pytest.mark.parametrize("learner", LEARNERS)
def test_a_plan_is_within_15_percent_of_an_update_of_a_real_model(learner):
    """Such as SmolLM2-135M, whose updates take 2 to 5 GB here."""
    folder, asked = os.environ["SPIRAL_TEST_MODEL"], LEARNERS[learner]
    assert _measured(folder, 384, asked) == pytest.approx(_planned(folder, 384, asked), rel=TOLERANCE)
