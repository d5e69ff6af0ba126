"""The torch engine against its model: exact, blind to what else is in flight, and as lean as it claims."""

import copy

import pytest
import torch
from spiral_models import MODELS
from transformers import LlamaConfig, LlamaForCausalLM

from spiral.api.errors import PromptTooLong, RunError, SpiralError
from spiral.api.records import LEARNER, Request, Sampling
from spiral.engines.torch.engine import TorchEngine
from spiral.models.logits import parameters
from spiral.testing.engines import forward_logprobs

torch.set_num_threads(1)  # tiny models are slower with more, and far slower beside other processes

VOCAB = 272


def _llama(context=256):
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config)


def _make(kind, context=256, seed=0):
    torch.manual_seed(seed)
    model = _llama(context) if kind == "llama" else MODELS["byte-0.1m"](context=context)[0]
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=["byte-0.1m", "llama"])
def model(request):
    return _make(request.param)


def _engine(model, policies=(LEARNER,), **args):
    engine = TorchEngine(model, None, **args)
    for policy in policies:
        engine.load_weights(policy, parameters(model), version=3)
    return engine


def _busy(model):
    """An engine that is at a reply of 200 ids of another policy's, so that it is never idle."""
    engine = _engine(model, (LEARNER, "other"))
    engine.submit(_request(1000, _ids(5, 99), tokens=200, policy="other"))
    engine.step()
    return engine


def _ids(length, salt):
    """Some ids that differ from salt to salt."""
    return tuple((7 * salt + 13 * i + i * i) % 256 for i in range(length))


def _request(number, prompt, tokens=8, stop=(), temperature=1.0, seed=None, policy=LEARNER):
    seed = 0x9E3779B97F4A7C15 * (number + 1) % 2**64 if seed is None else seed
    return Request(number, policy, tuple(prompt), Sampling(tokens, tuple(stop), temperature), seed)


def _run(engine, requests, together=True, max_steps=3000):
    """All completions in the order that they came; `together=False` submits one a step."""
    waiting, done = list(requests), []
    for request in waiting if together else ():
        engine.submit(request)
    queue = [] if together else waiting
    for _ in range(max_steps):
        if queue:
            engine.submit(queue.pop(0))
        done += engine.step()
        if (len(done) == len(waiting) and together) or (not together and not queue and len(done) == len(requests)):
            return done
    raise AssertionError(f"{len(done)} of {len(requests)} requests were answered in {max_steps} steps")


def _by_id(completions):
    return {c.request_id: c for c in completions}


