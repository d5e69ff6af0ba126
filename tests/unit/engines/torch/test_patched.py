"""A patched model on the engine: its own caches, and the same log-probabilities as one pass, whatever the engine shares."""

import math

import pytest
import torch
from spiral_games.native.kuhn_poker import KuhnPoker
from spiral_models import MODELS
from spiral_models.byte.tokenizer import ByteTokenizer

from spiral.api.errors import SpiralError
from spiral.api.records import LEARNER, Request, Sampling
from spiral.engines.torch.engine import TorchEngine
from spiral.engines.vllm.form import ModelForm
from spiral.evaluation.exact import exploitability
from spiral.evaluation.move_probabilities import sequence_logprobs
from spiral.learning.samples import Sample
from spiral.models.logits import TokenLogits, parameters
from spiral.models.own_forward import check_own_forward
from spiral.models.prompt_cache import Prompter
from spiral.models.prompts import PlainFormat
from spiral.models.row_cache import own_row_cache
from spiral.policies.completer import Completer
from spiral.theory.game_tree import GameTree

torch.set_num_threads(1)

TEXT = b"You hold a K; the pot is 3. Bet, or pass? Words of internationalization [4] |x| "
EXACT = 1e-5
POOLINGS = ("fixed", "spaces", "entropy")


@pytest.fixture(scope="module", params=POOLINGS)
def model(request):
    torch.manual_seed(0)
    return MODELS["patch-0.1m"](context=256, pooling=request.param, init_scale=1.5)[0].eval().requires_grad_(False)


def ids(length, start=0):
    return (257, *(TEXT[(start + n) % len(TEXT)] for n in range(length - 1)))


def engine(model, **args):
    made = TorchEngine(model, None, **args)
    made.load_weights(LEARNER, parameters(model), 0)
    return made


def replies(made, prompts, tokens=12, temperature=1.0, seed=0):
    for number, prompt in enumerate(prompts):
        made.submit(Request(number, LEARNER, prompt, Sampling(tokens, (), temperature), seed + number))
    done = []
    while len(done) < len(prompts):
        done += made.step()
    return sorted(done, key=lambda reply: reply.request_id)


