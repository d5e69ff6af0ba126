"""The bytes that a plan counts are those that torch keeps, for each architecture and each way to train it."""

import dataclasses

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from spiral.training.memory.architecture import Adapter, Architecture
from spiral.training.memory.arithmetic import (
    Part,
    activation_bytes,
    cast_bytes,
    engine_parts,
    learner_parts,
    logits_bytes,
    num_trained,
    peak,
)
from spiral.training.memory.settings import EngineSettings, LearnerSettings

TOKENS = 48
SIZES = {"hidden_size": 72, "intermediate_size": 160, "num_attention_heads": 6, "num_key_value_heads": 2}
SIZES |= {"head_dim": 20, "num_hidden_layers": 3, "vocab_size": 128}
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig),
    "mistral": (MistralForCausalLM, MistralConfig),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config),
}
SOME = ("q_proj", "v_proj", "down_proj")


def _model(kind, **sizes):
    model, config = MODELS[kind]
    return model(config(**{**SIZES, **sizes})).eval()


def _adapted(model, rank=4, targets="all-linear"):
    peft = pytest.importorskip("peft")
    return peft.get_peft_model(model, peft.LoraConfig(r=rank, target_modules=targets)).eval()


def _kept(model, autocast=False):
    """Bytes of the distinct tensors that a forward pass over a row keeps for its backward pass, parameters apart, with
    the input of the head."""
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage  # held, so that no other tensor gets its address
        return tensor

    ids, mixed = torch.arange(TOKENS)[None], ("cpu", torch.bfloat16, autocast)
    decoder = model.get_base_model().base_model if hasattr(model, "get_base_model") else model.base_model
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast(*mixed):
        hidden = decoder(input_ids=ids, position_ids=ids, use_cache=False).last_hidden_state[0, torch.arange(TOKENS)]
    return sum(storage.nbytes() for storage in kept.values()) + hidden.nbytes


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("precision", ["float32", "mixed", "bf16"])
def test_activations_are_what_autograd_keeps(kind, precision):
    """To a hundredth, tensor by tensor; the ids and indices of a row are not counted."""
    model = _model(kind)
    settings = LearnerSettings(TOKENS, precision=precision)
    architecture = Architecture.of(model)
    expected = activation_bytes(architecture, settings)
    if precision == "bf16":
        model = model.bfloat16()
    if precision == "mixed":
        head = 2 * architecture.vocabulary * architecture.hidden  # which is not computed here
        expected += cast_bytes(architecture, settings) - head
    assert _kept(model, autocast=precision == "mixed") == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("targets", ["all-linear", SOME])
def test_an_adapter_keeps_less(kind, targets):
    """No input of a frozen norm's weight, and no input of a linear layer that nothing adapts."""
    model = _model(kind)
    architecture = Architecture.of(model)
    model = _adapted(model, targets=targets if targets == "all-linear" else list(targets))
    settings = LearnerSettings(TOKENS, adapter=Adapter.of(model))
    expected = activation_bytes(architecture, settings)
    assert _kept(model) == pytest.approx(expected, rel=0.03)  # the first layer's input needs no gradient
    assert expected < activation_bytes(architecture, LearnerSettings(TOKENS))


def test_checkpoints_keep_the_input_of_each_layer():
    """And what one layer at a time needs when it is computed again."""
    model = _model("llama")
    architecture = Architecture.of(model)
    plain = LearnerSettings(TOKENS)
    saving = dataclasses.replace(plain, checkpoint_activations=True)
    shallow = dataclasses.replace(architecture, layers=1)
    inputs = 4 * TOKENS * architecture.layers * architecture.hidden
    assert activation_bytes(architecture, saving) == activation_bytes(shallow, plain) + inputs
    model.gradient_checkpointing_enable()
    assert _kept(model.train()) < activation_bytes(architecture, saving)


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_counted_once(tied):
    """As torch counts them, a tied head with the embedding."""
    model = _model("qwen3", tie_word_embeddings=tied)
    architecture = Architecture.of(model)
    assert architecture.num_parameters == sum(p.numel() for p in model.parameters())
    assert architecture.layer_parameters == sum(p.numel() for p in model.model.layers[0].parameters())
    assert architecture.tied is tied


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"]])
def test_an_adapter_is_counted_as_peft_makes_it(targets):
    """Rank times inputs and outputs of each layer that it changes; the head is none of `all-linear`."""
    model = _model("llama")
    architecture = Architecture.of(model)
    model = _adapted(model, rank=5, targets=targets)
    adapter = Adapter.of(model)
    assert adapter.rank == 5
    assert architecture.adapter_parameters(adapter) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    if targets == "all-linear":
        assert architecture.adapter_parameters(Adapter(5, ())) == architecture.adapter_parameters(adapter)


def _sizes(parts):
    return {f"{part.holder} {part.name}": part.num_bytes for part in parts}


@pytest.fixture(scope="module")
def architecture():
    return Architecture.of(_model("llama"))


