"""Hidden states of prompts: those of the model's own forward, whatever is asked for beside them."""

import pytest
import torch
from spiral_models import MODELS

from spiral.api.errors import SpiralError
from spiral.models.features import last_hidden_states
from spiral.models.logits import TokenLogits

PROMPTS = [(5, 6, 7), (5,), (9, 8, 7, 6, 5, 4), (5, 6, 8), (200, 1)]


@pytest.fixture(scope="module")
def lm():
    torch.manual_seed(0)
    return TokenLogits(MODELS["byte-0.1m"](context=32)[0])


def test_they_are_those_of_each_prompt_alone(lm):
    found = last_hidden_states(lm, PROMPTS, 8)
    assert found.shape == (5, lm.model.config.hidden_size)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    for prompt, row in zip(PROMPTS, found, strict=True):
        alone = lm.model.base_model(input_ids=torch.tensor([prompt]), use_cache=False).last_hidden_state[0, -1]
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=1e-5)


def test_the_order_changes_no_bit(lm):
    order = [3, 0, 4, 2, 1]
    found, again = last_hidden_states(lm, PROMPTS, 8), last_hidden_states(lm, [PROMPTS[i] for i in order], 8)
    assert torch.equal(found[order], again)


def test_they_follow_the_weights(lm):
    before = last_hidden_states(lm, PROMPTS, 64)
    parameter = next(lm.model.parameters())
    with torch.no_grad():
        parameter += 0.1
    after = last_hidden_states(lm, PROMPTS, 64)
    with torch.no_grad():
        parameter -= 0.1
    assert not torch.allclose(before, after)


def test_a_model_without_hidden_states_is_refused():
    with pytest.raises(SpiralError, match="hidden states, which .* does not give; set advantage="):
        last_hidden_states(object(), PROMPTS, 64)
