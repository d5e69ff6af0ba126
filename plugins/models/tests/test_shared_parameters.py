"""Layers with one feed-forward, untied heads and matrices of low rank: counted, saved once, copied, exported."""

import copy
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from spiral_models import MODELS
from spiral_models.byte.block import feed_forward_owners
from spiral_models.byte.llama_export import llama_weights, to_llama
from transformers import AutoModelForCausalLM

from spiral import SpiralError

NAMES = ("byte-0.4m", "patch-0.4m")
CASES = [
    {"share_ffn": "all"},
    {"share_ffn": "interior"},
    {"tie": False},
    {"ffn_rank": 16},
    {"share_ffn": "all", "tie": False, "ffn_rank": 8},
]
IDS = torch.randint(0, 272, (3, 50), generator=torch.Generator().manual_seed(0))


def made(name, seed=0, **args):
    torch.manual_seed(seed)
    return MODELS[name](context=64, **args)[0].eval()


def blocks(model):
    return model.model.layers if hasattr(model.model, "layers") else model.model.core


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("args", CASES)
def test_the_number_of_parameters_is_what_the_arguments_say(name, args):
    whole, model = made(name), made(name, **args)
    config = model.config
    hidden, inner = config.hidden_size, config.intermediate_size
    of_one, rank = 3 * hidden * inner, args.get("ffn_rank")
    if rank:
        of_one = rank * (hidden + 2 * inner) + rank * (inner + hidden)
    num = len(set(feed_forward_owners(config.num_hidden_layers, args.get("share_ffn", "none"))))
    local = model.get_input_embeddings().embedding_dim
    expected = whole.num_parameters() - 3 * hidden * inner * config.num_hidden_layers + num * of_one
    assert model.num_parameters() == expected + (0 if args.get("tie", True) else 272 * local)
    assert sum(p.numel() for p in model.parameters()) == model.num_parameters()


def test_the_documented_table_is_true():
    text = (Path(__file__).parents[3] / "docs" / "guides" / "models.md").read_text(encoding="utf-8")
    lines = [line.split("|") for line in re.findall(r"^\| `(?:byte|patch)-.*", text, re.M)]
    rows = {row[1].strip(" `"): [int(cell.replace(",", "")) for cell in row[2:6]] for row in lines if len(row) == 7}
    assert list(rows) == [name for name in MODELS if name != "hf"]
    columns = [{"share_ffn": "interior"}, {"share_ffn": "all"}, {"tie": False}, {"ffn_rank": 32}]
    for name, numbers in rows.items():
        assert numbers == [MODELS[name].skeleton(**args).num_parameters() for args in columns]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("args", CASES)
def test_saved_once_and_loaded_as_shared(name, args, tmp_path):
    model = made(name, **args)
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        saved = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
    assert sum(weight.numel() for weight in saved.values()) == model.num_parameters()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)
    assert loaded.num_parameters() == model.num_parameters()
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) is args.get("tie", True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("args", CASES)
def test_a_copy_has_the_same_ties(name, args):
    """As an engine copies a model, and loads weights by name, each once."""
    model = copy.deepcopy(made(name, **args))
    other = dict(made(name, seed=1, **args).named_parameters())
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(other.pop(key))
    assert not other
    assert torch.equal(model(IDS).logits, made(name, seed=1, **args)(IDS).logits)


def test_which_layers_have_one():
    assert feed_forward_owners(4, "none") == [0, 1, 2, 3]
    assert feed_forward_owners(4, "all") == [0, 0, 0, 0]
    assert feed_forward_owners(5, "interior") == [0, 1, 1, 1, 4]
    assert feed_forward_owners(2, "interior") == [0, 1]
    model = made("byte-0.4m", share_ffn="interior")
    first, second, third, last = (block.gate_up_proj.weight for block in blocks(model))
    assert second is third
    assert len({first, second, last}) == 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("args", CASES)
def test_other_weights_for_one_call_leave_the_model_as_it_was(name, args):
    """As an engine is probed: torch's functional_call once left the replacement in a shared module."""
    model, other = made(name, **args), made(name, seed=1, **args)
    before, weights = model(IDS).logits, dict(other.named_parameters())
    found = torch.func.functional_call(model, weights, (IDS,)).logits
    assert torch.equal(found, other(IDS).logits)
    assert torch.equal(model(IDS).logits, before)
    assert all(isinstance(p, torch.nn.Parameter) and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_a_shared_matrix_are_summed(name):
    """Those of a model whose layers have equal matrices of their own."""
    shared, own = made(name, share_ffn="all"), made(name)
    with torch.no_grad():
        for one, other in zip(blocks(own), blocks(shared), strict=True):
            one.load_state_dict(other.state_dict())
        rest = {key: value for key, value in shared.state_dict().items() if "layers" not in key and "core." not in key}
        own.load_state_dict(rest, strict=False)
    for model in (shared, own):
        model(IDS, labels=IDS).loss.backward()
    summed = sum(block.down_proj.weight.grad for block in blocks(own))
    torch.testing.assert_close(blocks(shared)[0].down_proj.weight.grad, summed, rtol=1e-4, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("args", CASES)
def test_the_llama_of_it_has_equal_logits(args):
    model = made("byte-0.4m", **args)
    llama = to_llama(model)
    torch.testing.assert_close(llama(IDS).logits, model(IDS).logits, rtol=0, atol=2e-5)
    by_name = dict(model.named_parameters())  # as a learner hands them on, each once
    renamed = llama_weights(by_name, model.config)
    assert renamed.keys() == dict(llama.named_parameters()).keys()


def test_half_of_a_product_has_no_name():
    model = made("byte-0.4m", ffn_rank=8)
    weights = model.state_dict()
    for part in ("reduce", "expand"):
        name = f"model.layers.1.down_proj.{part}.weight"
        with pytest.raises(SpiralError, match=f"{part}.weight is one factor of a matrix of low rank"):
            llama_weights({name: weights[name]}, model.config)


@pytest.mark.parametrize("name", NAMES)
def test_impossible_arguments(name):
    with pytest.raises(SpiralError, match="ffn_rank=0"):
        MODELS[name](ffn_rank=0)
    with pytest.raises(ValueError, match="share_ffn is none, all, interior"):
        MODELS[name](share_ffn="some")
