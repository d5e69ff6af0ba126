"""The learner `lora`: which layers get an adapter, what it starts as, what its reference is, and what reaches an engine."""

import math
import sys
from functools import partial

import pytest
import torch
from accelerate import Accelerator
from spiral_models import MODELS
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from spiral.api.errors import PluginError, RunError, SpiralError
from spiral.api.records import LEARNER, Request, Sampling
from spiral.config.schema import LearnerConfig
from spiral.engines.torch.engine import TorchEngine
from spiral.engines.vllm.adapters import base_weights
from spiral.engines.vllm.form import ModelForm
from spiral.learning.full_learner import FullLearner
from spiral.learning.lora import prepare
from spiral.models.adapted import copied, merged
from spiral.models.logits import parameters
from spiral.plugins.registry import Plugins
from spiral.testing.engines import answered, logprob_gap, one_turn_batch

peft = pytest.importorskip("peft")

torch.set_num_threads(1)

IDS = torch.arange(5, 25)[None]
_run = partial(answered, max_steps=200)


def _llama(tied=True):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=272,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        tie_word_embeddings=tied,
        initializer_range=0.1,
    )
    return LlamaForCausalLM(config).eval()


def _byte():
    torch.manual_seed(0)
    return MODELS["byte-0.1m"](context=128)[0].eval()


def _gpt2():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=272, n_embd=32, n_layer=2, n_head=2, n_positions=128)).eval()


@torch.no_grad()
def _moved(model, by=0.05):
    """As training leaves it: B is zeros in a fresh one."""
    generator = torch.Generator().manual_seed(3)
    for weight in parameters(model).values():
        weight.add_(by * torch.randn(weight.shape, generator=generator))
    return model


@torch.no_grad()
def _logprobs(model):
    return torch.log_softmax(model(input_ids=IDS).logits[0], -1)


def _adapted_layers(model):
    return {name.split(".lora_A.")[0].rpartition(".")[2] for name in parameters(model) if ".lora_A." in name}


def _requests(first=0, num=8):
    prompts = [tuple((7 * n + 13 * i + i * i) % 256 for i in range(3 + 5 * (n % 4))) for n in range(num)]
    return [Request(first + n, LEARNER, prompt, Sampling(6, ()), seed=n * 977 + 5) for n, prompt in enumerate(prompts)]


def _batch(model, step=0):
    """What a torch engine with the model's weights of now sampled."""
    engine = TorchEngine(model, None)
    engine.load_weights(LEARNER, parameters(model), step)
    requests = _requests(first=100 * step)
    return one_turn_batch(requests, _run(engine, requests))


def _learner(model, **config):
    settings = {"anchor": 0.0, "ema": 0.0, "ratio_tolerance": 1e-4, "lr": 1e-2, **config}
    return FullLearner(model, LearnerConfig(**settings), 10, Accelerator(cpu=True))


# The adapter


@pytest.mark.parametrize(
    ("make", "layers"),
    [
        (_llama, {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        (_byte, {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}),
        (_gpt2, {"c_attn", "c_proj", "c_fc"}),
        (partial(_llama, tied=False), {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
    ],
    ids=["llama", "byte", "gpt2", "untied"],
)
def test_every_linear_layer_but_the_head_gets_an_adapter(make, layers):
    """Whatever the architecture calls them; all else is frozen, and the model is as it was, bit for bit."""
    before = _logprobs(make())
    model = prepare(make(), rank=4)
    assert _adapted_layers(model) == layers
    assert parameters(model).keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(not module.training for module in model.modules())
    assert torch.equal(_logprobs(model), before)


def test_the_first_matrix_descends_from_the_seed():
    """Of torch's global generator, which a run seeds before it makes its model; the second matrix is zeros."""
    made = []
    for seed in (0, 0, 1):
        model = _llama()
        torch.manual_seed(seed)
        made.append(parameters(prepare(model, rank=4, targets=["q_proj"])))
    for name, weight in made[0].items():
        assert torch.equal(weight, made[1][name])
        assert torch.equal(weight, made[2][name]) == (".lora_B." in name)
        assert bool(weight.any()) == (".lora_A." in name)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 12 / 4), (True, 12 / math.sqrt(4))])
def test_the_product_is_scaled_by_alpha_over_the_rank_or_its_root(rslora, scale):
    """By hand: the merged matrix is W + scale B A."""
    model = _moved(prepare(_llama(), rank=4, alpha=12, targets=["q_proj"], rslora=rslora))
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    expected = layer.base_layer.weight + scale * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    torch.testing.assert_close(merged(model).model.layers[0].self_attn.q_proj.weight, expected)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["query_key_value"], r"targets \[query_key_value\], and no layer is called query_key_value; the model's layers"
                              r" are down_proj, embed_tokens, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, "
                              r"v_proj; name some of these, or leave targets out"),
        (["q_proj", "proj"], "no layer is called proj"),
        (["self_attn"], "no layer is called self_attn"),
        ([], r"targets \[\], and that names no layer; the model's layers are down_proj"),
        (["q_proj", "lm_head"], "an adapter of lm_head, and this model's head and embedding are one matrix"),
        (["embed_tokens"], "an adapter of model.embed_tokens, and this model's head and embedding are one matrix"),
    ],
)  # fmt: skip
def test_targets_that_cannot_be_adapted_are_refused(targets, said):
    """One sentence: asked, what layers there are, what to do. peft would take a list of which one name matches, and an
    adapter of a tied head, which changes the embedding when it is merged."""
    with pytest.raises(SpiralError, match=said):
        prepare(_llama(), targets=targets)


