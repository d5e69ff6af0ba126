"""The vLLM engine with vLLM itself: its log-probabilities are the model's own, whatever was loaded and cached before.

One engine for the whole module, since each takes seconds to start; without vLLM the module is skipped.
"""

import copy
import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from spiral_models import MODELS

from spiral.api.errors import PromptTooLong, RunError, SpiralError
from spiral.api.records import LEARNER, Continuation, Request, Sampling
from spiral.config.loading import load as load_config
from spiral.engines.forcing import ForcingEngine
from spiral.engines.probe import EVERY, ProbedEngine
from spiral.engines.torch.engine import TorchEngine
from spiral.models.logits import load_parameters, parameters
from spiral.testing.engines import answered, forward_logprobs, logprob_gap, one_turn_batch

pytest.importorskip("vllm")

from spiral.engines.vllm import weight_transfer
from spiral.engines.vllm.engine import VllmEngine

TOLERANCE = 2e-5
"""Nats between vLLM and one forward pass of a byte model, in float32."""
CONTEXT = 512
MODEL_FOLDER = os.environ.get("SPIRAL_TEST_MODEL", "")
"""A folder of a pretrained model with a tied head, for the slow tests."""


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return MODELS["byte-0.1m"](context=CONTEXT)[0].eval().requires_grad_(False)


