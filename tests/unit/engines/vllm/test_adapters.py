"""Adapters in vLLM itself: each policy answers with its own, whatever was loaded, cached and dropped before.

One engine for most of the module, since each takes seconds to start; without vLLM the module is skipped. With a fake
vLLM, in test_faults.py: what is refused, faults, what is made anew.
"""

import os
import typing
from functools import partial
from pathlib import Path

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
from spiral.engines.vllm.adapters import RANKS
from spiral.engines.vllm.engine import VllmEngine
from spiral.learning.full_learner import FullLearner
from spiral.models.adapted import copied
from spiral.models.logits import load_parameters, parameters
from spiral.testing.engines import answered, logprob_gap, one_turn_batch

pytest.importorskip("vllm")
peft = pytest.importorskip("peft")

TOLERANCE = 2e-5
"""Nats between vLLM and one forward pass of a tiny model, in float32."""
MODEL_FOLDER = os.environ.get("SPIRAL_TEST_MODEL", "")
"""A folder of a pretrained model with a tied head, for the slow test."""
SNAPSHOT = "snapshot:0"

_run = partial(answered, max_steps=500)


def _adapted(base=None, **config):
    """A small Llama with a tied head. Of the matrices that vLLM joins only some have adapters; ranks and scales differ
    by layer."""
    torch.manual_seed(0)
    llama = LlamaConfig(
        vocab_size=272,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.1,
    )
    settings = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj", "gate_proj", "down_proj"],
        "rank_pattern": {"layers.1.mlp.down_proj": 12},
        "alpha_pattern": {"v_proj": 2},
        "lora_dropout": 0.5,
        **config,
    }
    return peft.get_peft_model(base or LlamaForCausalLM(llama), peft.LoraConfig(**settings)).eval()


@torch.no_grad()
def _moved(model, seed, by=0.2):
    """The model over the same base with another adapter."""
    generator, other = torch.Generator().manual_seed(seed), copied(model).requires_grad_(False)
    for weight in parameters(other).values():
        weight.add_(by * torch.randn(weight.shape, generator=generator))
    return other


@pytest.fixture(scope="module")
def model():
    return _adapted()


@pytest.fixture(scope="module")
def shared(model):
    return VllmEngine(model, capacity=3)


@pytest.fixture
def engine(shared):
    """The engine of the module, without a policy."""
    for policy in list(shared._of):
        shared.drop(policy)
    return shared


def _vllm(engine):
    [instance] = engine._instances
    return instance._backend._engine


def _ids(length, salt):
    return tuple((7 * salt + 13 * i + i * i) % 256 for i in range(length))


