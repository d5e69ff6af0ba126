"""The head over hidden states is the model's own, whatever it does to its logits, or it is not used apart."""

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    GraniteMoeConfig,
    GraniteMoeForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from spiral.models.logits import TokenLogits

torch.set_num_threads(1)

SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
MODELS = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "gemma2, capped": (Gemma2Config, Gemma2ForCausalLM, {"head_dim": 16, "final_logit_softcapping": 30.0}),
    "granite, divided": (GraniteConfig, GraniteForCausalLM, {"logits_scaling": 8.0}),
    "granite, experts": (GraniteMoeConfig, GraniteMoeForCausalLM, {"logits_scaling": 8.0, "num_local_experts": 2}),
    "cohere, multiplied": (CohereConfig, CohereForCausalLM, {"logit_scale": 0.0625}),
}


def _model(name):
    config, make, changed = MODELS[name]
    torch.manual_seed(0)
    return make(config(**{**SIZES, **changed})).eval()


@pytest.mark.parametrize("name", MODELS)
def test_a_head_over_hidden_states_gives_the_models_own_logits(name):
    """Also where they are so large that a cap or a scale is most of them: final norm and embeddings 300 times as
    large."""
    model = _model(name)
    lm = TokenLogits(model)
    assert lm.splits_head
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(300)
        ids, columns = torch.arange(3, 15)[None], torch.tensor([11, 0, 5])
        expected = model(input_ids=ids).logits[0, columns]
        positions = torch.arange(12)[None]
        hidden = lm.hidden(ids, positions, None, torch.zeros_like(columns), columns)
        assert hidden.shape == (3, 32)
        torch.testing.assert_close(lm.head(hidden), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(lm(ids, positions, None, torch.zeros_like(columns), columns), expected)
    assert "capped" not in name or expected.abs().max() > 20


@pytest.mark.parametrize("name", MODELS)
def test_a_head_over_hidden_states_leaves_the_model_as_it_is(name):
    """No module, weight or buffer more or less, and its forward the same."""
    model = _model(name)
    before = [id(module) for module in model.modules()], dict(model.state_dict())
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        lm = TokenLogits(model)
        lm.head(torch.randn(4, 32))
        assert torch.equal(model(input_ids=ids).logits, expected)
    assert [id(module) for module in model.modules()] == before[0]
    assert model.state_dict().keys() == before[1].keys()
    assert {id(p) for p in lm.parameters()} == {id(p) for p in model.parameters()}


class _LooksAtIds(LlamaForCausalLM):
    """Its logits are no function of hidden states."""

    def forward(self, input_ids, **inputs):
        outputs = super().forward(input_ids=input_ids, **inputs)
        outputs.logits = outputs.logits + 0.5 * torch.nn.functional.one_hot(input_ids, outputs.logits.shape[-1])
        return outputs


def test_logits_that_are_no_function_of_hidden_states_are_taken_whole():
    """Such a model plays and learns too, by its own forward, without the saving."""
    torch.manual_seed(0)
    model = _LooksAtIds(LlamaConfig(**SIZES)).eval()
    lm = TokenLogits(model)
    assert not lm.splits_head
    ids, columns = torch.arange(3, 15)[None], torch.tensor([11, 0, 5])
    with torch.no_grad():
        found = lm(ids, torch.arange(12)[None], None, torch.zeros_like(columns), columns)
        assert torch.equal(found, model(input_ids=ids).logits[0, columns])
