"""The value head of `critic`: a small network from hidden states to a number, trained by regression.

In a module of its own since it alone needs torch, which is loaded when the first value is asked for.
"""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class ValueHead:
    """Linear, tanh, linear, on inputs of mean 0 and deviation 1; says 0 before it was fitted."""

    def __init__(self, num_inputs: int, units: int, lr: float) -> None:
        self.num_inputs = num_inputs
        first, last = nn.Linear(num_inputs, units), nn.Linear(units, 1)
        with torch.no_grad():
            # From a seed of its own: the estimator takes no chance from the run's generators, nor gives it any.
            first.weight.normal_(std=num_inputs**-0.5, generator=torch.Generator().manual_seed(0))
            first.bias.zero_()
            last.weight.zero_()
            last.bias.zero_()
        self._network = nn.Sequential(first, nn.Tanh(), last)
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=lr)

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> list[float]:
        """(N, num_inputs) -> N values."""
        values: list[float] = self._network(inputs)[:, 0].tolist()
        return values

    def fit(self, inputs: Tensor, targets: Sequence[float], counts: Sequence[float], updates: int) -> None:
        """`updates` steps of Adam on the squared error of all N rows, each of which stands for `counts` turns."""
        wanted, weights = torch.tensor(targets), torch.tensor(counts)
        weights = weights / weights.sum()
        with torch.enable_grad():
            for _ in range(updates):
                loss = (weights * (self._network(inputs)[:, 0] - wanted) ** 2).sum()
                self._optimizer.zero_grad()
                loss.backward()
                self._optimizer.step()

    def state(self) -> dict[str, Any]:
        """JSON values: weights and Adam's moments as base64 of little-endian float32."""
        moments = self._optimizer.state_dict()["state"]
        kept = [*self._network.parameters(), *(m[name] for m in moments.values() for name in ("exp_avg", "exp_avg_sq"))]
        flat = torch.cat([tensor.detach().flatten() for tensor in kept]).numpy().astype("<f4")
        steps = [float(m["step"]) for m in moments.values()]
        return {"inputs": self.num_inputs, "steps": max(steps, default=0.0), "float32": _text(flat.tobytes())}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave."""
        flat = torch.from_numpy(np.frombuffer(base64.b64decode(state["float32"]), dtype="<f4").copy())
        parameters, moments = list(self._network.parameters()), {}
        with torch.no_grad():
            for parameter in parameters:
                flat = _filled(parameter, flat)
        for index, parameter in enumerate(parameters):
            if not state["steps"]:
                break
            moments[index] = {
                "step": torch.tensor(state["steps"]),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
            flat = _filled(moments[index]["exp_avg"], flat)
            flat = _filled(moments[index]["exp_avg_sq"], flat)
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _filled(tensor: Tensor, flat: Tensor) -> Tensor:
    """Put the first numbers of `flat` into `tensor`; the others."""
    tensor.copy_(flat[: tensor.numel()].view_as(tensor))
    return flat[tensor.numel() :]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
