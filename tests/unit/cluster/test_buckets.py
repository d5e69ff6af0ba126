"""Weights cut into buckets and put together again by name."""

import pytest
import torch

from spiral.cluster.buckets import Received, buckets, flattened, layout_of, unflattened
from tests.unit.cluster.played import seen_reading

WEIGHTS = {
    "a": torch.arange(6.0).view(2, 3),
    "b": torch.arange(6.0, 12.0).view(2, 3),
    "c": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "d": torch.arange(4, dtype=torch.float64).view(2, 2).T,
    "e": torch.tensor(3.0),
}


@pytest.mark.parametrize("limit", [1, 48, 56, 1 << 20])
def test_every_tensor_arrives_under_its_name(limit):
    """Known failure (SkyRL#1816, #1581): names in one order, bytes in another. Two tensors of one shape, other dtypes
    among them, a transposed one and a number, in buckets of one tensor, of two, of all."""
    sent = list(buckets(WEIGHTS, limit))
    parts = [(layout_of(bucket), n) for n, bucket in enumerate(sent)]
    received = Received(parts, sent.__getitem__)
    assert list(received) == list(WEIGHTS)
    for name, weight in WEIGHTS.items():
        assert received[name].dtype == weight.dtype
        assert torch.equal(received[name], weight)
    assert len(sent) == {1: 5, 48: 2, 56: 2, 1 << 20: 1}[limit]


def test_a_bucket_is_a_copy():
    """Known failure (ray#16718): snapshots that turn into the present policy. What was packed stays as it was while
    training changes the weight in place."""
    weight = torch.ones(3)
    flat = flattened(weight)
    weight += 1
    assert torch.equal(unflattened(flat), torch.ones(3))


def test_buckets_are_fetched_one_after_another():
    fetched, sent = [], list(buckets(WEIGHTS, 1))

    def fetch(n):
        fetched.append(n)
        return sent[n]

    received = Received([(layout_of(bucket), n) for n, bucket in enumerate(sent)], fetch)
    for name in received:
        received[name]
    assert fetched == [0, 1, 2, 3, 4]


def test_no_tensor_is_read_twice():
    """Of a model in parts each is gathered as it is read."""
    weights, read = seen_reading(WEIGHTS)
    list(buckets(weights, 48))
    assert read == list(WEIGHTS)
