"""A run whose estimator reads the learner's hidden states: whose they are, and that it resumes bit for bit."""

import json

import pytest
import torch
from safetensors.torch import load_file

from spiral import LEARNER
from spiral.api.records import learner_id
from spiral.config.loading import load
from spiral.models.features import last_hidden_states
from spiral.plugins.registry import Plugins
from spiral.runs.directory import RunDir
from spiral.training.components import make_components
from spiral.training.loop import train

SMALL = [
    "rollout.episodes=8", "warm_start.max_steps=0", "evaluate.every=0", "loggers=[]", "checkpoint.every=1",
    "learner.lr_end=1", "learner.anchor_end=1", "learner.kl_end=1",  # whatever number of steps is asked for
]  # fmt: skip
JOINT = "advantage={name: critic, args: {view: joint}}"


def _trained(path, *words, resume=False):
    config = load(None, [*SMALL, *words])
    run = RunDir(path) if resume else RunDir.create(path, config, {})
    train(config, run, Plugins.installed(), lambda *_: None, resume=resume)
    return run


@pytest.mark.parametrize("advantage", ["advantage=critic", JOINT])
def test_two_steps_and_then_one_more_are_three_bit_for_bit(advantage, tmp_path):
    whole = _trained(tmp_path / "whole", advantage, "steps=3")
    _trained(tmp_path / "parts", advantage, "steps=2")
    parts = _trained(tmp_path / "parts", advantage, "steps=3", resume=True)
    live, states = [], []
    for run in (whole, parts):
        live.append(load_file(run.checkpoint() / "live.safetensors"))
        states.append(json.loads((run.checkpoint() / "state.json").read_text(encoding="utf-8"))["plugins"]["advantage"])
    assert all(torch.equal(live[0][name], live[1][name]) for name in live[0])
    assert states[0] == states[1]
    assert states[0]["head"]["steps"] == 60
    assert states[0]["head"]["inputs"] == (128 if advantage == JOINT else 64)


def test_each_policy_in_training_is_valued_by_its_own_hidden_states():
    """Live ones: after an update of one policy its estimator reads others, and that of the other policy the same."""
    words = ["advantage=critic", "learners=[{name: second}]", "steps=2"]
    c = make_components(load(None, [*SMALL, *words]), Plugins.installed(), lambda *_: None, fresh=True)
    prompts = [(1, 2, 3), (4, 5)]
    before = {policy: estimator.features(prompts) for policy, estimator in c.training.advantages.items()}
    with torch.no_grad():
        for parameter in c.trained[1].learner.model.parameters():
            parameter += 0.05
    second = learner_id("second")
    after = {policy: estimator.features(prompts) for policy, estimator in c.training.advantages.items()}
    assert torch.equal(before[LEARNER], after[LEARNER])
    assert torch.equal(before[LEARNER], before[second])
    assert not torch.allclose(before[second], after[second])
    assert torch.equal(after[second], last_hidden_states(c.trained[1].learner.scorer(averaged=False), prompts, 64))