@pytest.fixture(scope="module")
def engine(model):
    draws = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    made = VllmEngine(model)
    # vLLM seeds the global generators, which are the run's.
    assert torch.equal(torch.get_rng_state(), draws[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == draws[1:]
    return made


@pytest.fixture
def loaded(engine, model):
    """The engine with the model's own weights, and the next version."""
    engine.load_weights(LEARNER, parameters(model), 3)
    return engine


def _moved(model, seed, by=0.1):
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return other


def _ids(length, salt):
    return tuple((7 * salt + 13 * i + i * i) % 256 for i in range(length))


def _request(number, prompt, tokens=8, stop=(), temperature=1.0, seed=None, policy=LEARNER):
    seed = 0x9E3779B97F4A7C15 * (number + 1) % 2**64 if seed is None else seed
    return Request(number, policy, tuple(prompt), Sampling(tokens, tuple(stop), temperature), seed)


def _mixed(num=16, first=0):
    """Equal prompts, prompts that share blocks of the cache, and lone ones."""
    common = _ids(100, 5)
    prompts = [_ids(1 + 9 * k, k) for k in range(num // 2)] + [common + _ids(3 + k % 3, k) for k in range(num // 2)]
    return [_request(first + n, prompt, stop=range(0, 272, 12)) for n, prompt in enumerate(prompts)]


# Exactness


def test_log_probs_are_those_of_the_model_after_each_load_with_and_without_cache_hits(engine, model):
    """Over four loads, each with a cold cache and then a warm one: vLLM = one forward pass = the torch engine's
    samples scored, and each completion names the version that it was sampled from."""
    for version in range(4):
        now = _moved(model, version) if version else model
        engine.load_weights(LEARNER, parameters(now), version)
        requests = _mixed()
        before = engine.cached_tokens
        cold = answered(engine, requests)
        between = engine.cached_tokens
        warm = answered(engine, requests)
        assert engine.cached_tokens - between > between - before > 0
        for done in (cold, warm):
            assert logprob_gap(now, requests, done) < TOLERANCE
            assert {c.version for c in done.values()} == {version}
        # The torch engine's own log-probabilities, of what it sampled, against the same forward pass.
        torch_engine = TorchEngine(now, None)
        torch_engine.load_weights(LEARNER, parameters(now), version)
        assert logprob_gap(now, requests, answered(torch_engine, requests)) < TOLERANCE


def test_a_reply_in_parts_is_read_from_the_cache_and_scored_as_it_was_sampled(loaded, model):
    """Its second part is a request like any other: the prompt and the first part are cached, and what was put between is
    no sample, so no ratio differs from 1 by more than 2e-5."""
    from spiral.learning.full_learner import FullLearner

    config = load_config(None, [{"learner": {"anchor": 0, "kl": 0}}]).learner
    learner = FullLearner(copy.deepcopy(model).requires_grad_(True), config, 4, Accelerator(cpu=True))
    put = _ids(5, 3)
    forcing = ForcingEngine(loaded, lambda reply: Continuation(put) if reply else Continuation(num_tokens=20))
    requests = [_request(n, _ids(60, 40 + n), tokens=40) for n in range(4)]
    before = loaded.cached_tokens
    done = answered(forcing, requests)
    assert loaded.cached_tokens - before >= len(requests) * 64
    assert [done[n].forced for n in range(4)] == [tuple(range(20, 25))] * 4
    assert len({done[n].ids for n in range(4)}) == 4
    stats = learner.update(one_turn_batch(requests, done), 0, len(requests))
    assert stats["learner/ratio_gap"] < TOLERANCE
    assert stats["learner/reply_tokens"] == len(requests) * 35


def test_the_learner_scores_what_vllm_sampled_as_vllm_did(loaded, model):
    """On a fresh batch the learner's log-probabilities are the engine's: no ratio differs from 1 by more than 2e-5,
    after an update too."""
    from spiral.learning.full_learner import FullLearner

    config = load_config(None, [{"learner": {"anchor": 0, "kl": 0}}]).learner
    learner = FullLearner(copy.deepcopy(model).requires_grad_(True), config, 4, Accelerator(cpu=True))
    for step in range(3):
        loaded.load_weights(LEARNER, learner.weights(), step)
        requests = _mixed(first=100 * step)
        done = answered(loaded, requests)
        stats = learner.update(one_turn_batch(requests, done), step, len(requests))
        assert stats["learner/ratio_gap"] < TOLERANCE
        assert stats["learner/grad_norm"] > 0


def test_a_head_that_keeps_its_packed_copy_is_found(engine, model, monkeypatch):
    """The tied head is packed again after a load; without that the load is accepted and the answers are those of no
    weights at all, which both the comparison and the probe see."""
    engine.load_weights(LEARNER, parameters(model), 0)
    probed, moved = ProbedEngine(engine, model), _moved(model, 1)
    probed.load_weights(LEARNER, parameters(model), 0)
    monkeypatch.setattr(weight_transfer, "_pack_tied_head", lambda model: None)
    with pytest.raises(RunError, match="likely a load that reached only some layers"):
        probed.load_weights(LEARNER, parameters(moved), EVERY)
    requests = _mixed()
    assert logprob_gap(moved, requests, answered(engine, requests)) > 0.01
    monkeypatch.undo()
    probed.load_weights(LEARNER, parameters(moved), 2 * EVERY)
    assert logprob_gap(moved, requests, answered(engine, requests)) < TOLERANCE


def test_a_prefix_cache_that_stays_warm_is_found(engine, model, monkeypatch):
    """Blocks of the old weights are forgotten at a load, and the salt names the version; without both the old blocks
    answer for the new weights, which the comparison and the probe see."""
    probed, moved = ProbedEngine(engine, model), _moved(model, 2)
    probed.load_weights(LEARNER, parameters(model), 0)
    [instance] = engine._instances
    backend, requests = instance._backend, _mixed()
    answered(engine, requests)
    add = backend.add
    monkeypatch.setattr(backend, "add", lambda key, policy, p, salt, s, seed: add(key, policy, p, "one", s, seed))
    answered(engine, requests)
    monkeypatch.setattr(backend._engine, "reset_prefix_cache", lambda: True, raising=False)
    probed._check(LEARNER, parameters(model), 0)
    with pytest.raises(RunError, match="a prefix cache that stayed warm"):
        probed.load_weights(LEARNER, parameters(moved), EVERY)
    assert logprob_gap(moved, requests, answered(engine, requests)) > 0.001
    monkeypatch.undo()
    probed.load_weights(LEARNER, parameters(moved), 2 * EVERY)
    assert logprob_gap(moved, requests, answered(engine, requests)) < TOLERANCE


def test_each_of_salt_and_reset_keeps_old_blocks_away(engine, model, monkeypatch):
    """Either alone is enough: one may be missed."""
    [instance] = engine._instances
    backend, requests, add = instance._backend, _mixed(), instance._backend.add
    for version, cure in enumerate(("salt", "reset")):
        now = _moved(model, 3 + version)
        answered(engine, requests)
        with monkeypatch.context() as without:
            if cure == "salt":
                without.setattr(backend._engine, "reset_prefix_cache", lambda: True, raising=False)
            else:
                without.setattr(
                    backend, "add", lambda key, policy, p, salt, s, seed: add(key, policy, p, "one", s, seed)
                )
                answered(engine, requests)
            engine.load_weights(LEARNER, parameters(now), 20 + version)
            assert logprob_gap(now, requests, answered(engine, requests)) < TOLERANCE


def test_a_load_that_breaks_off_is_never_served_and_leaves_no_trace(engine, model):
    """Half the tensors came: requests are refused; the next whole load is exact, though layers were half read."""
    weights = parameters(_moved(model, 5))
    form = engine._form

    class Broken(dict):
        def items(self):
            for number, item in enumerate(super().items()):
                if number == 4:  # within a layer whose matrices vLLM joins
                    raise OSError("the stream broke off")
                yield item

    engine._form = replace(form, renamed=lambda given: Broken(form.renamed(given)))
    with pytest.raises(RunError, match="vLLM failed as version 7 of the weights was loaded .OSError: the stream broke"):
        engine.load_weights(LEARNER, weights, 7)
    with pytest.raises(RunError, match="vLLM holds no whole weights of 'learner'"):
        engine.submit(_request(0, (1, 2)))
    engine._form = form
    now = _moved(model, 6)
    engine.load_weights(LEARNER, parameters(now), 8)
    requests = _mixed()
    assert logprob_gap(now, requests, answered(engine, requests)) < TOLERANCE


def test_vllm_tells_nobody_that_it_is_used(engine):
    """vLLM sends no usage statistics. They are off before it is loaded."""
    from vllm.usage.usage_lib import is_usage_stats_enabled

    assert not is_usage_stats_enabled()


# Replies


def test_replies_depend_on_their_seed_alone(loaded):
    """Not on company or order; equal seeds give equal replies, and 20 seeds give many."""
    requests = _mixed()
    expected = {n: c.ids for n, c in answered(loaded, requests).items()}
    assert {n: c.ids for n, c in answered(loaded, requests[::-1]).items()} == expected
    assert {r.id: answered(loaded, [r])[r.id].ids for r in requests[::4]} == {
        r.id: expected[r.id] for r in requests[::4]
    }
    prompt = _ids(12, 1)
    assert len({c.ids for c in answered(loaded, [_request(n, prompt, seed=7) for n in range(5)]).values()}) == 1
    assert len({c.ids for c in answered(loaded, [_request(n, prompt) for n in range(20)]).values()}) == 20


def test_stop_ids_and_lengths_belong_to_the_request(loaded):
    """A reply ends `stop` with its stop id as the last one, or `length` with all its tokens; the model's own end of
    text ends nothing."""
    prompt = _ids(9, 1)
    [free] = answered(loaded, [_request(0, prompt, tokens=6, seed=5)]).values()
    third = free.ids[2]
    assert third not in free.ids[:2]
    requests = [
        _request(0, prompt, 6, (), seed=5),
        _request(1, prompt, 6, (third,), seed=5),
        _request(2, prompt, 2, seed=5),
    ]
    done = answered(loaded, requests)
    assert [done[n].ids for n in range(3)] == [free.ids, free.ids[:3], free.ids[:2]]
    assert [done[n].finish for n in range(3)] == ["length", "stop", "length"]
    done = answered(loaded, [_request(n, prompt, 8) for n in range(400)])
    assert any(261 in c.ids[:-1] for c in done.values())
    [only] = answered(loaded, [_request(0, prompt, 1, range(272))]).values()
    assert (only.finish, len(only.ids)) == ("stop", 1)


def test_log_probs_are_those_of_the_tempered_distribution(loaded, model):
    """Mixed in one batch; the division comes before the softmax."""
    requests = [_request(n, _ids(14, 3), temperature=t) for n, t in enumerate((1.0, 0.5, 2.0, 0.25))]
    done = answered(loaded, requests)
    assert logprob_gap(model, requests, done) < 1e-4


def test_temperature_0_is_greedy_and_top_p_cuts(loaded, model):
    """The likeliest id each time with its log-probability at temperature 1; `top_p` near 0 gives the same ids, each
    with all of what is left."""
    greedy = _request(0, _ids(14, 3), temperature=0.0)
    nucleus = replace(greedy, id=1, sampling=replace(greedy.sampling, temperature=1.0, top_p=1e-6))
    done = answered(loaded, [greedy, nucleus])
    assert done[0].ids == done[1].ids
    assert done[0].logprobs == pytest.approx(forward_logprobs(model, greedy.prompt, done[0].ids), abs=TOLERANCE)
    assert done[1].logprobs == pytest.approx([0.0] * len(done[1].ids), abs=1e-5)


def test_a_folders_own_sampling_has_no_effect(loaded, model):
    """The defaults of generation_config.json (top_k, repetition_penalty) would sample from another distribution: more
    than 20 ids are sampled, and each has the probability that the full one gives it."""
    model.generation_config.top_k, model.generation_config.repetition_penalty = 3, 1.5
    requests = [_request(n, _ids(10, 2), tokens=1) for n in range(200)]
    done = answered(loaded, requests)
    assert len({c.ids for c in done.values()}) > 20
    assert logprob_gap(model, requests, done) < TOLERANCE


def test_the_longest_text_fits_and_a_longer_one_is_refused(loaded, model):
    """A prompt and its reply may fill the context to the last token."""
    request = _request(0, _ids(CONTEXT - 4, 1), tokens=4)
    assert logprob_gap(model, [request], answered(loaded, [request])) < TOLERANCE
    with pytest.raises(PromptTooLong, match=f"a prompt of {CONTEXT - 3} tokens leaves room for a reply of 3"):
        loaded.submit(_request(0, _ids(CONTEXT - 3, 1), tokens=4))


def test_prompts_of_more_tokens_than_one_step_takes_are_answered(loaded, model):
    """3,000 tokens of prompts at once, where a step takes 2,048: on a CPU vLLM fails if it computes one of them in
    parts, since the generator of a seed cannot be set back."""
    requests = [_request(n, _ids(100, n)) for n in range(30)]
    done = answered(loaded, requests)
    assert logprob_gap(model, requests, done) < TOLERANCE


# More than one engine


def test_two_policies_answer_with_their_own_weights(loaded, model):
    """Requests of both in flight at once; one that was dropped makes room."""
    other = _moved(model, 9)
    loaded.load_weights("averaged", parameters(other), 4)
    mine, theirs = _mixed(), [_request(100 + r.id, r.prompt, policy="averaged") for r in _mixed()]
    done = answered(loaded, mine + theirs)
    assert logprob_gap(model, mine, done) < TOLERANCE
    assert logprob_gap(other, theirs, done) < TOLERANCE
    assert {c.version for n, c in done.items() if n >= 100} == {4}
    with pytest.raises(SpiralError, match="engine vllm holds 2 policies .* set engine.args.capacity=3"):
        loaded.load_weights("snapshot:1", parameters(model), 5)
    loaded.drop("averaged")
    loaded.load_weights("snapshot:1", parameters(model), 5)
    loaded.drop("snapshot:1")


def test_an_engine_that_died_is_made_anew_with_its_weights(loaded, model, monkeypatch):
    """The step fails once: the new engine answers what was in flight as the old one would have, and another engine of
    the process goes on, with the process group that they share."""
    engine = VllmEngine(model, capacity=1, restart=1)
    now = _moved(model, 11)
    engine.load_weights(LEARNER, parameters(now), 2)
    requests = _mixed()
    before = answered(engine, requests)
    assert logprob_gap(now, requests, before) < TOLERANCE
    expected = {n: c.ids for n, c in before.items()}
    [instance] = engine._instances

    def died():
        raise RuntimeError("died")

    monkeypatch.setattr(instance._backend, "step", died)
    done = answered(engine, requests)
    assert {n: c.ids for n, c in done.items()} == expected
    assert logprob_gap(now, requests, done) < TOLERANCE
    assert torch.distributed.is_initialized()
    assert logprob_gap(model, requests, answered(loaded, requests)) < TOLERANCE


def test_vllms_own_refusal_is_one_sentence(model):
    """A value that it does not take, or a name that it does not have."""
    with pytest.raises(
        SpiralError, match="vLLM refused to start for a context of 512 tokens with block_size=7: "
    ) as told:
        VllmEngine(model, block_size=7)
    assert "\n" not in str(told.value)
    with pytest.raises(SpiralError, match="has no argument 'max_num_seq', .* did you mean max_num_seqs"):
        VllmEngine(model, max_num_seq=8)


@pytest.mark.slow
def test_a_model_that_is_split_over_workers_is_exact_after_loads(model, monkeypatch):
    """`tensor_parallel_size=2`: weights reach both worker processes, also in parts of a few tensors."""
    from vllm import envs

    envs.disable_envs_cache()  # an engine of another test may have begun it
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")  # one memory node, which vLLM would not share by itself
    monkeypatch.setattr("spiral.engines.vllm.backend.PART_BYTES", 100_000)
    torch.manual_seed(0)
    wide = MODELS["byte-1m"](context=CONTEXT)[0].eval().requires_grad_(False)
    engine = VllmEngine(wide, capacity=1, tensor_parallel_size=2)
    for version in range(3):
        now = _moved(wide, version)
        engine.load_weights(LEARNER, parameters(now), version)
        requests = _mixed()
        for _ in range(2):
            assert logprob_gap(now, requests, answered(engine, requests)) < 1e-4


@pytest.mark.slow
@pytest.mark.skipif(not Path(MODEL_FOLDER, "config.json").is_file(), reason="SPIRAL_TEST_MODEL names no model folder")
def test_a_pretrained_model_with_a_tied_head_agrees_after_loads():
    """SPIRAL_TEST_MODEL: within 2e-4 nats over three loads, with cold and warm cache."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(MODEL_FOLDER, dtype=torch.float32).eval().requires_grad_(False)
    assert model.config.tie_word_embeddings
    model.context = 512
    engine = VllmEngine(model, capacity=1)
    probed = ProbedEngine(engine, model)
    for version in range(3):
        load_parameters(model, {name: weight * (1 + 0.01 * version) for name, weight in parameters(model).items()})
        probed.load_weights(LEARNER, parameters(model), version)
        requests = [_request(n, [n + 40 * (i % 30) for i in range(1, 41 + n)], tokens=12) for n in range(6)]
        for _ in range(2):
            assert logprob_gap(model, requests, answered(engine, requests)) < 2e-4