def _requests(policy=LEARNER, first=0, num=12, tokens=8):
    """Lone prompts, and prompts that share blocks of the cache."""
    common = _ids(100, 5)
    prompts = [_ids(1 + 9 * k, k) for k in range(num // 2)] + [common + _ids(3 + k % 3, k) for k in range(num // 2)]
    return [
        Request(first + n, policy, prompt, Sampling(tokens, tuple(range(0, 272, 12))), seed=977 * n + 3)
        for n, prompt in enumerate(prompts)
    ]


@pytest.fixture
def steps(engine, monkeypatch):
    """Of each step of vLLM's from here on: request -> prompt tokens that were read from the prefix cache."""
    vllm, found = _vllm(engine), []
    step = type(vllm).step

    def counting():
        outputs = step(vllm)
        found.append({o.request_id: o.num_cached_tokens for o in outputs if o.finished})
        return outputs

    monkeypatch.setattr(vllm, "step", counting, raising=False)
    return found


# Exactness


def test_log_probs_are_those_of_each_policys_adapter_with_and_without_cache_hits(engine, model, steps):
    """Over three loads, with a cold cache and a warm one, the requests of two policies in the batches of one vLLM
    engine: vLLM = one forward pass = the torch engine's samples scored. Each completion names its version."""
    first = _moved(model, 100)
    engine.load_weights(SNAPSHOT, parameters(first), 7)
    for version in range(3):
        now = _moved(model, version)
        engine.load_weights(LEARNER, parameters(now), version)
        mine, theirs = _requests(), _requests(SNAPSHOT, first=100)
        steps.clear()
        cold = _run(engine, mine + theirs)
        assert len(steps) < 2 * 8 + 4  # one batch, not one a policy
        found = {key: cached for step in steps for key, cached in step.items()}
        assert found[str(mine[5].id)] == 0  # the longest lone prompt: a hit would be another version's
        steps.clear()
        warm = _run(engine, mine + theirs)
        assert sum(cached for step in steps for cached in step.values()) > sum(found.values()) > 0
        for done in (cold, warm):
            assert logprob_gap(now, mine, done) < TOLERANCE
            assert logprob_gap(first, theirs, done) < TOLERANCE
            assert logprob_gap(now, theirs, done) > 0.01
            assert {done[r.id].version for r in mine} == {version}
            assert {done[r.id].version for r in theirs} == {7}
        torch_engine = TorchEngine(model, None)
        torch_engine.load_weights(LEARNER, parameters(now), version)
        assert logprob_gap(now, mine, _run(torch_engine, mine)) < TOLERANCE
    assert len(_vllm(engine).list_loras()) == 2


def test_the_learner_scores_what_vllm_sampled_as_vllm_did(engine):
    """Over three updates of the adapter: no ratio on a fresh batch differs from 1 by more than 2e-5, with the dropout
    that the adapter's configuration has."""
    model = _adapted()
    learner = FullLearner(model, LearnerConfig(anchor=0.0, kl=0.0, lr=1e-2), 4, Accelerator(cpu=True))
    for step in range(3):
        engine.load_weights(LEARNER, learner.weights(), step)
        requests = _requests(first=100 * step)
        done = _run(engine, requests)
        stats = learner.update(one_turn_batch(requests, done), step, len(requests))
        assert stats["learner/ratio_gap"] < TOLERANCE
        assert stats["learner/grad_norm"] > 0


def test_a_prompt_shares_nothing_with_another_version_or_policy(engine, model, steps, monkeypatch):
    """The same prompt under v1, v2 and another policy, the cache warm: the first time under each reads no block. So it
    is too where the salt is missed, since an adapter's name is used once."""
    [request] = _requests(num=2)[1:]
    for policy, version in ((LEARNER, 1), (LEARNER, 2), (SNAPSHOT, 2)):
        now = _moved(model, 10 * version + len(policy))
        engine.load_weights(policy, parameters(now), version)
        for hit in (False, True):
            steps.clear()
            asked = Request(request.id, policy, request.prompt, request.sampling, request.seed)
            assert logprob_gap(now, [asked], _run(engine, [asked])) < TOLERANCE
            [cached] = [cached for step in steps for cached in step.values()]
            assert (cached > 0) == hit, (policy, version)
    [instance] = engine._instances
    add = instance._backend.add
    without = lambda key, policy, p, salt, s, seed: add(key, policy, p, "one", s, seed)  # noqa: E731
    monkeypatch.setattr(instance._backend, "add", without)
    for version in (3, 4):
        now = _moved(model, version)
        engine.load_weights(LEARNER, parameters(now), version)
        assert logprob_gap(now, [request], _run(engine, [request])) < TOLERANCE


def test_a_policy_that_is_dropped_and_loaded_again_reads_nothing_old(engine, model):
    """Under the version that it had, too: the number and the name are new."""
    [request] = _requests(num=2)[1:]
    for seed in (1, 2):
        now = _moved(model, seed)
        engine.load_weights(LEARNER, parameters(now), 5)
        assert logprob_gap(now, [request], _run(engine, [request])) < TOLERANCE
        engine.drop(LEARNER)
        assert not _vllm(engine).list_loras()


def test_an_adapter_that_is_loaded_while_others_play_changes_only_its_own(engine, model):
    """A snapshot's replies are half done as the learner's weights are loaded, and again as it is dropped."""
    old = _moved(model, 1)
    engine.load_weights(SNAPSHOT, parameters(old), 0)
    engine.load_weights(LEARNER, parameters(old), 0)
    theirs = _requests(SNAPSHOT, first=100, tokens=12)
    for request in theirs:
        engine.submit(request)
    done = {c.request_id: c for _ in range(3) for c in engine.step()}
    now = _moved(model, 2)
    engine.load_weights(LEARNER, parameters(now), 1)
    mine = _requests()
    for request in mine:
        engine.submit(request)
    done |= {c.request_id: c for _ in range(2) for c in engine.step()}
    engine.load_weights("averaged", parameters(_moved(model, 3)), 1)
    engine.drop("averaged")
    left = [request for request in mine + theirs if request.id not in done]
    assert {LEARNER, SNAPSHOT} == {request.policy for request in left}
    done |= _run(engine, left, submitted=True)
    assert logprob_gap(old, theirs, done) < TOLERANCE
    assert logprob_gap(now, mine, done) < TOLERANCE


# Faults


def test_an_adapter_that_is_not_applied_is_found(engine, model, monkeypatch):
    """A request that names no adapter is answered by the base, without a word: the probe stops the run with the number
    and says so."""
    probed, now = ProbedEngine(engine, model), _moved(model, 4)
    probed.load_weights(LEARNER, parameters(now), 0)
    [instance] = engine._instances
    monkeypatch.setattr(instance._backend._loader, "request", lambda policy: None)
    message = r"is \d\S* nats away from the model's own .at most 0.001.; it answers as the base model does, so the adap"
    with pytest.raises(RunError, match=message):
        probed.load_weights(LEARNER, parameters(_moved(model, 5)), EVERY)
    monkeypatch.undo()
    probed.load_weights(LEARNER, parameters(_moved(model, 5)), 2 * EVERY)


def test_another_policys_adapter_is_found(engine, model, monkeypatch):
    """A load under the number of an adapter that vLLM has keeps that one: the probe sees that nothing changed."""
    probed = ProbedEngine(engine, model)
    probed.load_weights(LEARNER, parameters(_moved(model, 4)), 0)
    [instance] = engine._instances
    loader = instance._backend._loader
    before = loader._requests[LEARNER]
    monkeypatch.setattr(loader, "drop", lambda policy: None)
    monkeypatch.setattr(loader, "_numbers", iter([before.lora_int_id]))
    with pytest.raises(RunError, match="it answers as it did before, so the load changed nothing"):
        probed.load_weights(LEARNER, parameters(_moved(model, 5)), EVERY)


def test_a_load_that_breaks_off_is_never_served_and_spares_the_others(engine, model):
    """The stream of the learner's tensors ends half way: its requests are refused, the snapshot plays on, and the next
    whole load is exact."""
    old = _moved(model, 6)
    engine.load_weights(SNAPSHOT, parameters(old), 0)
    engine.load_weights(LEARNER, parameters(old), 0)
    theirs = _requests(SNAPSHOT, first=100)
    for request in theirs:
        engine.submit(request)

    class Broken(dict):
        def items(self):
            yield from list(super().items())[:3]
            raise OSError("the stream broke off")

    with pytest.raises(RunError, match="vLLM failed as version 1 of the weights was loaded .OSError: the stream broke"):
        engine.load_weights(LEARNER, Broken(parameters(_moved(model, 7))), 1)
    with pytest.raises(RunError, match="vLLM holds no whole weights of 'learner'"):
        engine.submit(_requests()[0])
    assert logprob_gap(old, theirs, _run(engine, theirs, submitted=True)) < TOLERANCE
    now = _moved(model, 8)
    engine.load_weights(LEARNER, parameters(now), 2)
    assert logprob_gap(now, _requests(), _run(engine, _requests())) < TOLERANCE


def test_a_policy_more_than_capacity_is_refused_and_a_dropped_one_makes_room(engine, model):
    """`drop` frees the place in vLLM; a load in a full engine takes its own policy's place and no other's."""
    policies = [LEARNER, SNAPSHOT, "snapshot:1"]
    held = {policy: _moved(model, 30 + n) for n, policy in enumerate(policies)}
    for policy in policies:
        engine.load_weights(policy, parameters(held[policy]), 0)
    with pytest.raises(SpiralError, match="engine vllm holds 3 policies .*set engine.args.capacity=4"):
        engine.load_weights("snapshot:2", parameters(model), 1)
    numbers = _vllm(engine).list_loras()
    assert len(numbers) == 3
    engine.drop(SNAPSHOT)
    held["snapshot:2"] = _moved(model, 40)
    engine.load_weights("snapshot:2", parameters(held["snapshot:2"]), 1)
    after = _vllm(engine).list_loras()
    assert (len(after), len(after - numbers)) == (3, 1)
    held["snapshot:2"] = _moved(model, 41)  # vLLM would rather give up the one that was used longest ago
    engine.load_weights("snapshot:2", parameters(held["snapshot:2"]), 2)
    for n, policy in enumerate((LEARNER, "snapshot:1", "snapshot:2")):
        requests = _requests(policy, first=100 * n)
        assert logprob_gap(held[policy], requests, _run(engine, requests)) < TOLERANCE


def test_an_engine_that_died_is_made_anew_with_base_and_adapters(model, monkeypatch):
    """The step fails once with requests of two policies in flight: the new engine answers them as the old one would."""
    engine = VllmEngine(model, capacity=2, restart=1)
    held = {LEARNER: _moved(model, 11), SNAPSHOT: _moved(model, 12)}
    for policy, now in held.items():
        engine.load_weights(policy, parameters(now), 2)
    requests = _requests() + _requests(SNAPSHOT, first=100)
    expected = {n: c.ids for n, c in _run(engine, requests).items()}

    def died():
        raise RuntimeError("died")

    monkeypatch.setattr(engine._instances[0]._backend, "step", died)
    done = _run(engine, requests)
    assert {n: c.ids for n, c in done.items()} == expected
    for policy, now in held.items():
        assert logprob_gap(now, [r for r in requests if r.policy == policy], done) < TOLERANCE


def test_the_ranks_are_those_that_vllm_reserves_room_for():
    from vllm.config.lora import MaxLoRARanks

    assert typing.get_args(MaxLoRARanks) == RANKS


# Other models


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": "all-linear", "rank_pattern": {}, "alpha_pattern": {}, "use_rslora": True, "r": 8},
        {"target_modules": ["down_proj"], "rank_pattern": {}, "init_lora_weights": "pissa"},
    ],
    ids=["rslora-all", "pissa-down"],
)
def test_other_adapters_are_exact_too(config):
    """All linear layers with rank-stabilised scales; one module alone, with an initialisation that takes its part out of
    the base, which is the base that vLLM gets."""
    model = _adapted(**config)
    engine = VllmEngine(model, capacity=1)
    for version in range(2):
        now = _moved(model, version) if version else model
        engine.load_weights(LEARNER, parameters(now), version)
        assert logprob_gap(now, _requests(), _run(engine, _requests())) < TOLERANCE