def test_only_what_is_asked_for_is_kept(architecture):
    """Weights, gradients and two moments in float32; each copy is there where the config wants it."""
    n = 4 * architecture.num_parameters
    plain = LearnerSettings(TOKENS)
    sizes = _sizes(learner_parts(architecture, plain))
    assert [sizes[f"learner {name}"] for name in ("weights", "gradients", "optimiser state")] == [n, n, 2 * n]
    assert len(sizes) == 5, "and activations and logits"
    every = dataclasses.replace(plain, average=True, references=2, initial=True, rollback=True)
    extra = {name: size for name, size in _sizes(learner_parts(architecture, every)).items() if name not in sizes}
    assert extra == {
        "learner average": n,
        "learner reference": 2 * n,
        "learner anchor": n,
        "learner weights and state before the step": 3 * n,
    }


def test_an_adapters_learner_keeps_its_base_once(architecture):
    """Gradients, moments and copies are the adapter's: its average and its reference share the base."""
    settings = LearnerSettings(TOKENS, adapter=Adapter(4, SOME), average=True, references=2)
    trained = 4 * num_trained(architecture, settings)
    sizes = _sizes(learner_parts(architecture, settings))
    assert sizes["learner weights"] == 4 * architecture.num_parameters + trained
    assert (sizes["learner gradients"], sizes["learner average"]) == (trained, trained)
    assert sizes["learner optimiser state"] == 2 * trained
    assert sizes["learner reference"] == 2 * trained


def test_half_precision_halves_what_it_is_said_to(architecture):
    """Pure bf16: all of it; mixed: what is computed, and a cast of the weights beside them."""
    n = architecture.num_parameters

    def held(**settings):
        sizes = _sizes(learner_parts(architecture, LearnerSettings(TOKENS, **settings)))
        return [sizes[f"learner {name}"] // n for name in ("weights", "gradients", "optimiser state")]

    assert held(precision="bf16") == [2, 2, 4]
    assert held(precision="mixed") == [4, 4, 8]
    assert held(precision="bf16", optimizer="adamw_8bit") == [2, 2, 2]


def test_logits_are_as_many_as_a_chunk(architecture):
    """Four of (tokens, vocabulary) in float32 and the gradient of the head's weight; two more for a reference."""
    v, head = architecture.vocabulary * 4, 4 * architecture.vocabulary * architecture.hidden
    assert logits_bytes(architecture, LearnerSettings(1000)) == 4 * 1000 * v + head
    assert logits_bytes(architecture, LearnerSettings(1000, chunk_bytes=100 * v)) == 4 * 100 * v + 2 * head
    assert logits_bytes(architecture, LearnerSettings(1000, references=2)) == 6 * 1000 * v + head
    assert logits_bytes(architecture, LearnerSettings(1000, adapter=Adapter(1, ()))) == 4 * 1000 * v


def test_a_sharded_learner_is_spread_and_gathers_two_layers(architecture):
    """Eight devices hold an eighth each; layers are whole while they are computed, and all weights where an engine takes
    them; activations are not shared."""
    settings = LearnerSettings(TOKENS)
    whole, sharded = (_sizes(learner_parts(architecture, settings, shards)) for shards in (1, 8))
    for name in ("learner weights", "learner gradients", "learner optimiser state"):
        assert sharded[name] == -(-whole[name] // 8)
    assert sharded["learner activations"] == whole["learner activations"]
    assert sharded["learner layers gathered from other devices"] >= 4 * 2 * architecture.layer_parameters
    assert sharded["learner whole weights, for the engine"] == whole["learner weights"]


def test_an_engine_has_weights_and_caches_for_each_policy(architecture):
    """Two policies, 10 texts of 100 tokens each; split over two devices by tensor parallelism."""
    engine = EngineSettings(num_policies=2, rows=10, text_tokens=100)
    sizes = _sizes(engine_parts(architecture, LearnerSettings(TOKENS), engine, 1 << 30))
    token = 4 * 2 * 3 * 2 * 20  # float32, keys and values, layers, heads, their size
    assert sizes == {
        "engine weights": 2 * 4 * architecture.num_parameters,
        "engine keys and values": 2 * 10 * 100 * token,
    }
    halves = dataclasses.replace(engine, tensor_parallel=2)
    assert _sizes(engine_parts(architecture, LearnerSettings(TOKENS), halves, 1 << 30)) == {
        name: size // 2 for name, size in sizes.items()
    }


def test_an_engine_that_takes_a_share_takes_it(architecture):
    """vLLM on a GPU: each of its engines takes a share of the device, whatever it needs."""
    engine = EngineSettings(num_policies=2, rows=10, text_tokens=100, claims=0.25)
    parts = engine_parts(architecture, LearnerSettings(TOKENS), engine, 1 << 30)
    assert sum(part.num_bytes for part in parts) == 1 << 29


def test_the_peak_is_that_of_the_larger_phase():
    """Playing and learning take turns; what an engine that sleeps has, the learner may use."""
    parts = [Part("learner", "a", 5), Part("learner", "b", 3, "learning"), Part("engine", "c", 4, "playing")]
    assert peak(parts) == 9
