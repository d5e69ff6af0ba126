"""Weights that stay on their device until a player reads them: whole, under their names, and as they were when kept."""

import importlib
import importlib.util

import pytest
import torch

from spiral.api.errors import RunError
from spiral.api.records import LEARNER
from spiral.cluster.buckets import FetchFailed, Packed, Received, layout_of, packed_buckets
from spiral.cluster.transports import check_transport, cut
from spiral.models.sharded import shapes
from tests.unit.cluster.played import seen_reading

WEIGHTS = {
    "layers.0.weight": torch.arange(6.0).view(2, 3).bfloat16(),
    "layers.1.weight": torch.arange(6.0, 12.0).view(2, 3).bfloat16(),
    "norm": torch.tensor([1.5, -2.0, 1e-8]),
    "odd": torch.arange(3, dtype=torch.uint8),
    "turned": torch.arange(4, dtype=torch.float64).view(2, 2).T,
    "scale": torch.tensor(3.0),
    "none": torch.zeros(0, 4),
}


@pytest.mark.parametrize(("limit", "num"), [(1, 7), (24, 4), (1 << 20, 1)])
def test_every_tensor_arrives_under_its_name(limit, num):
    """Known failure (SkyRL#1816, #1581): tensors arrive under wrong names. Two layers of one shape, a float32 among
    bfloat16, a transposed one, one of 3 bytes before one of float64, a number and an empty one; in buckets of one
    tensor, of two, of all."""
    sent = list(packed_buckets(WEIGHTS, limit))
    received = Received([(layout_of(bucket), n) for n, bucket in enumerate(sent)], sent.__getitem__)
    assert list(received) == list(WEIGHTS)
    assert shapes(received) == shapes(WEIGHTS)
    for name, weight in WEIGHTS.items():
        assert received[name].dtype == weight.dtype
        assert torch.equal(received[name], weight)
    assert len(sent) == num


def test_a_bucket_is_a_copy():
    """Known failure (ray#16718): what a slow player reads would be of the next version, in part. What was packed stays as
    it was while training changes the weight in place."""
    weight = torch.ones(3)
    [bucket] = packed_buckets({"weight": weight})
    weight += 1
    assert torch.equal(bucket["weight"], torch.ones(3))


def test_no_tensor_is_read_twice_and_one_bucket_is_made_at_a_time():
    """Of a model in parts each is gathered as it is read."""
    weights, read = seen_reading(WEIGHTS)
    found = packed_buckets(weights, 1)
    next(found)
    assert len(read) == 2
    list(found)
    assert read == list(WEIGHTS)


def test_snapshots_go_through_the_store():
    """They may be kept for the rest of the run, and would take the learner's device a model's memory each."""
    for policy, stays in ((LEARNER, True), ("learner:b", True), ("averaged", True), ("snapshot:20", False)):
        [bucket] = cut("nixl", policy, WEIGHTS)
        assert isinstance(bucket, Packed) == stays
    [bucket] = cut("store", LEARNER, WEIGHTS)
    assert not isinstance(bucket, Packed)


def test_without_nixl_the_node_and_the_package_are_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_transport("store")
    with pytest.raises(RunError, match=r"on \S+: needs nixl, which is not installed; pip install nixl on every node"):
        check_transport("nixl")


def test_a_nixl_that_cannot_be_loaded_is_told_with_its_reason(monkeypatch):
    def broken(name):
        raise ImportError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(RunError, match=r"nixl cannot be loaded \(libcudart\.so\.12: cannot open.*build of this CUDA"):
        check_transport("nixl")


def test_a_bucket_that_does_not_arrive_is_named():
    def fetch(n):
        raise ConnectionError("transfer\n\nthe peer is gone\n")

    with pytest.raises(FetchFailed, match=r"bucket 1 of 2 of its weights did not arrive \(the peer is gone\)"):
        Received([({"a": (torch.uint8, (1,))}, 0), ({"b": (torch.uint8, (1,))}, 1)], fetch)["a"]