def test_adapters_of_a_byte_model_are_exact():
    """vLLM knows it as a Llama, whose matrices are parts of the byte model's: over three loads, two policies in a batch,
    through the probe."""
    torch.manual_seed(0)
    modules = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
    model = _adapted(MODELS["byte-0.1m"](context=256)[0], target_modules=modules, rank_pattern={"o_proj": 9})
    engine = VllmEngine(model, capacity=2)
    probed, old = ProbedEngine(engine, model), _moved(model, 1)
    probed.load_weights(SNAPSHOT, parameters(old), 0)
    for version in range(3):
        now = _moved(model, 2 + version)
        probed.load_weights(LEARNER, parameters(now), version * EVERY)
        mine, theirs = _requests(), _requests(SNAPSHOT, first=100)
        for _ in range(2):
            done = _run(probed, mine + theirs)
            assert logprob_gap(now, mine, done) < TOLERANCE
            assert logprob_gap(old, theirs, done) < TOLERANCE


@pytest.mark.slow
def test_adapters_of_a_model_that_is_split_over_workers_are_exact(model, monkeypatch):
    """`tensor_parallel_size=2`: each worker process reads base and adapters from their folders on this machine."""
    from vllm import envs

    envs.disable_envs_cache()  # an engine of another test may have begun it
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")  # one memory node, which vLLM would not share by itself
    engine = VllmEngine(model, capacity=2, tensor_parallel_size=2)
    old = _moved(model, 1)
    engine.load_weights(SNAPSHOT, parameters(old), 0)
    for version in range(3):
        now = _moved(model, 2 + version)
        engine.load_weights(LEARNER, parameters(now), version)
        mine, theirs = _requests(), _requests(SNAPSHOT, first=100)
        for _ in range(2):
            done = _run(engine, mine + theirs)
            assert logprob_gap(now, mine, done) < 1e-4
            assert logprob_gap(old, theirs, done) < 1e-4


