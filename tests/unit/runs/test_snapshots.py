"""A snapshot is a file of safetensors, written one tensor after another."""

import pytest
import torch
from safetensors import safe_open

from spiral.models.sharded import WholeWeights
from spiral.runs import snapshots

WEIGHTS = {
    "b": torch.arange(6.0).reshape(2, 3).T,  # not contiguous
    "a": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "one": torch.tensor(3.0, dtype=torch.float64),
    "none": torch.zeros(0, 4, dtype=torch.float16),
}


@pytest.mark.parametrize("weights", [WEIGHTS, WholeWeights(WEIGHTS)], ids=["whole", "gathered"])
def test_what_was_written_is_read(tmp_path, weights):
    """Every shape and type, bit for bit; safetensors reads the file too."""
    snapshots.write(tmp_path, 7, weights)
    found = snapshots.read(tmp_path, 7)
    assert {**found}.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], WEIGHTS[name]) and found[name].dtype == WEIGHTS[name].dtype for name in found)
    with safe_open(tmp_path / "step-000007.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor("b"), WEIGHTS["b"])


def test_each_tensor_is_read_once_in_order(tmp_path):
    """All processes gather them together, so the order is the mapping's own."""

    class Recorded(WholeWeights):
        read = []  # noqa: RUF012

        def __getitem__(self, name):
            self.read.append(name)
            return super().__getitem__(name)

    snapshots.write(tmp_path, 0, Recorded(WEIGHTS))
    assert Recorded.read == [*WEIGHTS]