def _mixed(num=24):
    """Prompts of many lengths: equal ones, ones that share 32 or 64 ids, and lone ones."""
    common = _ids(64, 5)
    prompts = [
        *[_ids(1 + 9 * k, k) for k in range(num // 4)],
        *[_ids(40, 3)] * (num // 4),
        *[common + _ids(3 + k, k) for k in range(num // 4)],
        *[common[:32] + _ids(11 + k, 9) for k in range(num // 4)],
    ]
    stop = tuple(range(0, VOCAB, 12))  # about one id in twelve ends a reply
    return [_request(n, p, tokens=10, stop=stop) for n, p in enumerate(prompts)]


# Exactness


def test_log_probs_are_those_of_a_full_forward(model):
    """Every stored log-probability is what one forward over prompt and reply gives, whatever was shared."""
    requests = _mixed()
    done = _by_id(_run(_engine(model), requests))
    for request in requests:
        completion = done[request.id]
        assert len(completion.ids) == len(completion.logprobs) >= 1
        expected = forward_logprobs(model, request.prompt, completion.ids)
        assert completion.logprobs == pytest.approx(expected, abs=2e-5)
        assert completion.version == 3


@pytest.mark.parametrize(
    "args",
    [{"max_rows": 1}, {"max_rows": 3}, {"prefill_tokens": 1}, {"max_rows": 5, "prefill_tokens": 90}],
)
def test_replies_do_not_depend_on_rows_or_prefill_budget(model, args):
    """A reply is a function of its seed and the weights: limits of memory change the time, never the ids."""
    requests = _mixed()
    assert _ids_of(_run(_engine(model, **args), requests)) == _ids_of(_run(_engine(model), requests))


def test_replies_do_not_depend_on_order_or_company(model):
    """Reversed, one at a time, trickling in, or among strangers: the same ids for the same seeds."""
    requests = _mixed()
    expected = _ids_of(_run(_engine(model), requests))
    assert _ids_of(_run(_engine(model), requests[::-1])) == expected
    assert _ids_of(_run(_engine(model), requests, together=False)) == expected
    alone = _engine(model)
    assert {r.id: _run(alone, [r])[0].ids for r in requests} == expected
    strangers = [_request(1000 + n, _ids(30 + n, n), tokens=20) for n in range(9)]
    strangers += [_request(2000 + n, r.prompt, policy="averaged") for n, r in enumerate(requests)]
    crowd = _ids_of(_run(_engine(model, (LEARNER, "averaged")), strangers + requests))
    assert {n: ids for n, ids in crowd.items() if n < 1000} == expected


def test_an_engine_that_has_worked_is_as_good_as_new(model):
    """After other work the same requests give the same bits in the same order: a resumed run has a new engine.

    The order matters, because it decides which row the next question gets, and rows may differ in the last bit.
    """
    requests = _mixed()
    new, used = _engine(model), _engine(model)
    expected = _run(new, requests)
    _run(used, [_request(500 + n, _ids(9, n % 5), tokens=1 + n % 7) for n in range(90)])
    used.load_weights(LEARNER, parameters(model), version=3)
    assert _run(used, requests) == expected


def _ids_of(completions):
    return {c.request_id: c.ids for c in completions}


def test_one_seed_one_reply_and_another_seed_another(model):
    """Equal prompt and seed give equal replies; 20 seeds give more than one reply."""
    prompt = _ids(12, 1)
    same = _run(_engine(model), [_request(n, prompt, seed=7) for n in range(5)])
    assert len({c.ids for c in same}) == 1
    assert len({c.ids for c in _run(_engine(model), [_request(n, prompt) for n in range(20)])}) == 20


def test_sampling_frequencies_are_the_models_distribution(model):
    """Chi-square of 4,000 first and second ids against the exact distribution; fixed seeds, 5 sigma."""
    prompt, num = _ids(10, 2), 4000
    done = _run(_engine(model), [_request(n, prompt, tokens=2) for n in range(num)])
    with torch.inference_mode():
        first = torch.softmax(model(input_ids=torch.tensor([prompt])).logits[0, -1].double(), -1)
        texts = torch.tensor([[*prompt, token] for token in range(VOCAB)])
        second = first @ torch.softmax(model(input_ids=texts).logits[:, -1].double(), -1)
    for place, chances in enumerate((first, second)):
        counts = torch.bincount(torch.tensor([c.ids[place] for c in done]), minlength=VOCAB).double()
        order = chances.argsort(descending=True)
        counts, expected = counts[order], chances[order] * num
        many = expected >= 5
        bins = torch.cat([counts[many], counts[~many].sum()[None]])
        means = torch.cat([expected[many], expected[~many].sum()[None]])
        assert len(bins) > 20
        chi = float(((bins - means) ** 2 / means.clamp(min=1e-9)).sum())
        free = len(bins) - 1
        assert abs(chi - free) < 5 * (2 * free) ** 0.5


def test_neighbouring_seeds_are_independent():
    """Seeds 0, 1, 2, ... (what a careless caller gives) still sample the distribution: mean id within 5 sigma."""
    model = _make("byte-0.1m")
    prompt, num = _ids(10, 2), 2000
    done = _run(_engine(model), [_request(n, prompt, tokens=1, seed=n) for n in range(num)])
    with torch.inference_mode():
        chances = torch.softmax(model(input_ids=torch.tensor([prompt])).logits[0, -1].double(), -1)
    values = torch.arange(VOCAB).double()
    mean = float(chances @ values)
    deviation = float(chances @ (values - mean) ** 2) ** 0.5
    assert abs(sum(c.ids[0] for c in done) / num - mean) < 5 * deviation / num**0.5


# Savings, counted by hand


def test_equal_prompts_share_a_row(model):
    """10 equal prompts of 20 ids cost 20 tokens; each further token costs one a distinct reply so far."""
    prompt = _ids(20, 4)
    engine = _engine(model)
    _run(engine, [_request(n, prompt, tokens=1) for n in range(10)])
    assert engine.computed_tokens == 20

    engine = _engine(model)
    done = _run(engine, [_request(n, prompt, tokens=2) for n in range(10)])
    assert engine.computed_tokens == 20 + len({c.ids[0] for c in done})

    engine = _engine(model)
    _run(engine, [_request(n, prompt, tokens=6, seed=11) for n in range(10)])
    assert engine.computed_tokens == 20 + 5  # one reply of 6 ids, of which the last is never fed


def test_a_prefix_shared_in_one_batch_is_computed_once(model):
    """Three prompts of 64 common and 10 own ids: 64 + 3 * 10 tokens."""
    common = _ids(64, 5)
    engine = _engine(model)
    _run(engine, [_request(n, common + _ids(10, 20 + n), tokens=1) for n in range(3)])
    assert engine.computed_tokens == 64 + 3 * 10


def test_a_prefix_shared_across_batches_is_kept_from_the_second_on(model):
    """The first prompt costs all 74; the second shows that 64 are shared and keeps them; the third costs its own 10."""
    common = _ids(64, 5)
    engine = _busy(model)
    costs = []
    for n in range(3):
        before = engine.computed_tokens
        _run(engine, [_request(n, common + _ids(10, 20 + n), tokens=1)])
        costs.append(engine.computed_tokens - before)
    assert costs == [75, 75, 11]  # one is the other policy's


def test_an_idle_engine_keeps_nothing(model):
    """Weights that stay, as a snapshot's do: what was asked before changes no bit, or a resumed run would differ."""
    common = _ids(64, 5)
    requests = [_request(n, common + _ids(10, 20 + n)) for n in range(3)]
    used = _engine(model)
    for request in requests:
        _run(used, [request])
        before = used.computed_tokens
        assert _run(used, [request]) == _run(_engine(model), [request])
        assert used.computed_tokens - before == 74 + 7


def test_prefixes_are_forgotten_with_their_weights(model):
    """After load_weights nothing that the old weights computed is used: 74 tokens again, and the new scores."""
    common, engine = _ids(64, 5), _busy(model)
    _run(engine, [_request(n, common + _ids(10, 20 + n), tokens=1) for n in range(3)])
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter.mul_(1.1)
    engine.load_weights(LEARNER, parameters(other), version=4)
    before = engine.computed_tokens
    request = _request(9, common + _ids(10, 30), tokens=4)
    [completion] = _run(engine, [request])
    assert engine.computed_tokens - before == 74 + 3 + 4  # the last are the other policy's
    assert completion.version == 4
    assert completion.logprobs == pytest.approx(forward_logprobs(other, request.prompt, completion.ids), abs=2e-5)


def test_replies_that_lose_their_row_go_on_later(model):
    """One prompt, 12 seeds, 2 rows: replies must split into more rows than there are, and still come out the same."""
    requests = [_request(n, _ids(20, 6), tokens=6) for n in range(12)]
    roomy, tight = _engine(model), _engine(model, max_rows=2)
    expected = _by_id(_run(roomy, requests))
    found = _by_id(_run(tight, requests))
    assert {n: c.ids for n, c in found.items()} == {n: c.ids for n, c in expected.items()}
    for n, completion in found.items():
        assert completion.logprobs == pytest.approx(expected[n].logprobs, abs=2e-5)
    assert tight.computed_tokens > roomy.computed_tokens  # somebody's text was computed again


# Ends of replies


def test_stop_and_length(model):
    """A reply ends `stop` with its stop id as the last one and nowhere else, or `length` with all its tokens."""
    stop = tuple(range(0, VOCAB, 8))
    done = _run(_engine(model), [_request(n, _ids(9, n), tokens=5, stop=stop) for n in range(60)])
    assert {c.finish for c in done} == {"stop", "length"}
    for c in done:
        assert not set(c.ids[:-1]) & set(stop)
        if c.finish == "stop":
            assert c.ids[-1] in stop
        else:
            assert c.ids[-1] not in stop
            assert len(c.ids) == 5


def test_a_stop_id_sampled_as_the_last_token_is_a_stop(model):
    """With every id a stop id, a reply of at most one token still ends `stop`."""
    [completion] = _run(_engine(model), [_request(0, _ids(5, 0), tokens=1, stop=range(VOCAB))])
    assert (completion.finish, len(completion.ids)) == ("stop", 1)


def test_stop_ids_belong_to_the_request(model):
    """One prompt and one seed in one batch: each request ends at its own stop ids and at no other's."""
    prompt = _ids(9, 1)
    [free] = _run(_engine(model), [_request(0, prompt, tokens=6, seed=5)])
    first, third = free.ids[0], free.ids[2]
    assert third not in free.ids[:2]
    stops = [(), (third,), (first, third), (VOCAB - 1 if VOCAB - 1 not in free.ids else VOCAB - 2,)]
    done = _by_id(_run(_engine(model), [_request(n, prompt, tokens=6, seed=5, stop=s) for n, s in enumerate(stops)]))
    assert [done[n].ids for n in range(4)] == [free.ids, free.ids[:3], free.ids[:1], free.ids]
    assert [done[n].finish for n in range(4)] == ["length", "stop", "stop", "length"]


def test_token_limits_belong_to_the_request(model):
    """Requests for 1, 4 and 2 tokens of one reply get its first 1, 4 and 2."""
    prompt = _ids(9, 1)
    done = _by_id(_run(_engine(model), [_request(n, prompt, tokens=t, seed=5) for n, t in enumerate((1, 4, 2))]))
    assert [len(done[n].ids) for n in range(3)] == [1, 4, 2]
    assert done[1].ids[:1] == done[0].ids
    assert done[1].ids[:2] == done[2].ids


def test_temperature(model):
    """Log-probs are those of the tempered distribution, mixed in one batch; at 0 the likeliest id is taken, and its
    log-prob is that at temperature 1."""
    prompt = _ids(14, 3)
    temperatures = [1.0, 0.5, 2.0, 0.0]
    done = _by_id(_run(_engine(model), [_request(n, prompt, temperature=t) for n, t in enumerate(temperatures)]))
    for n, t in enumerate(temperatures):
        assert done[n].logprobs == pytest.approx(forward_logprobs(model, prompt, done[n].ids, t or 1.0), abs=4e-5)
    text = list(prompt)
    with torch.inference_mode():
        for token in done[3].ids:
            assert token == int(model(input_ids=torch.tensor([text])).logits[0, -1].argmax())
            text.append(token)


# Policies and refusals


def test_two_policies_play_in_one_step(model):
    """Requests of two policies with other weights are answered by the same step, each by its own weights."""
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter.mul_(1.3)
    engine = _engine(model)
    engine.load_weights("snapshot:1", parameters(other), version=9)
    prompt = _ids(10, 1)
    engine.submit(_request(0, prompt, tokens=1, seed=5))
    engine.submit(_request(1, prompt, tokens=1, seed=5, policy="snapshot:1"))
    done = _by_id(engine.step())
    assert {n: c.version for n, c in done.items()} == {0: 3, 1: 9}
    mine, theirs = (forward_logprobs(m, prompt, done[n].ids) for n, m in enumerate((model, other)))
    assert done[0].logprobs == pytest.approx(mine, abs=2e-5)
    assert done[1].logprobs == pytest.approx(theirs, abs=2e-5)
    assert forward_logprobs(other, prompt, done[0].ids) != pytest.approx(mine, abs=1e-3)


def test_loaded_weights_are_a_copy(model):
    """Changing the learner's weights in place changes nothing until they are loaded."""
    own = copy.deepcopy(model)
    engine = _engine(own)
    for parameter in own.parameters():
        parameter.zero_()
    request = _request(0, _ids(10, 1))
    [completion] = _run(engine, [request])
    assert completion.logprobs == pytest.approx(forward_logprobs(model, request.prompt, completion.ids), abs=2e-5)


def _other(model, seed):
    torch.manual_seed(seed)
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    return other


def test_a_load_under_requests_is_told_token_by_token(model):
    """Loads of versions 4 and 5 while replies are in flight: each id has the log-probability of the weights that were
    there when it was sampled, over the whole text before it, as if that were a prompt; two requests of one prompt, which
    share a row, one that waits, and another policy's reply, which no load touches."""
    models = {3: model, 4: _other(model, 1), 5: _other(model, 2)}
    engine = _engine(model, (LEARNER, "other"), max_rows=3)
    prompt = _ids(40, 0)
    requests = [_request(n, prompt, tokens=12) for n in range(2)] + [_request(2, _ids(7, 1), tokens=12)]
    requests += [_request(4, _ids(9, 4), tokens=12, policy="other")]
    for request in requests:
        engine.submit(request)
    done = {}
    for step in range(60):
        if step in (5, 8):
            version = 4 + (step == 8)
            engine.load_weights(LEARNER, parameters(models[version]), version=version)
            late = _request(5 + step, prompt, tokens=12)
            requests.append(late)
            engine.submit(late)
        done |= {completion.request_id: completion for completion in engine.step()}
    assert done.keys() == {request.id for request in requests}
    for request in requests:
        reply, places = done[request.id], iter(range(12))
        own = [version for num, version in reply.older for _ in range(num)]
        own += [reply.version] * (12 - len(own))
        for place in places:
            expected = forward_logprobs(models[own[place]], request.prompt, reply.ids)
            assert reply.logprobs[place] == pytest.approx(expected[place], abs=2e-4)
    assert done[0].older == ((5, 3), (3, 4))
    assert done[4].older == ()
    assert done[13].version == 5
    assert done[13].older == ()
    assert done[10].version >= 4


def test_a_load_leaves_no_cache_of_older_weights(model):
    """Known failure (SkyRL#2246): replies after a load are computed from caches of the old weights for as long as a
    prefix lives. A shared prompt of 200 ids, kept as a prefix before the load and asked again after it."""
    other = _other(model, 3)
    engine = _busy(model)  # never idle, so that prefixes stay
    prompt = _ids(200, 0)
    _run(engine, [_request(n, prompt, tokens=3) for n in range(3)])
    engine.load_weights(LEARNER, parameters(other), version=4)
    for completion in _run(engine, [_request(n, prompt, tokens=3) for n in range(3, 6)]):
        assert completion.logprobs == pytest.approx(forward_logprobs(other, prompt, completion.ids), abs=2e-5)
        assert completion.version == 4


def test_a_policy_without_weights_is_refused(model):
    """The error names who was asked and who is known; a dropped policy is unknown again."""
    engine = _engine(model)
    with pytest.raises(SpiralError, match="no weights for 'snapshot:7' .it has: learner."):
        engine.submit(_request(0, (1,), policy="snapshot:7"))
    engine.drop(LEARNER)
    with pytest.raises(SpiralError, match="it has: none"):
        engine.submit(_request(0, (1,)))


@pytest.mark.parametrize("kind", ["byte-0.1m", "llama"])
def test_the_context_is_a_limit(kind):
    """Context 32: a prompt of 30 leaves room for a reply of 2, one of 31 for 1; no reply gets less than it asks for."""
    model = _make(kind, context=32)
    engine = _engine(model)
    requests = [_request(30, _ids(30, 1), tokens=2), _request(31, _ids(31, 2), tokens=1)]
    done = _by_id(_run(engine, requests))
    for request in requests:
        completion = done[request.id]
        assert (len(completion.ids), completion.finish) == (32 - request.id, "length")
        assert completion.logprobs == pytest.approx(forward_logprobs(model, request.prompt, completion.ids), abs=2e-5)
    for length, tokens, room in ((30, 3, 2), (31, 2, 1), (32, 1, 0), (50, 8, 0)):
        says = f"prompt of {length} tokens leaves room for a reply of {room} in .* context of 32, and {tokens} may"
        with pytest.raises(PromptTooLong, match=says):
            engine.submit(_request(0, _ids(length, 1), tokens=tokens))
    assert engine.step() == []


def test_short_prompts_beside_a_full_context_are_unharmed():
    """A padded row never reaches past the context: a prompt of 31 of 32 and one of 2, admitted together."""
    model = _make("byte-0.1m", context=32)
    requests = [_request(0, _ids(31, 1), tokens=1), _request(1, _ids(2, 2), tokens=30)]
    for request in requests:
        completion = _by_id(_run(_engine(model), requests))[request.id]
        expected = forward_logprobs(model, request.prompt, completion.ids)
        assert completion.logprobs == pytest.approx(expected, abs=2e-5)


def test_an_empty_prompt_is_refused(model):
    """Nothing predicts the first token of nothing."""
    with pytest.raises(SpiralError, match="prompt of 0 tokens"):
        _engine(model).submit(_request(0, ()))


def test_weights_of_another_model_are_refused():
    """One sentence that names a weight and both shapes."""
    small, big = _make("byte-0.1m"), MODELS["byte-0.4m"](context=256)[0]
    engine = _engine(small)
    with pytest.raises(RunError, match=r"weights belong to another model: .* this model needs"):
        engine.load_weights(LEARNER, parameters(big), version=1)
    with pytest.raises(RunError, match="belong to another model"):
        engine.load_weights(LEARNER, parameters(_make("llama")), version=1)


def test_buffers_that_grew_for_many_unlike_texts_are_given_back(model):
    """200 prompts at once, then one at a time: at the second weight load the buffers are a few rows again, and replies
    are those of a fresh engine, bit for bit."""
    engine = _engine(model)
    keys = engine._lanes[LEARNER]._keys
    _run(engine, [_request(number, _ids(40, number)) for number in range(200)])
    grown = keys.num_bytes
    engine.load_weights(LEARNER, parameters(model), version=4)
    assert keys.num_bytes == grown  # asked for since the last load
    _run(engine, [_request(0, _ids(40, 0))])
    engine.load_weights(LEARNER, parameters(model), version=5)
    assert keys.num_bytes == 0
    again = _run(engine, [_request(0, _ids(40, 0))])
    assert 0 < keys.num_bytes < grown / 4
    fresh = _engine(model)
    fresh.load_weights(LEARNER, parameters(model), version=5)
    assert again == _run(fresh, [_request(0, _ids(40, 0))])