@pytest.mark.slow
@pytest.mark.skipif(not Path(MODEL_FOLDER, "config.json").is_file(), reason="SPIRAL_TEST_MODEL names no model folder")
def test_adapters_of_a_pretrained_model_agree_after_loads():
    """SPIRAL_TEST_MODEL: within 2e-4 nats over three loads, two policies in a batch, with cold and warm cache.

    Of prompts that are no shorter than a game's: the second token of a text is ill-conditioned in such models, and two
    forward passes, in float32 and in float64, are 2e-4 apart there too.
    """
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(MODEL_FOLDER, dtype=torch.float32).eval()
    base.context = 256
    torch.manual_seed(0)
    model = peft.get_peft_model(base, peft.LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"])).eval()
    engine = VllmEngine(model)
    assert engine.capacity == 8
    probed, old = ProbedEngine(engine, model), _moved(model, 9, by=0.02)
    probed.load_weights(SNAPSHOT, parameters(old), 0)
    prompts = [tuple(n + 40 * (i % 30) for i in range(1, 41 + n)) for n in range(4)]
    mine = [Request(n, LEARNER, prompt, Sampling(12, ()), seed=n) for n, prompt in enumerate(prompts)]
    theirs = [Request(100 + n, SNAPSHOT, prompt, Sampling(12, ()), seed=n) for n, prompt in enumerate(prompts)]
    for version in range(3):
        now = _moved(model, version, by=0.02)
        probed.load_weights(LEARNER, parameters(now), version)
        for _ in range(2):
            done = _run(probed, mine + theirs)
            assert logprob_gap(now, mine, done) < 2e-4
            assert logprob_gap(old, theirs, done) < 2e-4
            assert logprob_gap(now, theirs, done) > 0.001
    load_parameters(model, parameters(now))
    with torch.no_grad(), model.disable_adapter():
        assert logprob_gap(model, mine, done) > 0.001
