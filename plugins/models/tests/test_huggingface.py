"""Saved models: any causal language model on disk is loaded, or refused in one sentence with the reason."""

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("name", ["nowhere", "Qwen/Qwen3-0.6B"])
def test_a_missing_path_is_one_sentence(name, tmp_path, monkeypatch):
    """A model is a folder on this machine: a name of the hub is refused, and nothing is downloaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.socket.connect", lambda *args: pytest.fail(f"connects to {args[1:]}"))
    with pytest.raises(SpiralError, match=rf"{name}.*is not a directory"):
        hf(name)


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


def test_the_documented_import_is_enough_for_transformers(tmp_path):
    """The block of docs/guides/models.md, in a process of its own, on a folder that a byte model was saved to."""
    model, tokenizer = MODELS["byte-0.1m"](context=64)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    page = (Path(__file__).parents[3] / "docs" / "guides" / "models.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "spiral_models.auto" in b]
    code = f"path = {str(tmp_path)!r}\n{block}print(type(model).__name__, type(tokenizer).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["ByteForCausalLM", "ByteTokenizer"], done.stderr


def _edit(path, **values):
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**known, **values}), encoding="utf-8")


class Planted:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_folder_runs_no_code_of_its_own(llama, tmp_path, monkeypatch):
    """Code beside the model that `auto_map` names is not run, and there is no question on the terminal either."""
    folder, planted = tmp_path / "model", tmp_path / "planted"
    llama.save_pretrained(folder)
    ByteTokenizer().save_pretrained(folder)
    (folder / "own.py").write_text(f"open({str(planted)!r}, 'w')", encoding="utf-8")
    _edit(folder / "config.json", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"})
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    assert type(hf(str(folder))[0]) is LlamaForCausalLM
    _edit(folder / "config.json", model_type="own")
    with pytest.raises(SpiralError, match="could not load"):
        hf(str(folder))
    assert not planted.exists()


def test_a_folder_names_no_kernel_of_the_hub(llama, tmp_path, monkeypatch):
    """A kernel is code; the attention that config.json asks for is not used."""
    llama.save_pretrained(tmp_path)
    ByteTokenizer().save_pretrained(tmp_path)
    _edit(tmp_path / "config.json", attn_implementation="somebody/kernel", _attn_implementation="somebody/kernel")
    loading = "transformers.modeling_utils.lazy_import_flash_attention"
    monkeypatch.setattr(loading, lambda *args, **_: pytest.fail(f"loads {args}"))
    assert hf(str(tmp_path))[0].config._attn_implementation in ("sdpa", "eager")


def test_a_folder_of_pickles_is_not_read(llama, tmp_path):
    """A folder of pickles is not read: weights come from safetensors alone."""
    folder, planted = tmp_path / "model", tmp_path / "planted"
    llama.save_pretrained(folder)
    ByteTokenizer().save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Planted(planted)))
    with pytest.raises(SpiralError, match="safetensors"):
        hf(str(folder))
    assert not planted.exists()


def test_a_folder_names_no_other_model_as_its_base(llama, tmp_path):
    """A folder names no other model as its base: an adapter is refused."""
    llama.save_pretrained(tmp_path)
    ByteTokenizer().save_pretrained(tmp_path)
    _edit(tmp_path / "adapter_config.json", base_model_name_or_path="/elsewhere")
    with pytest.raises(SpiralError, match="holds an adapter; merge it"):
        hf(str(tmp_path))
