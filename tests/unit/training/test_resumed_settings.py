"""Every setting of the schema, changed as a run is resumed: each takes effect, or is refused."""

import dataclasses
import json
import typing

import pytest
import torch

from spiral.api.errors import SpiralError
from spiral.config.loading import load
from spiral.config.schema import FIXED_IN_A_RUN, Config, PluginConfig
from spiral.plugins.registry import Plugins
from spiral.runs import checkpoints
from spiral.runs.directory import RunDir
from spiral.training.components import make_components
from spiral.training.launch import launch, resumed_run

SMALL = [
    "steps=2", "rollout.episodes=8", "warm_start.max_steps=0", "evaluate.every=0", "evaluate.exploitability=false",
    "evaluate.matches=2", "checkpoint.every=1", "checkpoint.keep=0", "loggers=[]", "learner.clip=0.2",
    "learner.anchor_to=initial",
]  # fmt: skip

SEEN_IN_THE_PARTS = {
    "engine": "engine={name: torch, args: {max_rows: 7}}",
    "rollout.episodes": "16", "rollout.group_size": "2", "rollout.max_concurrent": "7", "rollout.max_new_tokens": "9",
    "rollout.max_turns": "31", "rollout.cut": "void", "rollout.cut_replies": "mask", "rollout.max_voided": "3", "rollout.illegal": "penalty",
    "rollout.penalty": "[-2.0,1.0]", "rollout.retries": "2", "rollout.turn_deadline_s": "33.0",
    "rollout.deadline_s": "44.0",
    "learner.lr": "0.002", "learner.lr_end": "0.5", "learner.warmup_steps": "3", "learner.weight_decay": "0.25",
    "learner.max_grad_norm": "0.5", "learner.epochs": "2", "learner.clip": "0.3", "learner.entropy": "0.01",
    "learner.minibatches": "2", "learner.clip_high": "0.3", "learner.ratio_level": "sequence",
    "learner.normalisation": "tokens", "learner.importance": "truncated", "learner.importance_cap": "3.0",
    "learner.kl": "0.5", "learner.kl_end": "0.5", "learner.anchor": "0.5", "learner.anchor_end": "0.5",
    "learner.anchor_to": "legal", "learner.reference_every": "3", "learner.reference_ema": "0.5", "learner.ema": "0.5",
    "learner.ema_power": "1.0", "learner.micro_batch_tokens": "512", "learner.checkpoint_activations": "true", "learner.ratio_tolerance": "0.01",
    "learner.attention": "sdpa", "learner.schedule": "wsd", "learner.decay": "0.5",
    "learner.dropout.schedule": "late", "learner.dropout.switch": "0.5", "learner.dropout.ramp": "0.5",
    "learner.dropout.cycles": "2", "learner.dropout.places": "[embeddings]",
    "evaluate.exploitability": "true", "evaluate.max_nodes": "10", "evaluate.opponents": "[equilibrium]",
    "evaluate.matches": "4", "evaluate.tasks": "[{name: reasoning_gym/chain_sum, args: {size: 2}}]",
}  # fmt: skip
"""Key -> its new value, for what the parts of a run are made from."""

SEEN_IN_THE_RUN = {
    "steps": "5", "evaluate.every": "2", "checkpoint.every": "2", "checkpoint.keep": "1", "checkpoint.episodes": "3",
    "loggers": "[tensorboard]", "threads": "2",
}  # fmt: skip
"""Those that the loop reads."""

SEEN_BY_SEVERAL_PROCESSES = {"process_deadline_s"}
"""A process alone has nobody to wait for; see tests/faults/test_shared_out_runs.py."""

SEEN_WHERE_IT_RUNS = {"cluster.name", "cluster.args"}
"""Which processes play and learn; see tests/faults/test_ray.py."""

REFUSED_BY_ITSELF = {"learner.dropout.rate"}
"""It must be 0 in self-play."""