def alone(model, prompt, reply):
    """Log-probabilities of a reply's ids by one pass over it."""
    logits = model(torch.tensor([[*prompt, *reply]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(reply)[:, None])[:, 0]


def assert_exact(model, prompts, done):
    for prompt, reply in zip(prompts, done, strict=True):
        assert (torch.tensor(reply.logprobs) - alone(model, prompt, reply.ids)).abs().max() <= EXACT


@torch.inference_mode()
def test_replies_have_the_log_probabilities_of_one_pass(model):
    """Prompts of many lengths, one of one id, several equal, whose replies differ, and with one beginning: cut at 32 and
    at 64, in the middle of a word."""
    begin = ids(70)
    prompts = [(257,), ids(9, 3), ids(40, 5), *[ids(33)] * 5, *[(*begin, *ids(n, n)) for n in (3, 20, 41)], begin]
    made = engine(model)
    done = replies(made, prompts)
    assert_exact(model, prompts, done)
    assert len({reply.ids for reply in done}) == len(prompts)
    whole = sum(len(prompt) + 11 for prompt in prompts)
    assert made.computed_tokens < whole - 3 * 64  # beginnings were computed once


@torch.inference_mode()
def test_texts_that_lose_their_row_are_gone_on_with(model):
    """Three rows for nine replies to three prompts, admitted a few at a time."""
    prompts = [ids(20 + 9 * n, n) for n in range(3)] * 3
    made = engine(model, max_rows=3, prefill_tokens=64)
    done = replies(made, prompts)
    assert_exact(model, prompts, done)
    assert [reply.ids for reply in done] == [reply.ids for reply in replies(engine(model), prompts)]


@torch.inference_mode()
def test_greedy_replies_are_those_of_generate_alone_ten_times_and_beside_others(model):
    prompt = ids(31)
    expected = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None)[0, 31:]
    for prompts in ([prompt], [prompt] * 10, [ids(90, 7), prompt, ids(3)]):
        done = replies(engine(model), prompts, temperature=0.0)
        assert done[prompts.index(prompt)].ids == tuple(expected.tolist())


@torch.inference_mode()
def test_new_weights_are_played_by_and_buffers_are_given_back(model):
    made = engine(model)
    replies(made, [ids(200 - n, n) for n in range(40)], tokens=3)
    full = made.cache_bytes
    changed = {name: weight * 1.1 for name, weight in parameters(model).items()}
    made.load_weights(LEARNER, changed, 1)
    done = replies(made, [ids(5)])
    made.load_weights(LEARNER, parameters(model), 2)
    assert made.cache_bytes < full / 4
    assert (torch.tensor(done[0].logprobs) - alone(model, ids(5), done[0].ids)).abs().max() > 0.01
    assert_exact(model, [ids(5)], replies(made, [ids(5)]))


@torch.inference_mode()
def test_the_learners_trees_score_as_the_engine_sampled(model):
    """Mirror self-play and exact theory stand on this: replies to one prompt are one row, under a mask."""
    prompt = ids(45)
    done = replies(engine(model), [prompt] * 6)
    samples = [Sample(prompt, reply, (0.0,) * 12, count=1) for reply in sorted(reply.ids for reply in done)]
    scored = sequence_logprobs(TokenLogits(model), samples, 4096).tolist()
    by_reply = {reply.ids: sum(reply.logprobs) for reply in done}
    for sample, score in zip(samples, scored, strict=True):
        assert score == pytest.approx(by_reply[sample.reply], abs=10 * EXACT)


@torch.inference_mode()
def test_exact_theory_on_kuhn_poker_is_of_what_is_played(model):
    """The probabilities from which NashConv is computed, in rows that are trees, against the legal replies fed one id
    after another over the cache that play samples over; NashConv is that of the mirrored game's best responses."""
    game, prompter = KuhnPoker(), Prompter(PlainFormat(ByteTokenizer()))
    tree = GameTree.of(game, 1000)
    found = exploitability(TokenLogits(model), Completer.of(None, prompter, 16), game.rules, tree)
    assert 0 < found.theory.nash_conv < 4
    assert len(tree.decisions) == len(found.table) == 12
    for decision in tree.decisions:
        prompt = prompter.encode(game.rules, decision.observation, decision.moves)
        chances = {move: math.exp(stepwise(model, prompt, prompter.reply(move))) for move in decision.moves}
        legal = sum(chances.values())
        assert found.illegal_mass[decision.observation] == pytest.approx(1 - legal, abs=EXACT)
        for move, chance in chances.items():
            assert found.table[decision.observation][move] == pytest.approx(chance / legal, rel=1e-4)


def stepwise(model, prompt, reply):
    """Log-probability of a reply, one id after another behind the prompt."""
    cache, total = own_row_cache(model, 1), 0.0
    cache.reserve(1, len(prompt) + len(reply))
    fed = list(prompt)
    start = 0
    for token in reply:
        places = torch.arange(start, start + len(fed))[None]
        window = cache.window(0, 1, places, start + len(fed))
        total += float(model(torch.tensor([fed]), past_key_values=window).logits[0, -1].log_softmax(-1)[token])
        start, fed = start + len(fed), [token]
    return total


def test_the_check_before_play_runs_over_the_models_own_cache(model):
    check_own_forward(model)
    assert not own_row_cache(model, 2).does_equal_work
    assert own_row_cache(MODELS["byte-0.1m"](context=64)[0], 2) is None


def test_a_pass_is_not_recorded(model):
    """Which rows the core computes depends on the bytes, so a recorded pass would compute another prompt's patches."""

    def record():
        return lambda work: pytest.fail("recorded")

    prompts = [ids(20), ids(33, 5)]
    made = engine(model, record=record)
    assert [r.ids for r in replies(made, prompts)] == [r.ids for r in replies(engine(model), prompts)]


def test_vllm_is_refused_with_the_reason(model):
    with pytest.raises(SpiralError, match="vLLM has no form of it; set engine=torch"):
        ModelForm.of(model, None)
