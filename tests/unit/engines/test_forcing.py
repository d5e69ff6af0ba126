"""A reply that is sampled in parts: what was sampled, what was put between, and that the two are told apart.

The engine is scripted: reply ids are a function of the request. A continuation that gives three ids puts 90, 91 behind
them and asks for the rest.
"""

import pytest
import torch
from spiral_models import MODELS

from spiral.api.errors import PluginError, PromptTooLong
from spiral.api.records import LEARNER, Continuation, Request, Sampling
from spiral.engines.forcing import ForcingEngine
from spiral.engines.torch.engine import TorchEngine
from spiral.models.logits import parameters
from spiral.testing import ScriptedEngine
from spiral.testing.engines import answered, forward_logprobs

STOP = 0
PUT = (90, 91)


def after_three(reply):
    return Continuation(PUT) if reply else Continuation(num_tokens=3)


def request(most=10, number=0):
    return Request(number, LEARNER, (7, 8), Sampling(most, (STOP,)), seed=5)


def say(*parts):
    """An engine that says the parts one after another, to one request."""
    left = iter(parts)
    return ScriptedEngine(lambda asked: next(left))


def test_a_reply_that_ends_in_its_first_part_is_asked_for_once():
    """The ids, the seed and the completion of an engine that is asked plainly."""
    inner = say((1, 2, STOP))
    done = answered(ForcingEngine(inner, after_three), [request()])[0]
    assert (done.ids, done.logprobs, done.finish, done.forced) == ((1, 2, STOP), (-0.5,) * 3, "stop", ())
    [asked] = inner.requests
    assert (asked.prompt, asked.seed, asked.sampling.max_new_tokens) == ((7, 8), 5, 3)


def test_what_is_put_between_two_parts_is_no_sample():
    """It follows the first part and precedes the second, at log-probability 0; the second part is sampled behind all of
    it, from a seed of its own, and has what is left of the reply's tokens. How it ends is how the reply ends."""
    inner = say((1, 2, 3), (4, STOP))
    done = answered(ForcingEngine(inner, after_three), [request()])[0]
    assert done.ids == (1, 2, 3, 90, 91, 4, STOP)
    assert done.logprobs == (-0.5, -0.5, -0.5, 0.0, 0.0, -0.5, -0.5)
    assert (done.forced, done.finish) == ((3, 4), "stop")
    first, second = inner.requests
    assert second.prompt == (7, 8, 1, 2, 3, 90, 91)
    assert second.sampling.max_new_tokens == 10 - 5
    assert (second.id, second.policy, second.sampling.stop_ids) == (first.id, LEARNER, (STOP,))
    assert first.seed != second.seed


def test_a_reply_that_runs_out_of_all_its_tokens_is_cut():
    """Not one that a part of it ran out of. Its parts and what stands between them are its length."""
    done = answered(ForcingEngine(say((1, 2, 3), (4, 5, 6)), after_three), [request(8)])[0]
    assert (len(done.ids), done.finish, done.forced) == (8, "length", (3, 4))


@pytest.mark.parametrize("most", [3, 4, 5])
def test_nothing_is_put_where_no_answer_could_follow(most):
    """The reply is cut, and all of it was sampled."""
    done = answered(ForcingEngine(say((1, 2, 3)), after_three), [request(most)])[0]
    assert (done.ids, done.finish, done.forced) == ((1, 2, 3), "length", ())


def test_a_reply_has_as_many_parts_as_its_format_says():
    """Parts of one id, each behind an id that was put there; the first too."""
    inner = ScriptedEngine(lambda asked: (len(asked.prompt),))
    forcing = ForcingEngine(inner, lambda reply: Continuation((90,), 1))
    done = answered(forcing, [request(6)])[0]
    assert (done.ids, done.forced) == ((90, 3, 90, 5, 90, 7), (0, 2, 4))
    assert len({asked.seed for asked in inner.requests}) == 3


def test_replies_do_not_wait_for_each_other():
    """Each goes on when its own part is there; its policy has a request in flight until the reply is whole."""
    inner = ScriptedEngine(lambda asked: (1, 2, 3, STOP) if asked.id else (1, STOP), delay=1)
    forcing = ForcingEngine(inner, after_three)
    for number in (0, 1):
        forcing.submit(request(number=number))
    finished = [[done.request_id for done in forcing.step()] for _ in range(4)]
    assert finished == [[], [0], [], [1]]


def test_a_prompt_needs_room_for_the_whole_reply():
    """Not for its first part alone, which would be found out in the middle of a game."""
    inner = say()
    inner.context = 11
    with pytest.raises(PromptTooLong, match="10 may be asked for"):
        ForcingEngine(inner, after_three).submit(request(10))
    assert inner.requests == []


def test_it_has_the_optional_members_of_the_engine_inside():
    """And none that the other has not."""
    inner = say()
    inner.capacity, inner.sleep = 3, lambda: True
    forcing = ForcingEngine(inner, after_three)
    assert (forcing.capacity, forcing.sleep()) == (3, True)
    assert not hasattr(forcing, "dtype")
    forcing.load_weights("snapshot:1", {}, 4)
    assert inner.loaded == [("snapshot:1", 4)]


@pytest.mark.parametrize(
    ("continuation", "found"),
    [(Continuation(num_tokens=0), "ask for 1 or more"), (Continuation((1,) * 10), "raise rollout.max_new_tokens")],
)
def test_a_continuation_that_goes_nowhere_is_named(continuation, found):
    """It would be asked again for ever, or not once."""
    with pytest.raises(PluginError, match=found):
        ForcingEngine(say(), lambda reply: continuation).submit(request())


def test_what_is_sampled_behind_forced_ids_has_the_models_probabilities():
    """On the torch engine, of several replies at once, against one plain forward pass; twice the same."""
    torch.manual_seed(0)
    model, tokenizer = MODELS["byte-0.1m"](context=64)
    engine = TorchEngine(model.eval(), tokenizer)
    engine.load_weights(LEARNER, parameters(model), 2)
    requests = [Request(n, LEARNER, (9, 8, 7, n % 2), Sampling(12, (STOP,)), seed=n) for n in range(4)]
    first, again = (answered(ForcingEngine(engine, after_three), requests) for _ in range(2))
    assert first == again
    for asked in requests:
        done = first[asked.id]
        assert (done.version, done.forced, [done.ids[place] for place in done.forced]) == (2, (3, 4), [*PUT])
        expected = forward_logprobs(model, asked.prompt, done.ids)
        sampled = [k for k in range(len(done.ids)) if k not in done.forced]
        assert [done.logprobs[k] for k in sampled] == pytest.approx([expected[k] for k in sampled], abs=1e-4)
