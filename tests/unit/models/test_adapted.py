"""Models that peft wrapped: what their weights are, what is scored, what copies share, and what learns."""

import copy
import sys
from functools import partial

import pytest
import torch
from accelerate import Accelerator
from spiral_models import MODELS
from transformers import LlamaConfig, LlamaForCausalLM

from spiral.api.errors import RunError, SpiralError
from spiral.api.records import LEARNER, Request, Sampling
from spiral.config.schema import LearnerConfig
from spiral.engines.probe import EVERY, ProbedEngine
from spiral.engines.torch.engine import TorchEngine
from spiral.learning.full_learner import FullLearner
from spiral.models.adapted import copied
from spiral.models.logits import TokenLogits, load_parameters, parameters
from spiral.models.own_forward import check_own_forward
from spiral.testing.engines import answered, logprob_gap, one_turn_batch

peft = pytest.importorskip("peft")

torch.set_num_threads(1)

_run = partial(answered, max_steps=200)


def _base(kind="llama"):
    torch.manual_seed(0)
    if kind != "llama":
        return MODELS["byte-0.1m"](context=128)[0].eval()
    config = LlamaConfig(
        vocab_size=272,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


def _adapted(kind="llama", seed=1, **config):
    """An adapter that changes what the model says: B is zeros in a fresh one."""
    modules = ["q_proj", "v_proj", "down_proj"] if kind == "llama" else ["qkv_proj", "down_proj"]
    settings = {"r": 4, "lora_alpha": 8, "target_modules": modules, "lora_dropout": 0.5, **config}
    # With a task peft names arguments to the model that byte models do not have.
    task = "CAUSAL_LM" if kind == "llama" else None
    model = peft.get_peft_model(_base(kind), peft.LoraConfig(task_type=task, **settings))
    return _moved(model, seed)


@torch.no_grad()
def _moved(model, seed):
    """Other weights, of the adapter alone."""
    generator = torch.Generator().manual_seed(seed)
    for weight in parameters(model).values():
        weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return model


def _requests(policy=LEARNER, first=0, num=8):
    prompts = [tuple((7 * n + 13 * i + i * i) % 256 for i in range(3 + 5 * (n % 4))) for n in range(num)]
    return [Request(first + n, policy, prompt, Sampling(6, ()), seed=n * 977 + 5) for n, prompt in enumerate(prompts)]


kinds = pytest.mark.parametrize("kind", ["llama", "byte"])

# Weights


@kinds
def test_the_weights_of_an_adapted_model_are_its_adapters(kind):
    """Not those of the base, whichever have gradients; a model without an adapter has all of its own."""
    model = _adapted(kind)
    names = parameters(model).keys()
    assert names == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(".lora_A.default." in name or ".lora_B.default." in name for name in names)
    assert parameters(copy.deepcopy(model).requires_grad_(False)).keys() == names
    assert parameters(_base(kind)).keys() == {name for name, _ in _base(kind).named_parameters()}


def test_weights_of_the_base_are_refused():
    """One sentence; nothing is loaded half."""
    with pytest.raises(RunError, match="belong to another model"):
        load_parameters(_adapted(), parameters(_base()))
    with pytest.raises(RunError, match="belong to another model: .*lora_A.default.weight is "):
        load_parameters(_base(), parameters(_adapted()))


def test_of_two_adapters_the_active_one_is_the_models():
    """Another one, such as a reference, stays where it is; two at once are refused."""
    model = _adapted()
    model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["q_proj"]))
    assert all(".default." in name for name in parameters(model))
    model.set_adapter("other")
    assert {p.shape[0] for name, p in parameters(model).items() if "lora_A" in name} == {2}
    model.base_model.set_adapter(["default", "other"])
    with pytest.raises(SpiralError, match="2 active adapters .default, other., and a policy is one adapter"):
        parameters(model)


def test_a_merged_adapter_is_refused():
    """Its base would answer for every adapter that is loaded, and the scores would agree with the engine's."""
    model = _adapted()
    model.merge_adapter()
    with pytest.raises(SpiralError, match="the model's adapter is merged into its base.*call unmerge_adapter"):
        TokenLogits(model)
    model.unmerge_adapter()
    TokenLogits(model)


