"""Checkpoints are whole or absent, give everything back, and say in one sentence what is wrong with a bad one."""

import copy
import json
import os
import shutil

import pytest
import torch
from accelerate import Accelerator
from spiral_models import MODELS
from transformers import AutoModelForCausalLM, AutoTokenizer

from spiral.api.errors import RunError
from spiral.api.records import LEARNER, Trajectory, Turn
from spiral.config.schema import LearnerConfig
from spiral.learning.full_learner import FullLearner
from spiral.learning.packing import pack
from spiral.runs import checkpoints as checkpoint
from spiral.runs.directory import RunDir, step_of

torch.set_num_threads(1)

CONFIG = LearnerConfig(kl=0.1, reference_every=2, ratio_tolerance=1e9)


def _learner(seed=0, size="byte-0.1m"):
    torch.manual_seed(seed)
    model, tokenizer = MODELS[size](context=32)
    return FullLearner(model, CONFIG, 100, Accelerator(cpu=True)), tokenizer


def _update(learner, step):
    turn = Turn("", (257, 75 + step, 260), (98, 261), (-2.0, -2.0), "b", True, "stop", 0)
    played = [Trajectory("g", 0, LEARNER, 1.0, (turn,), 0)]
    learner.update(pack(played, [[1.0]], 100), step, 1)


class Remembers:
    def __init__(self, state=None):
        self.state = state or {}


class Forgets:
    pass


def _save(folder, step=3, learner=None, plugins=None, keep=2):
    made, tokenizer = _learner()
    path = checkpoint.save(RunDir(folder), step, learner or made, tokenizer, plugins or {})
    checkpoint.thin_out(RunDir(folder), keep)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A learner after 3 updates and its checkpoint."""
    learner, tokenizer = _learner()
    for step in range(3):
        _update(learner, step)
    plugins = {"advantage": Remembers({"kuhn/0": {"average": 0.1 + 0.2, "weight": 0.3}}), "opponents": Forgets()}
    path = checkpoint.save(RunDir(tmp_path_factory.mktemp("run")), 3, learner, tokenizer, plugins)
    return learner, path


@pytest.fixture
def damaged(trained, tmp_path):
    """A copy of the checkpoint to damage."""
    return shutil.copytree(trained[1], tmp_path / "step-000003")


def _equal(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


# Round trip


def test_everything_comes_back(trained):
    """Live, averaged and reference weights, optimiser, counts and plug-ins' states; the next updates are bit-equal."""
    learner, path = trained
    learner = copy.deepcopy(learner)
    other, _ = _learner(seed=9)
    remembers, forgets = Remembers(), Forgets()
    assert checkpoint.restore(path, other, {"advantage": remembers, "opponents": forgets}) == 3
    assert remembers.state == {"kuhn/0": {"average": 0.1 + 0.2, "weight": 0.3}}
    assert not hasattr(forgets, "state")
    assert _equal(other.weights(), learner.weights())
    assert _equal(other.averaged(), learner.averaged())
    assert _equal(other.state()["tensors"]["reference"], learner.state()["tensors"]["reference"])
    assert not _equal(other.weights(), other.averaged())
    for step in (3, 4):
        _update(learner, step)
        _update(other, step)
    assert _equal(other.weights(), learner.weights())
    assert _equal(other.averaged(), learner.averaged())


