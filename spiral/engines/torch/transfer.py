"""What crosses between the host and the device of a model, so that each crossing can be found and counted.

To the device copies are queued behind the work in flight, and the host goes on. Back from it the host waits for all
that was queued: once a step of a policy, for the ids that were sampled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def to_device(values: Any, device: torch.device) -> Tensor:
    """Numbers, in lists or an array, as a tensor on `device`; nothing waits for it."""
    tensor = torch.as_tensor(values)
    if device.type == "cuda":
        # Only from pinned memory is a copy queued: from any other the host waits until it is done.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def to_host(ids: Tensor, logprobs: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Ids (n,) and their log-probabilities (n,) in one copy, for which the host waits."""
    # float64 holds every id exactly.
    both = torch.stack((ids.double(), logprobs.double())).cpu().numpy()
    return both[0].astype(np.int64), both[1]