@pytest.mark.filterwarnings("error")
def test_a_head_of_its_own_may_have_an_adapter():
    """The embedding stays as it is, and log-probabilities live are those merged."""
    model = _moved(prepare(_llama(tied=False), rank=4, targets=["lm_head", "q_proj"]))
    assert _adapted_layers(model) == {"lm_head", "q_proj"}
    other = merged(model)
    assert torch.equal(other.get_input_embeddings().weight, _llama(tied=False).get_input_embeddings().weight)
    torch.testing.assert_close(_logprobs(other), _logprobs(model), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"rank": 0}, "rank=0 and alpha=32; each must be 1 or more"),
        ({"alpha": 0}, "rank=16 and alpha=0; each must be 1 or more"),
    ],
)
def test_numbers_that_make_no_adapter_are_refused(args, said):
    with pytest.raises(SpiralError, match=said):
        prepare(_llama(), **args)


def test_what_full_training_has_beside_an_adapter_is_no_argument():
    """Modules trained whole would stay on when the adapter is off, and dropout would train another policy than played."""
    for argument in ("modules_to_save", "dropout", "bias"):
        with pytest.raises(PluginError, match=f"'{argument}'; its arguments are: rank, alpha, targets, rslora"):
            Plugins.installed().make("learner", "lora", None, **{argument: 1})


def test_a_model_that_has_an_adapter_is_refused():
    with pytest.raises(SpiralError, match="a model with an adapter already"):
        prepare(prepare(_llama()))


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(SpiralError, match=r'learner lora needs peft .*pip install "spiral-selfplay\[lora\]"'):
        Plugins.installed().find("learner", "lora").factory.prepare(_llama())


# The update


def test_the_adapter_off_is_the_base():
    """After updates too, to the last bit: nothing but the two matrices was trained."""
    model = prepare(_llama(), rank=4)
    learner = _learner(model)
    for step in range(2):
        learner.update(_batch(model, step), step, 8)
    live = _logprobs(model)
    with model.disable_adapter():
        off = _logprobs(model)
    assert torch.equal(off, _logprobs(_llama()))
    assert (live - off).abs().max() > 1e-3


def test_the_reference_is_the_policy_that_the_run_began_with():
    """A warm start trained the adapter: KL at step 0 is 0, not that to the base; with reference_every 0 it stays there,
    also in a learner that goes on from the state. It costs an adapter: of the base there is one."""
    model = _moved(prepare(_llama(), rank=4))
    start = _logprobs(model)
    learner = _learner(model, kl=0.1, reference_every=0)
    found = []
    for step in range(3):
        found.append(learner.update(_batch(model, step), step, 8)["learner/kl"])
    assert abs(found[0]) < 1e-6
    assert min(found[1:]) > 1e-4
    reference = learner._reference.lm.model
    assert torch.equal(_logprobs(reference), start)
    shared = {p.data_ptr() for p in reference.parameters()} & {p.data_ptr() for p in model.parameters()}
    assert len(shared) == len([*model.parameters()]) - len(parameters(model))
    state = learner.state()
    assert state["tensors"].keys() == {"live", "reference"}
    other = _learner(prepare(_llama(), rank=4), kl=0.1, reference_every=0)
    other.load_state(state)
    assert torch.equal(_logprobs(other._reference.lm.model), start)


