"""perf/gpu.sh, rehearsed on a CPU: every part with tiny shapes, and what happens to the others when one fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from perf import gpu, gpu_parts
from perf.shapes import QWEN3_4B, QWEN3_600M, SMOLLM2, TINY
from spiral.plugins.registry import Plugins

torch.set_num_threads(1)

ROOT = Path(__file__).parents[3]
EXPECTED = {
    "device": {"name", "stated_flops", "matrix_product_flops", "copy_bytes_a_second"},
    "learner_small_full": {"tokens_a_second", "model_flops_utilisation", "peak_bytes", "planned_bytes"},
    "engine_small": {"sequences_1", "sequences_4"},
    "agreement": {"largest_gap_nats", "mean_ratio", "kl_k3", "share_beyond_a_hundredth"},
    "step": {"step_s", "sampled_tokens_a_second", "trained_tokens_a_second", "largest_gap_nats"},
}
EXPECTED["learner_large_full"] = EXPECTED["learner_small_full"]
EXPECTED["learner_small_lora"] = EXPECTED["learner_large_lora"] = EXPECTED["learner_small_full"]
EXPECTED["engine_large"] = EXPECTED["engine_small"]


@pytest.mark.parametrize("name", list(gpu_parts.PARTS))
def test_each_part_runs_with_tiny_shapes(name):
    """Through the lines that a GPU will run, and each result is plain JSON with the figures that the docs name."""
    if "lora" in name and "lora" not in Plugins.installed().names("learner"):
        pytest.skip("no learner of adapters is installed")
    found = {}
    for result in gpu_parts.PARTS[name](gpu_parts.SMALL):
        found |= json.loads(json.dumps(result))
    assert found.keys() >= EXPECTED[name]


def test_the_script_prints_one_object():
    """perf/gpu.sh itself, with one of its parts."""
    env = {**os.environ, "PYTHON": sys.executable}
    command = [ROOT / "perf" / "gpu.sh", "--tiny", "--parts", "device"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    result = json.loads(done.stdout)
    assert done.returncode == 0
    assert list(result["parts"]) == ["device"]
    assert result["tiny"] is True
    assert result["parts"]["device"].keys() >= EXPECTED["device"]


def test_every_part_has_a_budget_and_all_together_stay_under_ten_minutes():
    """The parts that run are those that exist."""
    assert gpu.BUDGETS.keys() == gpu_parts.PARTS.keys()
    assert gpu.WHOLE_S < 600


def _parts(tmp_path, monkeypatch, source):
    (tmp_path / "stand_in_parts.py").write_text("import sys, time\nname = sys.argv[1]\n" + source)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


def test_a_part_that_fails_loses_nothing_of_itself_and_of_the_others(tmp_path, monkeypatch):
    """What it had printed stays, beside its error; the parts after it run."""
    source = 'print(\'{"found": 1}\', flush=True)\nif name == "bad":\n    raise MemoryError("too much")\nprint("a warning")\n'
    _parts(tmp_path, monkeypatch, source)
    parts = gpu.run_all({"bad": 30, "good": 30}, [], 60, module="stand_in_parts")["parts"]
    assert parts["bad"]["found"] == 1
    assert "too much" in parts["bad"]["error"]
    assert parts["good"]["found"] == 1
    assert "error" not in parts["good"]


def test_a_part_that_hangs_is_ended_and_what_it_had_found_is_kept(tmp_path, monkeypatch):
    """By its own budget, or by what is left for all; a part for which nothing is left says so."""
    _parts(tmp_path, monkeypatch, "print('{\"found\": 1}', flush=True)\ntime.sleep(60)\n")
    parts = gpu.run_all({"first": 2, "second": 30, "third": 30}, [], 4, module="stand_in_parts")["parts"]
    assert parts["first"]["found"] == parts["second"]["found"] == 1
    assert parts["first"]["error"].startswith("not done within 2 s")
    assert parts["second"]["error"].startswith("not done within")
    assert parts["third"]["error"].startswith("not begun")


def test_a_part_that_does_not_exist_is_refused(capsys):
    """With the names of those that do."""
    with pytest.raises(SystemExit) as refused:
        gpu.main(["--parts", "engine_huge"])
    assert refused.value.code == 2
    assert "no part is named 'engine_huge' (there are: device," in capsys.readouterr().err


@pytest.mark.parametrize(("name", "flops"), [
    ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-80GB", 312e12), ("x86_64", None),
])  # fmt: skip
def test_the_stated_peak_goes_by_the_name_of_the_device(name, flops):
    """The longer name first, since it holds the shorter one; an unknown device has none, and no utilisation."""
    assert gpu_parts.stated_peak(name) == flops


@pytest.mark.parametrize(("shape", "billions"), [(QWEN3_600M, 0.596), (QWEN3_4B, 4.02), (SMOLLM2, 0.1345)])
def test_the_shapes_have_the_parameters_of_the_models_they_are_named_for(shape, billions):
    """Counted on a model without memory: those of the matrices by our own formula, with embeddings as published."""
    model = shape.model("meta")
    total = sum(p.numel() for p in model.parameters())
    layers = sum(p.numel() for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n)
    assert layers == shape.matrix_parameters
    assert total / 1e9 == pytest.approx(billions, rel=2e-3)


def test_the_operations_of_a_step_are_counted_by_hand_arithmetic():
    """Two rows of 3 tokens, 2 trained, in the tiny shape: 2 a weight and token forward, twice that backward."""
    layer = 32 * 8 * (2 * 4 + 2 * 2) + 3 * 32 * 48
    linear = 2 * (2 * layer * 6 + 32 * 320 * 2)
    attention = 2 * 2 * 4 * 8 * (9 + 9)
    assert TINY.step_flops([3, 3], 2) == 3 * linear + 3 * attention
    assert TINY.step_flops([3, 3], 2, adapter=True) == 2 * linear + 3 * attention


def test_the_gap_between_engine_and_learner_is_that_of_their_weights():
    """0 up to rounding with the same weights, and not with others: the figure can fail."""
    sizes, shape = gpu_parts.SMALL, TINY
    model = shape.model(dtype=torch.float32).eval().requires_grad_(False)
    talk = gpu_parts.talks(shape, model, gpu_parts.TorchEngine(model, None), 2, 6)
    same = torch.cat(list(gpu_parts._gaps(model, talk.trajectories, sizes)))
    for parameter in model.parameters():
        parameter.mul_(1.5)
    other = torch.cat(list(gpu_parts._gaps(model, talk.trajectories, sizes)))
    assert same.abs().max() < 1e-4 < other.abs().max()
