"""Saved models: any causal language model on disk is loaded, or refused in one sentence with the reason."""

import pytest
import torch
from spiral_models import MODELS
from spiral_models.byte.model import ByteForCausalLM
from spiral_models.byte.tokenizer import ByteTokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from spiral import SpiralError
from spiral.models.logits import context_length

hf = MODELS["hf"]


@pytest.fixture
def llama():
    config = LlamaConfig(
        vocab_size=272,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=261,
    )
    return LlamaForCausalLM(config)


def test_a_saved_llama_loads_in_float32(llama, tmp_path):
    llama.to(torch.bfloat16).save_pretrained(tmp_path)
    ByteTokenizer().save_pretrained(tmp_path)
    model, tokenizer = hf(str(tmp_path))
    assert type(model) is LlamaForCausalLM
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    ids = torch.tensor([tokenizer.encode("hello")])
    torch.testing.assert_close(model(ids).logits, llama.float()(ids).logits)


def test_a_saved_byte_model_loads(tmp_path):
    model, tokenizer = MODELS["byte-0.1m"](context=128)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, loaded_tokenizer = hf(str(tmp_path))
    assert type(loaded) is ByteForCausalLM
    assert type(loaded_tokenizer) is ByteTokenizer
    assert loaded_tokenizer.model_max_length == loaded.config.max_position_embeddings == 128


def test_a_missing_path_is_one_sentence(tmp_path):
    with pytest.raises(SpiralError, match=r"nowhere.*is not a directory"):
        hf(str(tmp_path / "nowhere"))


def test_a_directory_without_a_model_is_one_sentence(tmp_path):
    with pytest.raises(SpiralError, match="could not load") as caught:
        hf(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_model_without_its_tokenizer_is_one_sentence(llama, tmp_path):
    llama.save_pretrained(tmp_path)
    with pytest.raises(SpiralError, match="tokenizer"):
        hf(str(tmp_path))


def test_a_context_of_less_than_the_model_was_made_for(llama, tmp_path):
    """The run's limit is the argument; more than the model knows is refused with what it takes."""
    llama.save_pretrained(tmp_path)
    ByteTokenizer().save_pretrained(tmp_path)
    model, _ = hf(str(tmp_path), context=100)
    assert context_length(model) == 100
    assert model.config.max_position_embeddings == 2048  # what an export of the model says stays
    assert context_length(hf(str(tmp_path))[0]) == 2048
    for context in (0, 2049):
        with pytest.raises(SpiralError, match=rf"context of {context};.*takes 1 to 2048"):
            hf(str(tmp_path), context=context)
