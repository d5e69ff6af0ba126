"""An exported model is a stock Llama with equal logits."""

import pytest
import torch
from spiral_models import MODELS
from spiral_models.byte.llama_export import llama_weights, to_llama
from spiral_models.byte.tokenizer import ByteTokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM


@pytest.fixture(params=["byte-0.1m", "byte-1m"])
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param](context=64)[0].eval()


@torch.inference_mode()
def test_logits_are_equal(model):
    """Within 2e-5, the rounding of separate against joined matrices."""
    ids = torch.randint(0, 272, (3, 64))
    before = torch.get_rng_state()
    llama = to_llama(model)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(llama(ids).logits, model(ids).logits, rtol=0, atol=2e-5)
    assert llama.num_parameters() == model.num_parameters()
    assert not llama.training


@torch.inference_mode()
def test_the_export_can_be_saved(model, tmp_path):
    to_llama(model).save_pretrained(tmp_path)
    ByteTokenizer().save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(loaded) is LlamaForCausalLM
    assert type(AutoTokenizer.from_pretrained(tmp_path)) is ByteTokenizer
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    ids = torch.randint(0, 272, (2, 20))
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=0, atol=2e-5)
    assert loaded.generation_config.eos_token_id == 261


def test_weights_alone_can_be_renamed(model):
    """What an engine that already holds a Llama needs at every weight load."""
    renamed = llama_weights(model.state_dict(), model.config)
    assert renamed.keys() == to_llama(model).state_dict().keys()
    shared = {w.untyped_storage().data_ptr() for w in model.state_dict().values()}
    assert {w.untyped_storage().data_ptr() for w in renamed.values()} <= shared
