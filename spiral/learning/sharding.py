"""Models whose weights, gradients and optimiser state the processes share out among them: FSDP2, as accelerate's config
asks for it.

torch's `fully_shard` is called here, not by accelerate's `prepare`, which takes one model with its optimiser and
averages gradients over the processes: a run may have a reference and an average beside the model, and sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin, parse_flag_from_env
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from spiral.api.errors import SpiralError


class Sharding:
    """How models are shared out: over all processes, in the units that accelerate's config names."""

    def __init__(self, plugin: FullyShardedDataParallelPlugin, accelerator: Accelerator) -> None:
        self._plugin = plugin
        self.mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        self._taken: set[int] = set()
        """Parameters that are shared out, by identity."""

    @staticmethod
    def asked(accelerator: Accelerator) -> Sharding | None:
        """What accelerate's config asks for; None where each process keeps a whole model."""
        if accelerator.num_processes == 1 or not parse_flag_from_env("ACCELERATE_USE_FSDP"):
            return None
        return Sharding(FullyShardedDataParallelPlugin(), accelerator)

    def shard(self, *modules: nn.Module) -> Gathering:
        """Share out the parameters of modules that run together: each holds one Hugging Face model as `model`, at some
        depth, whose decoder layers are gathered one after another, and everything else of all of them at once."""
        for module in modules:
            self._part_from_others(module)
            for model in [m for m in module.modules() if hasattr(m, "_no_split_modules")][:1]:
                self._shard_layers(model)
        gathering = Gathering(modules)
        # The root stays whole between a forward and its backward pass, which begins with it.
        fully_shard(gathering, mesh=self.mesh)
        _sum_gradients(gathering)
        return gathering

    def _part_from_others(self, module: nn.Module) -> None:
        """Copy the parameters that models before it have too, such as the base of an adapter: each unit of FSDP2 has
        parameters of its own."""
        copies: dict[int, nn.Parameter] = {}
        for child in module.modules():
            for name, p in child.named_parameters(recurse=False):
                if id(p) in self._taken and id(p) not in copies:
                    copies[id(p)] = nn.Parameter(p.detach().clone(), p.requires_grad)
                setattr(child, name, copies.get(id(p), p))
        self._taken |= {id(p) for p in module.parameters()}

    def _shard_layers(self, model: Any) -> None:
        is_unit = fsdp2_prepare_auto_wrap_policy(self._plugin, model)
        if is_unit is None:
            return
        units = [m for m in model.modules() if m is not model and is_unit(m)]
        check_apart(units)
        # Children first: a unit inside of another one has parameters of its own.
        for module in reversed(units):
            fully_shard(module, mesh=self.mesh, reshard_after_forward=self._plugin.reshard_after_forward)


def check_apart(units: Sequence[nn.Module]) -> None:
    """Raise SpiralError for units, none inside of another, that have a parameter in common: each is gathered and freed
    by itself."""
    owners: dict[int, nn.Module] = {}
    for unit in units:
        for name, parameter in unit.named_parameters():
            owner = owners.setdefault(id(parameter), unit)
            if owner is not unit and unit not in owner.modules():
                raise SpiralError(
                    f"several layers of the model have the parameter {name} in common, and FSDP shares out each layer "
                    "by itself; choose a model without such layers, or one process"
                )


class Gathering(nn.Module):
    """The root of what is gathered: all that runs with the parameters of `parts` runs inside its forward pass."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, module: nn.Module, *inputs: Any) -> Any:
        """`module` of those inputs: one of the parts, or another that has their parameters."""
        return module(*inputs)


class Gathered:
    """Calls a module with parameters that `root` gathers for it; all processes call it together.

    `trains`: whether a backward pass follows each call for which gradients are enabled; without it there are none.
    """

    def __init__(self, root: Gathering, module: nn.Module, trains: bool = False) -> None:
        self._root, self._module, self._trains = root, module, trains
        self.model: Any = getattr(module, "model", None)
        """That of a `TokenLogits`, for which this may stand."""

    def __call__(self, *inputs: Any) -> Any:
        """What the module gives."""
        trains = self._trains and torch.is_grad_enabled()
        # Buffers that were filled in inference mode could not be used by the next update.
        with torch.inference_mode(False), torch.set_grad_enabled(trains):
            result = self._root(self._module, *inputs)
        if not trains:
            # No backward pass will do it, and what reads the parameters next must find the parts.
            root: Any = self._root
            root.reshard()
        return result


def _sum_gradients(root: nn.Module) -> None:
    """Gradients are sums over processes, as over micro-batches; FSDP's own are means. Gloo has sums only."""
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