def _keys(schema=Config, prefix=""):
    """Every setting; a plug-in with its arguments counts as one."""
    for key, hint in typing.get_type_hints(schema).items():
        if f"{prefix}{key}" in FIXED_IN_A_RUN:
            continue
        if dataclasses.is_dataclass(hint) and hint is not PluginConfig:
            yield from _keys(hint, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _word(key, value):
    return value if value.startswith(f"{key}=") else f"{key}={value}"


def _settings(value, path="", found=None, seen=None):
    """The plain values that a run's parts hold, by where they stand; not the config itself, which holds all."""
    found, seen = ({}, set()) if found is None else (found, seen)
    if value is None or isinstance(value, bool | int | float | str):
        found[path] = value
    elif isinstance(value, Config) or id(value) in seen:
        return found
    else:
        seen.add(id(value))
        if isinstance(value, dict):
            inside = value.items()
        elif isinstance(value, list | tuple):
            inside = enumerate(value)
        elif type(value).__module__.startswith(("spiral", "torch.optim", "accelerate.optimizer")):
            inside = vars(value).items() if hasattr(value, "__dict__") else ()
        else:
            return found
        for key, one in list(inside):
            _settings(one, f"{path}/{key}", found, seen)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps."""
    return launch(None, SMALL, tmp_path_factory.mktemp("resumed") / "run", False, quiet=True)


def test_no_setting_is_left_out():
    """A setting that the schema gains is tried here too."""
    elsewhere = {*SEEN_BY_SEVERAL_PROCESSES, *SEEN_WHERE_IT_RUNS, *REFUSED_BY_ITSELF}
    assert {*_keys()} == {*SEEN_IN_THE_PARTS, *SEEN_IN_THE_RUN, *elsewhere}


@pytest.mark.parametrize("key", SEEN_IN_THE_PARTS)
def test_a_setting_that_is_accepted_reaches_the_run_and_no_checkpoint_takes_it_back(run, key):
    """What differs between the parts of the old config and of the new one is as the new one says after the restore."""
    plugins = Plugins.installed()
    _, config = resumed_run(run.path, None, [_word(key, SEEN_IN_THE_PARTS[key])])
    assert config != RunDir.open(run.path)[1]

    def nothing(*_):
        pass

    old = _settings(vars(make_components(load(None, SMALL), plugins, nothing, fresh=False)))
    components = make_components(config, plugins, nothing, fresh=False)
    new = _settings(vars(components))
    changed = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    assert changed, "the setting reaches nothing"
    checkpoints.restore(
        run.checkpoint(), components.learner, {"pool": components.pool, **components.training.stateful()}
    )
    restored = _settings(vars(components))
    assert {path: restored.get(path) for path in changed} == {path: new.get(path) for path in changed}


def test_the_settings_of_the_loop_take_effect(run, tmp_path):
    """All at once, by what the run leaves behind."""
    before = torch.get_num_threads()
    try:
        launch(None, SMALL, tmp_path / "run", False, quiet=True)
        words = [_word(key, value) for key, value in SEEN_IN_THE_RUN.items()]
        resumed = launch(None, words, tmp_path / "run", True, quiet=True)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    lines = resumed.metrics()
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4, 5]
    assert [any(name.startswith("eval/") for name in line) for line in lines] == [False, False, True, False, True, True]
    # The newest, and the healthy one before it; every step had one before, and all were kept.
    assert [path.name for path in resumed.checkpoint_paths()] == ["step-000004", "step-000005"]
    per_step = [sum(row["step"] == step for row in resumed.episodes()) for step in range(5)]
    assert per_step == [8, 8, 3, 3, 3]
    assert [*(resumed.path / "tensorboard").iterdir()]


@pytest.mark.parametrize(
    "word",
    [
        "games.0.weight=2", "model.args.context=64", "prompt=chat", "opponents=uniform_past", "pool.every=3",
        "health.window=5", "curriculum=balanced_tokens", "rewards=[length]", "advantage=rae", "seed=3",
        *[f"warm_start.{key}={value}" for key, value in {
            "max_steps": 9, "batch": 9, "lr": 0.5, "legal": 0.5, "check_every": 9, "dropout.rate": "0.1",
            "cache": "false",
        }.items()],
    ],
)  # fmt: skip
def test_what_a_resumed_run_cannot_change_is_refused(run, word):
    """The warm start too: it is over."""
    before = json.dumps(run.metrics())
    with pytest.raises(SpiralError, match=f"--resume would change {word.partition('=')[0].partition('.')[0]} of "):
        launch(None, [word], run.path, True, quiet=True)
    assert json.dumps(run.metrics()) == before
