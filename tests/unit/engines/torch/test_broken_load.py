"""A load of weights that breaks off: nothing is answered from the mixture that it leaves."""

import pytest
import torch
from spiral_models import MODELS
from transformers import LlamaConfig, LlamaForCausalLM

from spiral.api.errors import RunError
from spiral.api.records import LEARNER, Request, Sampling
from spiral.engines.probe import ProbedEngine
from spiral.engines.torch.engine import TorchEngine
from spiral.models.logits import parameters
from spiral.testing.engines import forward_logprobs


class BreaksOff(dict):
    """Weights of which the second half does not come."""

    def __getitem__(self, name):
        if list(self).index(name) >= len(self) // 2:
            raise ConnectionError("the connection was reset")
        return super().__getitem__(name)

    def items(self):
        return ((name, self[name]) for name in self)


def _llama():
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=272, num_hidden_layers=2, max_position_embeddings=256, **sizes))


@pytest.fixture(params=["byte-0.1m", "llama"])
def model(request):
    torch.manual_seed(0)
    model = _llama() if request.param == "llama" else MODELS["byte-0.1m"](context=256)[0]
    return model.eval().requires_grad_(False)


def _request(number, policy=LEARNER):
    return Request(number, policy, tuple(range(20, 30)), Sampling(6, ()), seed=number)


def _replies(engine, num):
    found = []
    while len(found) < num:
        found += engine.step()
    return found


def _moved(weights, by):
    return {name: weight + by for name, weight in weights.items()}


def test_a_load_that_breaks_off_is_never_served(model):
    """Known failure (NeMo-RL#3651, vllm#57854): the stream broke half way, and the engine kept what had arrived. Requests
    of that policy, and those in flight, are refused; another policy's are answered; the next whole load is exact."""
    old, new = {name: w.clone() for name, w in parameters(model).items()}, _moved(parameters(model), 0.01)
    engine = ProbedEngine(TorchEngine(model, None), model)
    for policy in (LEARNER, "snapshot:1"):
        engine.load_weights(policy, old, 1)
    engine.submit(_request(0))
    with pytest.raises(ConnectionError):
        engine.load_weights(LEARNER, BreaksOff(new), 2)
    with pytest.raises(RunError, match="no whole weights of 'learner', since their last load failed"):
        engine.submit(_request(1))
    with pytest.raises(RunError, match="no whole weights of 'learner'"):
        engine.step()
    engine.load_weights(LEARNER, new, 2)  # its probe among the rest
    engine.submit(_request(1))
    engine.submit(_request(2, "snapshot:1"))
    replies = {reply.request_id: reply for reply in _replies(engine, 3)}
    assert {number: reply.version for number, reply in replies.items()} == {0: 2, 1: 2, 2: 1}
    for number, weights in ((0, new), (1, new), (2, old)):
        model.load_state_dict(weights, strict=False)
        expected = forward_logprobs(model, _request(number).prompt, replies[number].ids)
        assert list(replies[number].logprobs) == pytest.approx(expected, abs=1e-3)


def test_a_first_load_that_breaks_off_leaves_nothing(model):
    """The policy is as unknown as before."""
    engine = TorchEngine(model, None)
    with pytest.raises(ConnectionError):
        engine.load_weights(LEARNER, BreaksOff(parameters(model)), 0)
    with pytest.raises(RunError, match="no whole weights"):
        engine.submit(_request(0))
    assert engine.step() == []
    engine.load_weights(LEARNER, parameters(model), 0)
    engine.submit(_request(0))
    assert [reply.version for reply in _replies(engine, 1)] == [0]


def test_a_policy_whose_load_broke_off_can_be_dropped(model):
    engine = TorchEngine(model, None)
    engine.load_weights(LEARNER, parameters(model), 0)
    with pytest.raises(ConnectionError):
        engine.load_weights(LEARNER, BreaksOff(parameters(model)), 1)
    engine.drop(LEARNER)
    engine.load_weights(LEARNER, parameters(model), 1)
    engine.submit(_request(0))
    assert [reply.version for reply in _replies(engine, 1)] == [1]