def test_the_evaluated_model_is_an_ordinary_model(trained):
    """`model/` loads with transformers alone: the averaged weights and their tokenizer."""
    learner, path = trained
    model = AutoModelForCausalLM.from_pretrained(path / "model", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(path / "model", local_files_only=True)
    assert _equal(dict(model.named_parameters()), learner.averaged())
    assert tokenizer.encode("bet") == [98, 101, 116]


def test_averaged_weights_alone(trained):
    """What evaluation of a run needs, by the names that load_weights takes."""
    learner, path = trained
    assert _equal(checkpoint.evaluated_weights(path), learner.averaged())


def test_nothing_lies_there_twice(trained):
    """The averaged weights are those of `model/`; of the other groups each has its file, and the tokenizer is small."""
    _, path = trained
    found = sorted(str(file.relative_to(path)) for file in path.rglob("*.safetensors"))
    assert found == [
        "live.safetensors",
        "model/model.safetensors",
        "reference.safetensors",
        "reference_next.safetensors",
    ]


def _without_average(**settings):
    learner, tokenizer = _learner()
    config = LearnerConfig(ratio_tolerance=1e9, ema=0.0, **settings)
    return FullLearner(learner.model, config, 100, Accelerator(cpu=True)), tokenizer


def test_without_an_average_a_checkpoint_holds_the_weights_once(tmp_path):
    """`model/` with the live weights, and the optimiser's two moments: three times the weights, and a resume is bit-equal."""
    learner, tokenizer = _without_average()
    _update(learner, 0)
    assert learner.averaged() is None
    path = checkpoint.save(RunDir(tmp_path), 1, learner, tokenizer, {})
    assert [str(f.relative_to(path)) for f in path.rglob("*.safetensors")] == ["model/model.safetensors"]
    weights = sum(w.nbytes for w in learner.weights().values())
    total = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert 3 * weights < total < 3 * weights + 200_000
    assert _equal(checkpoint.evaluated_weights(path), learner.weights())
    other, _ = _without_average()
    checkpoint.restore(path, other, {})
    for step in (1, 2):
        _update(learner, step)
        _update(other, step)
    assert _equal(other.weights(), learner.weights())


def test_an_average_that_is_asked_for_on_a_resume_starts_from_the_live_weights(tmp_path):
    """And one that is no longer asked for is left: neither is an error."""
    learner, tokenizer = _without_average()
    _update(learner, 0)
    path = checkpoint.save(RunDir(tmp_path), 1, learner, tokenizer, {})
    averaging, _ = _learner()
    checkpoint.restore(path, averaging, {})
    assert _equal(averaging.averaged(), learner.weights())
    _update(averaging, 1)
    path = checkpoint.save(RunDir(tmp_path), 2, averaging, tokenizer, {})
    checkpoint.restore(path, learner, {})
    assert _equal(learner.weights(), averaging.weights())


def test_weights_that_are_saved_by_other_names_have_a_file_of_their_own(tmp_path, monkeypatch):
    """What transformers writes is read back only where it is what the model holds, bit for bit."""
    learner, tokenizer = _without_average()
    save = type(learner.model).save_pretrained

    def rounded(model, path):
        other = copy.deepcopy(model)
        with torch.no_grad():
            next(other.parameters()).add_(1e-3)
        save(other, path)

    monkeypatch.setattr(type(learner.model), "save_pretrained", rounded)
    path = checkpoint.save(RunDir(tmp_path), 1, learner, tokenizer, {})
    assert (path / "live.safetensors").is_file()
    assert _equal(checkpoint.evaluated_weights(path), learner.weights())


def test_a_plugin_that_was_not_there_keeps_its_own_state(trained):
    """A state for nobody is no error, and nobody's state is left alone."""
    learner, _ = _learner()
    newcomer = Remembers({"mine": 1})
    checkpoint.restore(trained[1], learner, {"curriculum": newcomer})
    assert newcomer.state == {"mine": 1}


# Whole or absent


def test_half_a_checkpoint_does_not_count(tmp_path):
    """What a kill leaves (a .tmp folder, or a folder without state.json) is neither found nor in the way."""
    run = RunDir(tmp_path)
    (run.checkpoints / ".step-000006.tmp").mkdir(parents=True)
    (run.checkpoints / ".step-000006.tmp" / "live.safetensors").write_bytes(b"half")
    (run.checkpoints / "step-000009").mkdir()
    assert run.checkpoint_paths() == []
    path = _save(tmp_path, 6)
    assert run.checkpoint_paths() == [path]
    assert not (run.checkpoints / ".step-000006.tmp").exists()


def test_what_a_killed_process_had_not_finished_is_swept_away_on_resume(tmp_path):
    """Before anything is written: it may be what fills the disk."""
    first = _save(tmp_path, 3)
    half = RunDir(tmp_path).checkpoints / ".step-000006.tmp"
    half.mkdir()
    (half / "live.safetensors").write_bytes(b"half")
    checkpoint.recover(RunDir(tmp_path))
    assert [*RunDir(tmp_path).checkpoints.iterdir()] == [first]


def test_a_save_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    """The last good checkpoint still stands, and nothing is left of the other one."""
    first = _save(tmp_path, 3)

    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        _save(tmp_path, 6, keep=1)
    assert [*RunDir(tmp_path).checkpoints.iterdir()] == [first]


def test_an_existing_checkpoint_is_replaced(tmp_path):
    """A resumed run that comes by the same step again writes it anew."""
    _save(tmp_path, 3, plugins={"advantage": Remembers({"n": 1})})
    path = _save(tmp_path, 3, plugins={"advantage": Remembers({"n": 2})})
    assert json.loads((path / "state.json").read_text())["plugins"] == {"advantage": {"n": 2}}
    assert RunDir(tmp_path).checkpoint_paths() == [path]


# Pruning


@pytest.mark.parametrize(("keep", "left"), [(1, [9]), (2, [6, 9]), (5, [3, 6, 9]), (0, [3, 6, 9])])
def test_the_newest_are_kept(tmp_path, keep, left):
    """`keep` newest stay; 0 keeps all."""
    for step in (3, 6, 9):
        _save(tmp_path, step, keep=keep)
    assert [p.name for p in RunDir(tmp_path).checkpoint_paths()] == [f"step-{s:06d}" for s in left]


def test_checkpoints_are_in_the_order_of_steps(tmp_path):
    """Also beyond 999,999, where names grow longer: the newest is never the one that is pruned."""
    for step in (999_999, 1_000_000):
        folder = tmp_path / "checkpoints" / f"step-{step:06d}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("{}")
    assert RunDir(tmp_path).checkpoint().name == "step-1000000"


def test_a_run_without_a_checkpoint(tmp_path):
    """One sentence with the run and what to wait for."""
    with pytest.raises(RunError, match="no checkpoint yet.*checkpoint.every"):
        RunDir(tmp_path).checkpoint()


# Damage


def _restore(path, learner=None):
    with pytest.raises(RunError) as caught:
        checkpoint.restore(path, learner or _learner()[0], {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["live.safetensors", "model/model.safetensors", "optimizer.pt", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "missing"])
def test_a_damaged_file_is_one_sentence(damaged, name, damage):
    """Half a file, noise, nothing, or no file: RunError with the checkpoint and what to do; no traceback of a library."""
    path = damaged / name
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"\x00\xff" * 500, "empty": b""}[damage])
    message = _restore(damaged)
    assert str(damaged) in message
    assert "delete it to go on from the one before" in message