def test_a_reference_that_no_checkpoint_holds_is_refused():
    """Asked for on a resume alone, the policy of the start is gone."""
    state = _learner(prepare(_llama(), rank=4)).state()
    with pytest.raises(RunError, match="reference_every=0 needs the policy that the run began with, and its checkpoin"):
        _learner(prepare(_llama(), rank=4), kl=0.1, reference_every=0).load_state(state)


def test_ratios_are_one_at_the_first_update_whatever_dropout_the_adapter_has():
    """A loader may leave the model in training mode, with dropout of one half in its adapter."""
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], lora_dropout=0.5)
    model = _moved(peft.get_peft_model(_llama(), config)).train()
    learner = _learner(model, clip=0.2)
    batch = _batch(copied(model))
    stats = learner.update(batch, 0, 8)
    assert stats["learner/ratio_gap"] < 1e-5
    assert stats["learner/clipped"] == 0


def test_a_checkpoint_of_another_rank_is_refused():
    """By its first tensor that does not fit; and that of a learner of all weights by its names."""
    state = _learner(prepare(_llama(), rank=8)).state()
    learner = _learner(prepare(_llama(), rank=4))
    with pytest.raises(RunError, match=r"belong to another model: .*lora_A.default.weight is \(8, .*needs \(4, "):
        learner.load_state(state)
    with pytest.raises(RunError, match="belong to another model"):
        learner.load_state(_learner(_llama()).state())


# Engines


def test_a_loaded_adapter_is_frozen_and_in_eval_mode():
    """Of a snapshot in the torch engine: no module is in training mode, no weight has a gradient, two answers agree."""
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], lora_dropout=0.5)
    model = peft.get_peft_model(_llama(), config).eval()
    snapshot = {name: weight.clone() for name, weight in parameters(_moved(copied(model))).items()}
    engine = TorchEngine(model, None)
    engine.load_weights(LEARNER, snapshot, 0)
    kept = engine._lanes[LEARNER]._passes._lm.model
    assert all(not module.training for module in kept.modules())
    assert not any(weight.requires_grad for weight in parameters(kept).values())
    assert torch.equal(_logprobs(kept), _logprobs(kept))
    assert all(not module.training for module in model.modules())


@pytest.mark.parametrize(("make", "rslora"), [(_llama, False), (_llama, True), (_byte, False)])
def test_what_an_engine_loads_is_the_base_and_the_scaled_product(make, rslora):
    """Taken as vLLM's load takes it, and kept while the trainer merges and unmerges: base + B A is W + scale B A of
    every adapted matrix, not W."""
    model = _moved(prepare(make(), rank=4, alpha=12, rslora=rslora))
    form = ModelForm.of(model, None)
    received = form.adapter.as_vllm_reads(form.renamed(parameters(model)))
    base = {name: weight.clone() for name, weight in form.base().items()}
    model.merge_adapter()
    model.unmerge_adapter()
    expected = _as_vllm_names(merged(model))
    places = [name.removesuffix(".lora_A.weight") for name in received if name.endswith(".lora_A.weight")]
    assert len(places) == 14
    for place in places:
        product = received[f"{place}.lora_B.weight"] @ received[f"{place}.lora_A.weight"]
        name = place.removeprefix("base_model.model.") + ".weight"
        torch.testing.assert_close(base[name] + product, expected[name], rtol=0, atol=1e-6)
        assert product.abs().max() > 1e-2


def _as_vllm_names(model):
    weights = base_weights(model)
    return model.standard_weights(weights) if hasattr(model, "standard_weights") else weights


def test_a_run_is_sampled_from_its_adapter():
    """The torch engine after a load answers as the merged model, and not as the base."""
    model = _moved(prepare(_llama(), rank=4))
    engine = TorchEngine(model, None)
    engine.load_weights(LEARNER, parameters(model), 0)
    done = _run(engine, _requests())
    assert logprob_gap(merged(model), _requests(), done) < 1e-5
    assert logprob_gap(_llama(), _requests(), done) > 0.01