def test_a_copy_shares_the_base_and_nothing_else():
    """A change of the copy's adapter leaves the model's alone; of a model without an adapter nothing is shared."""
    model = _adapted()
    other = copied(model)
    own = parameters(model).keys()
    theirs = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        assert (theirs[name].data_ptr() == parameter.data_ptr()) == (name not in own), name
    before = {name: weight.clone() for name, weight in parameters(model).items()}
    _moved(other, 5)
    assert all(torch.equal(weight, before[name]) for name, weight in parameters(model).items())
    base = _base()
    shared = {p.data_ptr() for p in base.parameters()} & {p.data_ptr() for p in copied(base).parameters()}
    assert not shared


# Scores


@kinds
def test_what_is_scored_is_the_adapted_model(kind):
    """The head runs where a logit is wanted, over the trunk whose layers carry the adapter: as the model's own forward,
    dropout off, and not as the base's. With masks and over a cache too."""
    model = _adapted(kind)
    lm = TokenLogits(model)
    assert lm.splits_head
    check_own_forward(model)
    ids = torch.arange(5, 25)[None]
    rows, columns = torch.zeros(20, dtype=torch.long), torch.arange(20)
    found = lm(ids, columns[None], None, rows, columns)
    with torch.no_grad():
        expected = model(input_ids=ids).logits[0]
        with model.disable_adapter():
            base = model(input_ids=ids).logits[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (expected - base).abs().max() > 0.1


# The torch engine


@kinds
def test_the_torch_engine_answers_as_the_adapted_model_after_each_load(kind):
    """Three versions in a row, through the probe; each policy with its own adapter, both at once."""
    model = _adapted(kind)
    engine = TorchEngine(model, None)
    probed = ProbedEngine(engine, model)
    first = {name: weight.clone() for name, weight in parameters(model).items()}
    probed.load_weights("snapshot:0", first, 0)
    for version in range(3):
        _moved(model, 10 + version)
        probed.load_weights(LEARNER, parameters(model), 8 * version)
        mine, theirs = _requests(), _requests("snapshot:0", first=100)
        done = _run(probed, mine + theirs)
        assert logprob_gap(model, mine, done) < 2e-5
        old = copied(model)
        load_parameters(old.requires_grad_(False), first)
        assert logprob_gap(old, theirs, done) < 2e-5
        assert logprob_gap(model, theirs, done) > 0.01


@pytest.mark.parametrize(
    "config",
    [
        {"use_dora": True},
        {"modules_to_save": ["norm"]},
        {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
        {"trainable_token_indices": [3, 7]},
        {"target_modules": "all-linear", "use_rslora": True, "rank_pattern": {"down_proj": 12}},
    ],
    ids=lambda config: next(iter(config)),
)
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_the_torch_engine_takes_every_form_of_adapter(config):
    """Also those that vLLM has nothing for: all that training changes is among the weights, and is loaded."""
    model = _adapted(**config)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == parameters(model).keys()
    engine = TorchEngine(model, None)
    for version in range(2):
        now = _moved(copied(model), 20 + version)
        engine.load_weights(LEARNER, parameters(now), version)
        done = _run(engine, _requests())
        assert logprob_gap(now.eval(), _requests(), done) < 1e-4
        assert logprob_gap(model, _requests(), done) > 0.01


def test_lanes_share_the_base_and_a_load_moves_only_its_own():
    """A snapshot costs its adapter; the base is in memory once, whoever plays, and the learner's stays trainable."""
    model = _adapted()
    engine = TorchEngine(model, None)
    own = parameters(model).keys()
    for policy in (LEARNER, "snapshot:1", "snapshot:2"):
        engine.load_weights(policy, parameters(model), 0)
    lanes = [dict(engine._lanes[policy]._passes._lm.model.named_parameters()) for policy in engine._lanes]
    for name, parameter in model.named_parameters():
        places = {lane[name].data_ptr() for lane in lanes} | {parameter.data_ptr()}
        assert len(places) == (4 if name in own else 1), name
        assert parameter.requires_grad == (name in own)
    before = {name: weight.clone() for name, weight in parameters(model).items()}
    other = {name: weight + 1 for name, weight in before.items()}
    engine.load_weights("snapshot:1", other, 1)
    for place in (lanes[0], lanes[2], dict(model.named_parameters())):
        assert all(torch.equal(place[name], before[name]) for name in own)
    assert all(torch.equal(lanes[1][name], other[name]) for name in own)


def test_an_engine_that_serves_the_base_is_found():
    """The probe stops the run, and says that the adapter was not applied; where it is another adapter, that the load
    changed nothing."""
    model = peft.get_peft_model(_base(), peft.LoraConfig(target_modules=["q_proj"]))  # B is zeros: as the base
    zeros = {name: weight.clone() for name, weight in parameters(model).items()}
    for first, cause in (
        (zeros, "as the base model does, so the adapter was not applied; take"),
        (None, "as it did be"),
    ):
        engine = TorchEngine(model, None)
        probed = ProbedEngine(engine, model)
        probed.load_weights(LEARNER, first or parameters(_moved(copied(model), 1)), 0)
        engine._lanes[LEARNER].load = lambda policy, weights, version: None
        with pytest.raises(RunError, match=rf"\d nats away from the model's own .at most 0.001.; it answers {cause}"):
            probed.load_weights(LEARNER, parameters(_moved(copied(model), 2)), EVERY)


# The learner


def _learner(model, **config):
    settings = {"anchor": 0.0, "ratio_tolerance": 1e-4, "lr": 1e-2, **config}
    return FullLearner(model, LearnerConfig(**settings), 10, Accelerator(cpu=True))


def _batch(engine, step, num=8):
    requests = _requests(first=100 * step, num=num)
    done = _run(engine, requests)
    return one_turn_batch(requests, done)


def test_the_learner_trains_the_adapter_alone_and_scores_what_was_sampled():
    """Over three updates: the base stays bit for bit, the adapter moves, no ratio on a fresh batch differs from 1, with
    dropout in the adapter's configuration. Average, reference and anchor share the base."""
    model = _adapted()
    base = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    learner = _learner(model, kl=0.1, anchor=0.1, anchor_to="initial", ema=0.9)
    engine = TorchEngine(model, None)
    for step in range(3):
        before = {name: weight.clone() for name, weight in learner.weights().items()}
        engine.load_weights(LEARNER, learner.weights(), step)
        stats = learner.update(_batch(engine, step), step, 8)
        assert stats["learner/ratio_gap"] < 2e-5
        assert stats["learner/grad_norm"] > 0
        assert all(not torch.equal(weight, before[name]) for name, weight in learner.weights().items())
    for kept in (model, learner._average.model, learner._reference.lm.model, learner._initial.model):
        found = dict(kept.named_parameters())
        assert all(torch.equal(found[name], weight) for name, weight in base.items())
        assert all(found[name].data_ptr() == p.data_ptr() for name, p in model.named_parameters() if name in base)
    assert learner.averaged().keys() == learner.weights().keys()
    assert any(not torch.equal(weight, learner.weights()[name]) for name, weight in learner.averaged().items())


def test_a_learners_state_holds_the_adapter_and_goes_on():
    """Of the base nothing is saved; a second learner that loads the state makes the same update."""
    engine = TorchEngine(_adapted(), None)
    learners = [_learner(_adapted(), ema=0.9, ratio_tolerance=1e9) for _ in range(2)]
    engine.load_weights(LEARNER, learners[0].weights(), 0)
    batch = _batch(engine, 0)
    learners[0].update(batch, 0, 8)
    state = copy.deepcopy(learners[0].state())
    assert all("lora_" in name for weights in state["tensors"].values() for name in weights)
    learners[1].load_state(state)
    for learner in learners:
        learner.update(batch, 1, 8)
    for name, weight in learners[0].weights().items():
        assert torch.equal(weight, learners[1].weights()[name]), name


def test_what_would_be_trained_and_never_played_is_refused():
    """A bias beside the adapter is the base's: the engine would never get it."""
    model = _adapted()
    model.get_base_model().model.norm.weight.requires_grad_(True)
    with pytest.raises(SpiralError, match=r"norm.weight would be trained, and only the adapter's own weights reach"):
        _learner(model)


def test_nothing_of_spiral_loads_peft():
    """It is an extra: whoever wraps a model brings it."""
    import subprocess

    code = (
        "import sys; sys.modules['peft'] = None\n"
        "from spiral.models.logits import parameters\nfrom spiral.engines.torch.engine import TorchEngine\n"
        "import spiral.engines.vllm.engine, spiral.learning.full_learner\n"
        "from torch import nn\nassert len(parameters(nn.Linear(2, 2))) == 2"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
