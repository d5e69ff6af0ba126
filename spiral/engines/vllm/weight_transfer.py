"""How the learner's weights reach a vLLM engine: a backend of vLLM's own interface that loads the tensors it is given.

vLLM packs weights as it loads them, so they cannot be copied into place: each layer is loaded anew and packed again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from vllm.config.weight_transfer import WeightTransferConfig
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

BACKEND = "spiral_given"


@dataclass
class NoInit(WeightTransferInitInfo):  # type: ignore[misc]
    """Nothing has to be arranged."""


@dataclass
class NamedTensors(WeightTransferUpdateInfo):  # type: ignore[misc]
    """A stream of weights by the names of a checkpoint."""

    tensors: Iterable[tuple[str, Tensor]]


class GivenTensors(WeightTransferEngine[NoInit, NamedTensors]):  # type: ignore[misc]
    """Packs each layer as soon as it is whole. Within one process tensors come by reference, one at a time."""

    init_info_cls = NoInit
    update_info_cls = NamedTensors

    def init_transfer_engine(self, init_info: NoInit) -> None:
        """Nothing to do."""

    def start_weight_update(self) -> None:
        """From here until the update is finished the model answers nothing sensible."""
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Load what comes; without the wait for an accelerator, which the tensors' own streams order."""
        try:
            self.model.load_weights(self.parse_update_info(update_info).tensors)
        except BaseException:
            # What one load left half read would be counted as part of the next, which would then end too early.
            finalize_layerwise_reload(self.model, self.model_config)
            raise

    def receive_weights(self, update_info: NamedTensors) -> None:
        """Not called: `update_weights` does it."""

    def finish_weight_update(self) -> None:
        """The model answers with the new weights."""
        finalize_layerwise_reload(self.model, self.model_config)
        _pack_tied_head(self.model)

    def shutdown(self) -> None:
        """Nothing is held."""


def _pack_tied_head(model: nn.Module) -> None:
    """On a CPU a head reads a packed copy, which a reload of the embedding it is tied to leaves as it was."""
    head: Any = getattr(model, "lm_head", None)
    if head is not None and hasattr(head, "cpu_linear"):
        head.quant_method.process_weights_after_loading(head)


class WorkerExtension:
    """Named to vLLM's worker processes, which import this module for it, and so know the backend too."""


# On import, since a worker process of vLLM's runs no other code of ours.
if BACKEND not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(BACKEND, GivenTensors)


def config_of_transfer() -> WeightTransferConfig:
    """What a vLLM engine is made with."""
    return WeightTransferConfig(backend=BACKEND)