@pytest.mark.parametrize("text", ["[]", "{}", '{"step": 3, "learner": {}, "plugins": {}}', "null"])
def test_a_state_that_holds_something_else_is_one_sentence(damaged, text):
    """JSON, but not ours."""
    (damaged / "state.json").write_text(text)
    assert str(damaged) in _restore(damaged)


def test_a_kill_between_the_two_renames_loses_no_checkpoint(trained, tmp_path, monkeypatch):
    """The checkpoint that was being replaced is found at once, by those who only read too, and has its name again when
    the run is resumed."""
    run, (learner, tokenizer) = RunDir(tmp_path), _learner()
    checkpoint.save(run, 3, learner, tokenizer, {})
    real = os.rename

    def killed(source, target):
        if source.name == ".step-000003.tmp":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(run, 3, trained[0], tokenizer, {})
    monkeypatch.undo()
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [".step-000003.old", ".step-000003.tmp"]
    assert step_of(run.checkpoint()) == 3
    assert checkpoint.evaluated_weights(run.checkpoint(3)).keys() == learner.averaged().keys()
    checkpoint.recover(run)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-000003"]
    assert checkpoint.restore(run.checkpoint(), learner, {}) == 3


def test_damaged_averages_are_one_sentence(damaged):
    """The same for the commands that only evaluate."""
    (damaged / "model" / "model.safetensors").write_bytes(b"noise")
    with pytest.raises(RunError, match="cannot be read"):
        checkpoint.evaluated_weights(damaged)


def test_a_checkpoint_of_another_model_is_one_sentence(trained):
    """A name and both shapes, and the remedy."""
    message = _restore(trained[1], _learner(size="byte-0.4m")[0])
    assert "belong to another model" in message
    assert "configuration that they were trained with" in message


def test_a_checkpoint_that_is_written_again_is_never_half_there(trained, tmp_path, monkeypatch):
    """A rollback writes the step that it went back to once more. Killed as the old one is deleted: the new one stands."""
    learner, tokenizer = _learner()
    checkpoint.save(RunDir(tmp_path), 3, learner, tokenizer, {})
    real = shutil.rmtree

    def killed(path, *args, **more):
        if (path / "live.safetensors").exists():
            (path / "live.safetensors").unlink()
            raise KeyboardInterrupt
        real(path, *args, **more)

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(RunDir(tmp_path), 3, trained[0], tokenizer, {})
    monkeypatch.undo()
    [path] = RunDir(tmp_path).checkpoint_paths()
    assert checkpoint.restore(path, learner, {}) == 3
    assert _equal(learner.weights(), trained[0].weights())
    checkpoint.recover(RunDir(tmp_path))
    checkpoint.save(RunDir(tmp_path), 4, learner, tokenizer, {})
    assert sorted(p.name for p in RunDir(tmp_path).checkpoints.iterdir()) == ["step-000003", "step-000004"]
