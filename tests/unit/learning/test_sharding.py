"""What can be shared out over processes, apart from the processes, which tests/faults has."""

import pytest
from spiral_models import MODELS
from torch import nn

from spiral.api.errors import SpiralError
from spiral.learning.sharding import check_apart


def test_layers_that_have_a_matrix_in_common_are_refused():
    """A unit is gathered and freed by itself, so the matrix would be gone while another layer needs it."""
    check_apart(MODELS["byte-0.4m"](context=64)[0].model.layers)
    for name in ("byte-0.4m", "patch-0.4m"):
        model = MODELS[name](context=64, share_ffn="all")[0].model
        with pytest.raises(SpiralError, match=r"have the parameter gate_up_proj.weight in common.*or one process"):
            check_apart(model.layers if name.startswith("byte") else model.core)


def test_a_unit_inside_of_another_is_not_in_common():
    outer = nn.Sequential(nn.Linear(2, 2))
    check_apart([outer, outer[0]])
