"""What an engine says of its precision reaches the learner of a run."""

import pytest
import torch

from spiral.api.progress import no_progress
from spiral.config.loading import load
from spiral.engines.torch.engine import TorchEngine
from spiral.plugins.registry import Plugins
from spiral.training.components import make_components


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_the_learner_knows_how_its_engine_computes(monkeypatch, dtype):
    """An engine without `dtype` computes as the model does: no importance weights, one token beyond 0.001 stops the run.
    One with it, as vLLM's, has them, and the band of its precision."""
    if dtype is not None:
        monkeypatch.setattr(TorchEngine, "dtype", dtype, raising=False)
    config = load(overrides=["warm_start.max_steps=0", "evaluate.every=0", "loggers=[]"])
    agreement = make_components(config, Plugins.installed(), no_progress, fresh=False).learner._agreement
    assert agreement.is_exact == (dtype is None)
    assert agreement.importance_cap == (None if dtype is None else 2.0)
    assert agreement.band == (0.3 if dtype == torch.bfloat16 else 1e-3)
