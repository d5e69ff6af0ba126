"""Attention over rows without padding: who sees whom, by brute force, and the tiles that flex attention computes."""

import copy
import random
import sys

import numpy as np
import pytest
import torch
from spiral_models import MODELS
from torch.nn.attention.flex_attention import create_block_mask
from transformers import LlamaConfig, LlamaForCausalLM

from spiral.api.errors import SpiralError
from spiral.config.schema import LearnerConfig
from spiral.engines.torch.grouped_attention import share_keys_of_groups
from spiral.learning import attention as learned
from spiral.learning.attention import prepare_attention
from spiral.learning.row_layout import last_attending
from spiral.models import attention
from spiral.models.attention import attention_of, block_mask, row_mask, set_attention, text_bounds

torch.set_num_threads(1)


def _forest(width, seed, deep=0.9):
    """Positions of a random row of trees: each token one deeper than the one before it, or anywhere above."""
    rng, positions = random.Random(seed), [0]
    while len(positions) < width:
        deepest = positions[-1] + 1
        positions.append(deepest if rng.random() < deep else rng.randint(0, deepest))
    return np.array(positions)


def _seen(positions):
    """(T, T) by walking: a token sees itself and what its parent sees, the last token before it one position up."""
    width = len(positions)
    seen = np.eye(width, dtype=bool)
    for n, position in enumerate(positions):
        if position:
            parent = max(m for m in range(n) if positions[m] == position - 1)
            seen[n] |= seen[parent]
    return torch.from_numpy(seen)


@pytest.mark.parametrize("seed", range(5))
def test_two_columns_a_token_say_what_a_mask_does(seed):
    """Of random trees: the mask of a model with torch's attention is that of the walk."""
    positions = _forest(60, seed, deep=0.7)
    last = torch.from_numpy(last_attending(positions))[None]
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    assert torch.equal(row_mask(model, last, None)[0, 0], _seen(positions))


def _tiles(listed, num):
    return [
        [set(row[:count].tolist()) for row, count in zip(*pair, strict=True)]
        for pair in zip(listed[:, 0], num[:, 0], strict=True)
    ]


@pytest.mark.parametrize("width", [1, 127, 128, 129, 500])
def test_tiles_are_those_of_the_mask(width):
    """Tiles to compute, and those in which all see all, forward and backward, as torch finds them in the whole mask."""
    rows = [_forest(width, seed, deep) for seed, deep in enumerate((0.99, 0.8, 1.0))]
    last = torch.from_numpy(np.stack([last_attending(row) for row in rows]))
    found = block_mask(last)
    torchs = create_block_mask(found.mask_mod, len(rows), None, width, width, device="cpu")
    for kind in ("kv", "full_kv", "q", "full_q"):
        mine, theirs = (
            _tiles(getattr(mask, f"{kind}_indices"), getattr(mask, f"{kind}_num_blocks")) for mask in (found, torchs)
        )
        assert mine == theirs, kind
    assert found.seq_lengths == torchs.seq_lengths == (width, width)


def test_bounds_are_cumulative_lengths():
    """Texts of 3, 1 and 4 tokens: as flash-attention takes them; the longest is the size of a dimension."""
    bounds = text_bounds([0, 3, 4], 8)
    assert bounds.shape == (1, 1, 4, 4)
    assert bounds.dtype == torch.int32
    assert bounds[0, 0, 0].tolist() == [0, 3, 4, 8]


# What is asked for, and what is present


def _llama():
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 3}
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, num_key_value_heads=1, initializer_range=0.3, **sizes)).eval()


def test_on_a_cpu_auto_leaves_the_model_as_it_is():
    """Its configuration too."""
    model = _llama()
    prepare_attention(model, LearnerConfig())
    assert (attention_of(model), model.config._attn_implementation) == ("sdpa", "sdpa")


@pytest.mark.parametrize(
    ("kind", "precision", "reason"),
    [
        ("flex", "float32", r"flex attention has no backward pass on this device \(cpu\)"),
        ("flash", "float32", "flash-attention computes in bfloat16, and learner.precision is float32"),
        ("flash", "mixed", r"flash-attention has no kernel on this device \(cpu\)"),
    ],
)
def test_what_a_cpu_cannot_compute_is_refused(kind, precision, reason):
    """In one sentence, with the way out."""
    with pytest.raises(
        SpiralError, match=rf"^learner.attention is {kind}, and .*{reason}; set learner.attention=auto$"
    ):
        prepare_attention(_llama(), LearnerConfig(attention=kind, precision=precision))


@pytest.mark.parametrize("kind", ["flex", "flash"])
def test_byte_models_keep_theirs(kind):
    """On any device."""
    model, _ = MODELS["byte-0.1m"](context=64)
    with pytest.raises(
        SpiralError, match=f"learner.attention is {kind}, and .* has an attention of its own; set learner"
    ):
        prepare_attention(model, LearnerConfig(attention=kind, precision="mixed"))


@pytest.fixture
def gpu(monkeypatch):
    """Nothing stands in the way of another attention than what it computes."""
    monkeypatch.setattr(learned, "hindrance", lambda model, kind: None)
    monkeypatch.setattr(torch.nn.attention.flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)


def test_an_attention_that_computes_something_else_is_refused(gpu, monkeypatch):
    """The model is then as it was."""
    model = _llama()
    monkeypatch.setattr(attention, "_flex", lambda query, key, value, *_: query.transpose(1, 2) * 0.5)
    with pytest.raises(SpiralError, match=r"with it the log-probabilities of LlamaForCausalLM differ by .* nats; set"):
        prepare_attention(model, LearnerConfig(attention="flex"))
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    with pytest.raises(SpiralError, match=r"LlamaForCausalLM cannot be run with it \(.*flash_attn"):
        prepare_attention(model, LearnerConfig(attention="flash", precision="mixed"))
    assert attention_of(model) == "sdpa"


def test_one_that_computes_the_same_is_taken_and_not_saved(gpu, tmp_path):
    """A saved model names no attention of this program; another learner of the model may ask for another."""
    model = _llama()
    prepare_attention(model, LearnerConfig(attention="flex"))
    assert attention_of(model) == "flex"
    model.save_pretrained(tmp_path)
    assert "spiral" not in (tmp_path / "config.json").read_text()
    prepare_attention(model, LearnerConfig(attention="sdpa"))
    assert attention_of(model) == "sdpa"


def test_adapters_are_looked_through(gpu):
    """The attention is that of the model inside."""
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(_llama(), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    prepare_attention(model, LearnerConfig(attention="flex"))
    assert attention_of(model) == attention_of(model.get_base_model()) == "flex"


@pytest.mark.parametrize("kind", ["sdpa", "flex", "flash"])
def test_an_engine_on_a_gpu_has_its_own_attention_all_the_same(kind):
    """For its copy of a model whose rows a learner lays out otherwise."""
    model = _llama()
    set_attention(model, kind)
    own = copy.deepcopy(model)
    share_keys_of_groups(own)
    assert own.config._attn_implementation == "spiral_grouped"
    assert attention_of(model) == kind


def test_all_else_is_computed_as_before():
    """An engine gives the same model dense masks and caches: the same bits."""
    model, ids = _llama(), torch.arange(1, 13)[None]
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        set_attention(model, "flash")
        assert torch.equal(model(input_ids=ids).logits, plain)
        first = model(input_ids=ids[:, :5], use_cache=True)
        rest = model(input_ids=ids[:, 5:], past_key_values=first.past_key_values).logits
    torch.testing.assert_close(torch.cat([first.logits, rest], 1), plain, atol=1e-5, rtol=1e-5)
