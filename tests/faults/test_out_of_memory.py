"""A device that runs out of memory in an update ends the run with the row that was too much and what to change, and the
run goes on from its checkpoint once that was changed."""

import json

import pytest
import torch
from safetensors.torch import load_file

from spiral import SpiralError
from spiral.config.schema import LearnerConfig
from spiral.learning.out_of_memory import memory_errors_named
from spiral.learning.packing import pack_samples
from spiral.learning.policy_loss import PolicyLoss
from spiral.learning.samples import Sample
from spiral.training.launch import launch

SMALL = [
    "steps=3", "rollout.episodes=64", "warm_start.max_steps=2", "warm_start.cache=false", "warm_start.batch=8",
    "evaluate.every=0", "checkpoint.every=1", "checkpoint.keep=0", "loggers=[]", "evaluate.opponents=[]",
    "learner.kl=0", "learner.anchor=0",
]  # fmt: skip


def test_the_run_ends_with_a_sentence_and_resumes(tmp_path, monkeypatch):
    """Memory runs out in the last step, whose checkpoint is missing then; resumed with less in a forward pass, the run
    ends with the weights of one that had enough, to rounding."""
    launch(None, SMALL, tmp_path / "enough", False, quiet=True)
    forward, calls = PolicyLoss.forward, []

    def short_of_memory(self, batch, *inputs):
        calls.append(batch.ids.shape)
        if (tmp_path / "short/checkpoints/step-000002").exists() and batch.ids.numel() > 300:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB free.\nMore")
        return forward(self, batch, *inputs)

    monkeypatch.setattr(PolicyLoss, "forward", short_of_memory)
    with pytest.raises(SpiralError) as raised:
        launch(None, SMALL, tmp_path / "short", False, quiet=True)
    rows, width = calls[-1]
    assert f"memory ran out in the update, on a micro-batch of {rows} rows of {width} tokens, of which" in str(
        raised.value
    )
    assert "Tried to allocate 2.00 GiB. GPU 0 has 1 GiB free); set learner.micro_batch_tokens below 2048 or" in str(
        raised.value
    )
    assert "\n" not in str(raised.value)
    launch(None, ["learner.micro_batch_tokens=200"], tmp_path / "short", True, quiet=True)
    assert len((tmp_path / "short/metrics.jsonl").read_text().splitlines()) == 3
    one, two = (
        load_file(tmp_path / f"{name}/checkpoints/step-000003/live.safetensors") for name in ("enough", "short")
    )
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-3)
    assert [json.loads(line)["step"] for line in (tmp_path / "short/metrics.jsonl").read_text().splitlines()] == [
        0,
        1,
        2,
    ]


@pytest.mark.parametrize(
    ("rows", "settings", "remedy"),
    [
        (1, {}, "set learner.checkpoint_activations=true or learner.precision=mixed or shorter texts"),
        (2, {}, "set learner.micro_batch_tokens below 2048 or learner.checkpoint_activations=true or"),
        (2, {"checkpoint_activations": True, "precision": "bf16"}, "set learner.micro_batch_tokens below 2048; then"),
    ],
)
def test_what_would_help_is_named(rows, settings, remedy):
    """Only what is not set already, and a smaller micro-batch only where it holds several rows. On a CPU memory runs out
    in words of another class."""
    [batch] = pack_samples([Sample((n, 2, 3), (4, 5), (-1.0,) * 2, count=1) for n in range(rows)], 10**6)
    with (
        pytest.raises(SpiralError, match="memory ran out") as raised,
        memory_errors_named(batch, LearnerConfig(**settings)),
    ):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: 9 bytes.")
    assert remedy in str(raised.value)
    assert f"{rows} {'row' if rows == 1 else 'rows'} of 5 tokens, of which {2 * rows} are trained" in str(raised.value)


def test_other_errors_stay_as_they_are():
    """A bug keeps its class and its words."""
    [batch] = pack_samples([Sample((1,), (2,), (-1.0,), count=1)], 10)
    with pytest.raises(RuntimeError, match="^shapes differ$"), memory_errors_named(batch, LearnerConfig()):
        raise RuntimeError("shapes differ")
