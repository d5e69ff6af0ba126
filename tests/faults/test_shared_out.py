"""A learner over two processes (gloo, on the CPU) against the same learner in one: data parallel, and FSDP2 started by
accelerate with the config of examples/. What the processes do is in learners.py; each of them reports.

Weights agree to 2e-5 after three steps at a rate of 1e-3: what differs is the order of sums.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("learners.py")
CONFIG = ROOT / "examples" / "fsdp2.yaml"
KINDS = ("data parallel", "fsdp2")
CASES = ("plain", "everything", "few", "recomputed", "adapter")


def _learners():
    spec = importlib.util.spec_from_file_location("learners", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _launch(launcher, out, *earlier):
    """What each of two processes found."""
    out.mkdir()
    env = {key: value for key, value in os.environ.items() if not key.startswith("ACCELERATE_")}
    env |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, launcher), SCRIPT, out, *earlier],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    return [torch.load(out / f"{rank}.pt") for rank in (0, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("learners")


@pytest.fixture(scope="module")
def one(folder):
    """What one process finds."""
    (folder / "one").mkdir()
    return _learners().found(Accelerator(cpu=True), folder / "one")


@pytest.fixture(scope="module")
def two(folder, one):
    """What each of two processes finds, by how they share the work; those of FSDP2 read the checkpoint of `one` too."""
    accelerate = ["accelerate.commands.accelerate_cli", "launch", "--config_file", CONFIG]
    return {
        "data parallel": _launch(["torch.distributed.run", "--nproc_per_node", 2], folder / "dp", "one"),
        "fsdp2": _launch(accelerate, folder / "fsdp2", "one"),
    }


def _agree(found, expected, tolerance=2e-5):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=tolerance, rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_those_of_one_process(one, two, kind, case):
    """With 9 games of unequal lengths, and with 1 game, so that the second process has none: the gradient is the sum
    over rows, whatever process they fall on; every process reads the same weights, averages and scores."""
    for found in two[kind]:
        assert max(float((w - one[case]["before"][n]).abs().max()) for n, w in found[case]["weights"].items()) > 1e-3
        _agree(found[case]["before"], one[case]["before"], 0)
        _agree(found[case]["weights"], one[case]["weights"])
        _agree(found[case]["averaged"], one[case]["averaged"])
        for mine, theirs in zip(found[case]["scores"], one[case]["scores"], strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_metrics_count_each_game_once(one, two, kind, case):
    """9 games on two processes are 9 in every count and mean, and so is the gradient's norm: no filler and no second
    count; computed tokens are those of both, at least those of one and at most one row of padding more each."""
    for found in two[kind]:
        for mine, theirs in zip(found[case]["stats"], one[case]["stats"], strict=True):
            computed = mine.pop("learner/computed_tokens"), theirs["learner/computed_tokens"]
            assert abs(computed[0] - computed[1]) <= 40
            assert mine == {name: pytest.approx(theirs[name], rel=1e-3, abs=1e-4) for name in mine}


@pytest.mark.parametrize(
    ("case", "dtype", "share"), [("mixed", torch.float32, 0.1), ("bf16", torch.bfloat16, 0.25)], ids=["mixed", "bf16"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_in_bfloat16_move_as_those_of_one_process(one, two, kind, case, dtype, share):
    """bfloat16 rounds rows of other lengths otherwise, AdamW's first steps turn on the sign of a gradient, and weights
    that are bfloat16 themselves are rounded at random: the processes' weights are nearer to each other than a tenth, or
    a quarter, of the way that they moved; so are the averages of `bf16`. All processes have the same."""
    expected = one[case]
    for group in ("weights", "averaged"):
        moved = sum(float((weight - expected["before"][name]).abs().sum()) for name, weight in expected[group].items())
        for found in two[kind]:
            weights = found[case][group]
            apart = sum(float((weight - expected[group][name]).abs().sum()) for name, weight in weights.items())
            assert {weight.dtype for weight in weights.values()} <= {dtype}
            assert apart <= share * moved
        first, second = (found[case][group] for found in two[kind])
        _agree(first, second, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_moves(two, kind):
    """The optimiser holds the parameters that the passes fill, not those from before they were shared out."""
    for found in two[kind]:
        before, after = found["plain"]["before"], found["plain"]["weights"]
        assert [name for name in before if torch.equal(before[name], after[name])] == []


@pytest.mark.parametrize("kind", KINDS[1:])
def test_one_step_by_hand(two, kind):
    """Weights of 1, half of a gradient of 1 from each process, a rate of .1, a forward pass before the optimiser was
    made: .9 on each process, for tensors of 3, 1 and 2 rows."""
    for found in two[kind]:
        for parameter in found["sgd"]:
            torch.testing.assert_close(parameter, torch.full_like(parameter, 0.9))


@pytest.mark.parametrize("kind", KINDS)
def test_the_learning_rate_is_that_of_the_step(one, two, kind):
    """However many processes and micro-batches there are: the schedule is a function of the step."""
    for found in two[kind]:
        rates = [stats["learner/lr"] for stats in found["plain"]["stats"]]
        assert rates == [stats["learner/lr"] for stats in one["plain"]["stats"]]
        assert len(set(rates)) == 3


def test_each_process_holds_about_half(one, two):
    """Of the weights, in parts; data parallel each holds all."""
    whole = one["plain"]["bytes"]
    assert [found["plain"]["bytes"] for found in two["data parallel"]] == [whole, whole]
    parts = [found["plain"]["bytes"] for found in two["fsdp2"]]
    assert sum(parts) == whole
    assert max(parts) < 0.6 * whole
    # The model that engines are made from has no memory of its own meanwhile.
    assert [found["plain"]["whole model"] for found in two["fsdp2"]] == [0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_is_no_number_in_one_process_is_refused_by_all(two, kind):
    """The weights are those before, in both."""
    for found in two[kind]:
        assert found["refused"]["stats"]["learner/refused"] == 1.0
        _agree(found["refused"]["weights"], found["refused"]["before"], 0)


def _same_run(found, expected, tolerance=2e-5):
    """Weights, averages, moments and counters before a step, and what the step finds."""
    _same_state(found, expected, tolerance)
    for name, value in expected["stats"].items():
        if name != "learner/computed_tokens":
            assert found["stats"][name] == pytest.approx(value, rel=100 * tolerance, abs=tolerance)


def _same_state(found, expected, tolerance):
    """Weights, averages, moments and counters."""
    for group, tensors in expected["state"]["tensors"].items():
        _agree(found["state"]["tensors"][group], tensors, tolerance)
    for index, moments in expected["state"]["moments"].items():
        for name, moment in moments.items():
            mine = found["state"]["moments"][index][name]
            scale = max(1e-9, float(moment.abs().max()))
            torch.testing.assert_close(mine / scale, moment / scale, atol=50 * tolerance, rtol=0)
    assert found["state"]["values"] == expected["state"]["values"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_the_uninterrupted_one(two, kind):
    """On as many processes: every tensor of the second checkpoint is that of the step, also those of 257 rows, which do
    not divide evenly, and the next step finds the same to the last bit."""
    for found in two[kind]:
        own = "dp" if kind == "data parallel" else "fsdp2"
        _same_run(found["resumed"][own], found["saved"], 0)
        _same_run(found["resumed in bf16"][own], found["saved in bf16"], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_go_on_from_a_checkpoint_of_one(one, two, kind):
    """1 -> 2."""
    for found in two[kind]:
        _same_run(found["resumed"]["one"], one["saved"])
        _same_state(found["resumed in bf16"]["one"], one["saved in bf16"], 0)


@pytest.mark.parametrize("name", ["dp", "fsdp2"])
def test_the_saved_model_is_the_average(folder, two, name):
    """Whole, whatever the processes hold of it."""
    [found] = (folder / name / "checkpoints" / "step-000004" / "model").glob("*.safetensors")
    expected = two["data parallel" if name == "dp" else name][0]["saved"]["state"]["tensors"]["averaged"]
    _agree(load_file(found), expected, 0)


@pytest.mark.parametrize("name", ["dp", "fsdp2"])
def test_one_process_goes_on_from_a_checkpoint_of_two(folder, one, two, name):
    """2 -> 1."""
    _same_run(_learners().resumed(Accelerator(cpu=True), folder / name), one["saved"])
    found = _learners().resumed(Accelerator(cpu=True), folder / name / "bf16", precision="bf16")
    _same_state(found, two["data parallel" if name == "dp" else name][0]["saved in bf16"], 0)


def test_the_config_file_of_the_example_loads():
    """accelerate reads it as two processes with version 2 of FSDP."""
    config = load_config_from_file(str(CONFIG))
    assert (config.distributed_type, config.num_processes) == ("FSDP", 2)
    assert config.fsdp_config["fsdp_version"] == 2
