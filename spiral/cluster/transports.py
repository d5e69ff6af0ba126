"""The ways of weights from the learner's process to the players: as bytes through Ray's object store, or from where
they are, read by each player on its own (NIXL).

Only ways on which one process reads what another keeps are here. In a collective such as NCCL's all take part or none
returns, so that an engine that dies would hold up the learner and all other engines.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from spiral.api.errors import RunError
from spiral.api.records import PolicyId
from spiral.cluster.buckets import BUCKET_BYTES, Bucket, Packed, buckets, packed_buckets
from spiral.policies.pool import is_snapshot

Transport = Literal["store", "nixl"]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a player fetches a bucket by that stays where the learner packed it."""

    ref: Any
    """Ray's, of a `Packed`: with the last copy of it the buffer is freed."""
    device: str
    """Kind of device that the buffer is on."""


def cut(
    transport: Transport, policy: PolicyId, weights: Mapping[str, Tensor], max_bytes: int = BUCKET_BYTES
) -> Iterator[Bucket]:
    """The buckets of a policy's weights, snapshots of them, each read once."""
    # A snapshot may be kept for the rest of the run: it would take the learner's device a model's memory each.
    if transport == "store" or is_snapshot(policy):
        yield from buckets(weights, max_bytes)
        return
    yield from packed_buckets(weights, max_bytes)


def keep(transport: Transport, bucket: Bucket) -> Any:
    """Keep a bucket in Ray; what `fetch` gets it by."""
    import ray

    if isinstance(bucket, Packed):
        return Kept(ray.put(bucket, _tensor_transport=transport), bucket.device.type)
    return ray.put(bucket)


def fetch(kept: Any) -> Bucket:
    """The bucket, on this process's device if it stayed on one. Raises what Ray does if it cannot be had."""
    import ray

    if isinstance(kept, Kept) and kept.device == "cuda" and not torch.cuda.is_available():
        # Ray would ask for memory of the kind that the learner has.
        ray.experimental.set_target_device_for_ref(kept.ref, "cpu")
    bucket: Bucket = ray.get(kept.ref if isinstance(kept, Kept) else kept)
    return bucket


def check_transport(transport: Transport) -> None:
    """Raise RunError if this process lacks what the transport needs."""
    if transport != "nixl":
        return
    where, remedy = f"cluster.args.transport=nixl, on {platform.node()}", "or leave the transport out"
    if importlib.util.find_spec("nixl") is None:
        raise RunError(f"{where}: needs nixl, which is not installed; pip install nixl on every node, {remedy}")
    try:
        importlib.import_module("nixl._api")
    except Exception as error:  # it looks for CUDA, and loads libraries of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(
            f"{where}: nixl cannot be loaded ({reason}); install the build of this CUDA, {remedy}"
        ) from error
