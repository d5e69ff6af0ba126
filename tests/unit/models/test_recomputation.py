"""Activations that are computed again change memory, and nothing that is learned."""

import pytest
import torch
from spiral_models import MODELS
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from spiral.api.errors import SpiralError
from spiral.learning.objective import Objective
from spiral.learning.packing import pack_samples
from spiral.learning.policy_loss import PolicyLoss
from spiral.learning.samples import Sample
from spiral.models.recomputation import decoder_layers, recomputed

torch.set_num_threads(1)

LAYERS = 4


def _llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=272, hidden_size=32, intermediate_size=48, num_hidden_layers=LAYERS, num_attention_heads=2,
            num_key_value_heads=1, initializer_range=0.2,
        )
    ).eval()  # fmt: skip


def _gpt2():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=272, n_positions=64, n_embd=32, n_layer=LAYERS, n_head=2, resid_pdrop=0.5)
    return GPT2LMHeadModel(config).eval()


def _byte():
    torch.manual_seed(0)
    return MODELS["byte-0.1m"](context=64)[0].eval()


def _adapted():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", lora_dropout=0.5)
    return peft.get_peft_model(_llama(), config).eval()


def _patched():
    torch.manual_seed(0)
    return MODELS["patch-0.1m"](context=64, pooling="fixed", patch=2)[0].eval()  # patches end in six bytes


KINDS = {"llama": _llama, "gpt2": _gpt2, "byte": _byte, "patched": _patched, "adapter": _adapted}


def _gradients(model, checkpoint_activations):
    batches = pack_samples([Sample((1, 2, 3), (4, n, 6), (-5.0,) * 3, 1.0, -0.5, 1) for n in range(5)], 10**6)
    loss = PolicyLoss(model, checkpoint_activations=checkpoint_activations)
    model.zero_grad()
    (-loss(batches[0], Objective(entropy=0.1)).objective).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_without_checkpointing(kind):
    """Of models of transformers, whose dropout stays off, of byte models, flat and patched, and of adapters."""
    model = KINDS[kind]()
    plain = _gradients(model, False)
    assert max(gradient.norm() for gradient in plain.values()) > 1e-3
    torch.testing.assert_close(_gradients(model, True), plain, atol=1e-6, rtol=1e-6)


def test_adapters_of_all_layers_learn_over_frozen_embeddings():
    """Four layers and a step: each B matrix, zeros before, has moved."""
    model = _adapted()
    assert not model.get_input_embeddings().weight.requires_grad
    gradients = _gradients(model, True)
    moved = [name for name, gradient in gradients.items() if "lora_B" in name and gradient.norm() > 0]
    assert len(moved) == 2 * LAYERS


@pytest.mark.parametrize("kind", KINDS)
def test_each_layer_is_computed_twice_and_keeps_little(kind):
    """A layer's first product is computed once, and once more in the backward pass; of all numbers that the graph keeps
    outside of layers' own second pass, less than half is left."""
    model = KINDS[kind]()
    calls, kept = [], {}
    layers = decoder_layers(model)
    # Of a patched model, two over bytes besides.
    assert len(layers) == model.config.num_hidden_layers + 2 * (kind == "patched")
    for layer in layers:
        product = next(m for m in layer.modules() if isinstance(m, torch.nn.Linear) or "Conv1D" in type(m).__name__)
        # Without gradients the head is only looked for.
        product.register_forward_hook(lambda module, *_: calls.append(module) if torch.is_grad_enabled() else None)
    for switched_on in (False, True):
        calls.clear()
        numbers = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, to=numbers: (to.append(t.numel()), t)[1], lambda t: t):
            _gradients(model, switched_on)
        kept[switched_on] = sum(numbers)
        assert len(calls) == len(layers) * (1 + switched_on)
    assert kept[True] < 0.5 * kept[False]


def test_a_model_is_itself_before_and_after():
    """Nothing stays on the layers, whatever happened in the forward pass; without gradients nothing is kept at all."""
    model = _llama()
    layers = decoder_layers(model)
    ids = torch.arange(5)[None]
    with torch.no_grad(), recomputed(layers):
        inside = model(input_ids=ids).logits
    assert torch.equal(inside, model(input_ids=ids).logits)
    with pytest.raises(ZeroDivisionError), recomputed(layers):
        raise ZeroDivisionError
    assert not any("forward" in vars(layer) for layer in layers)


def test_a_model_without_a_list_of_layers_is_one_sentence():
    """What the setting was, what the model lacks, what to do."""
    model = _llama()
    model.config.num_hidden_layers = 7
    with pytest.raises(SpiralError, match=r"checkpoint_activations is true, and LlamaForCausalLM has no list of its 7"):
        PolicyLoss(model, checkpoint_activations=True)
