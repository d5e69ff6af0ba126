"""The torch engine as it works on a GPU, without one: what crosses to the host, and decoding in recorded shapes.

`Device` stands for a GPU: its tensors hold their numbers on the CPU and say that they are elsewhere, so each operation
that mixes the two or asks the device for a number is seen.
"""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from spiral.api.records import LEARNER, Request, Sampling
from spiral.engines.torch import decoding
from spiral.engines.torch.decoding import CudaGraphs
from spiral.engines.torch.engine import TorchEngine
from spiral.models.logits import parameters
from spiral.testing.engines import forward_logprobs

torch.set_num_threads(1)

AWAY = torch.device("meta")
"""What tensors of `Device` call their device; torch keeps nothing there itself."""
SHAPE = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
}


class OnDevice(torch.Tensor):
    """A tensor of `Device`."""

    @staticmethod
    def __new__(cls, here):
        return torch.Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype, device=AWAY
        )

    def __init__(self, here):
        self.here = here

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} ran outside of Device")


class Device(TorchDispatchMode):
    """Runs operations on the CPU and counts those that a GPU would make the host wait for, or wait for the host."""

    READS = ("aten._local_scalar_dense", "aten.item", "aten.nonzero", "aten.equal", "aten.is_nonzero")

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        seen = [t for t in _tensors((args, kwargs)) if t.dim() > 0 or isinstance(t, OnDevice)]
        inside = {id(t.here): t for t in seen if isinstance(t, OnDevice)}
        outside = [t for t in seen if not isinstance(t, OnDevice)]
        devices = [a for a in (*args, kwargs.get("device")) if isinstance(a, torch.device)]
        away = devices[0] == AWAY if devices else bool(inside)
        if inside and (not away or str(func).rsplit(".", 1)[0] in self.READS):
            self.counts["to_host"] += 1
        if outside and away:  # an operation that is no copy would copy what it was given, and wait for that
            self.counts["mixed" if inside else "to_device"] += 1
        here = torch.device("cpu")
        args, kwargs = tree_map_only(torch.device, lambda _: here, (args, kwargs))
        args, kwargs = tree_map_only(OnDevice, lambda t: t.here, (args, kwargs))
        out = func(*args, **kwargs)
        if not away:
            return tree_map_only(torch.Tensor, lambda t: t.clone() if id(t) in inside else t, out)
        return tree_map_only(torch.Tensor, lambda t: inside[id(t)] if id(t) in inside else OnDevice(t), out)


def _tensors(tree):
    found = []
    tree_map_only(torch.Tensor, found.append, tree)
    return found


def _recorded():
    """Records as CUDA graphs do: the result of a pass always stands in the same place."""

    def record(work):
        out = work().clone()

        def replay():
            return out.copy_(work())

        return replay

    return record


def _model(kind="llama"):
    torch.manual_seed(0)
    made = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=16, tie_word_embeddings=True)),
    }
    return made[kind]().eval().requires_grad_(False)


def _moved(model):
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(OnDevice(parameter.detach()), requires_grad=False)
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = OnDevice(buffer)
    return model


def _requests(num, tokens=12, temperatures=(1.0,)):
    """Prompts of many lengths, some equal, some with shared beginnings; about one id in twelve ends a reply."""
    stop = tuple(range(0, SHAPE["vocab_size"], 12))
    prompts = [tuple((7 * (n // 2) + 13 * i + i * i) % 96 for i in range(3 + 5 * (n % 9))) for n in range(num)]
    samplings = [Sampling(tokens, stop, temperature) for temperature in temperatures]
    return [Request(n, LEARNER, p, samplings[n % len(samplings)], 77 * n + 5) for n, p in enumerate(prompts)]


def _answers(engine, requests, late=0):
    """Completions by request; the last `late` requests are submitted one a step."""
    waiting = list(requests)
    for _ in range(len(requests) - late):
        engine.submit(waiting.pop(0))
    done = {}
    for _ in range(2000):
        if waiting:
            engine.submit(waiting.pop(0))
        done |= {c.request_id: c for c in engine.step()}
        if len(done) == len(requests):
            return done
    raise AssertionError("some requests were never answered")


def _engine(model, record=None, **args):
    engine = TorchEngine(model, None, record=record, **args)
    engine.load_weights(LEARNER, parameters(model), 0)
    return engine


# What the host waits for


@pytest.mark.parametrize("temperatures", [(1.0,), (0.7, 1.3)])
def test_a_step_on_a_device_waits_for_it_once(temperatures):
    """However many rows are in flight, and while prompts come in: one copy to the host a step, the ids that were
    sampled, and no operation that mixes tensors of host and device."""
    for num, late in ((1, 0), (24, 12)):
        device = Device()
        with device:
            engine = _engine(_moved(_model()), _recorded, max_rows=32)
            requests = _requests(num, temperatures=temperatures)
            for request in requests[: num - late]:
                engine.submit(request)
            waiting, done, steps = requests[num - late :], 0, 0
            device.counts.clear()
            while done < num:
                if waiting:
                    engine.submit(waiting.pop())
                done += len(engine.step())
                steps += 1
            assert device.counts["to_host"] == steps
            assert device.counts["mixed"] == 0


def test_the_counting_device_sees_what_it_should():
    """Numbers asked for, tensors fetched and lists used as indices are each counted."""
    with Device() as device:
        tensor = torch.arange(6, device=AWAY).float()
        assert isinstance(tensor, OnDevice)
        float(tensor.sum())
        tensor.cpu()
        assert device.counts["to_host"] == 2
        tensor[torch.tensor([1, 2])]
        assert device.counts["mixed"] == 1
        torch.tensor([1, 2]).to(AWAY)
        assert device.counts["to_device"] == 1


# Recorded shapes


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("max_rows", [3, 8, 64])
def test_recorded_decoding_gives_the_log_probs_of_a_full_forward(kind, max_rows):
    """In shapes rounded up, with rows that hold no text, and with keys shared by heads."""
    model = _model(kind)
    requests = _requests(20, tokens=90)
    done = _answers(_engine(model, _recorded, max_rows=max_rows), requests, late=8)
    for request in requests:
        completion = done[request.id]
        expected = forward_logprobs(model, request.prompt, completion.ids)
        assert completion.logprobs == pytest.approx(expected, abs=2e-5)


def test_a_seed_gives_the_same_reply_in_recorded_shapes():
    """Ids are drawn by the same numbers on a device as on a CPU: replies are equal but where rounding tips a draw."""
    model, requests = _model(), _requests(40, temperatures=(1.0, 0.8))
    plain, recorded = _answers(_engine(model), requests), _answers(_engine(model, _recorded), requests, late=20)
    assert {n: c.ids for n, c in plain.items()} == {n: c.ids for n, c in recorded.items()}


def test_each_size_is_recorded_once_and_again_when_the_buffers_grow():
    """Sizes are powers of two; new weights need no new recording, since they are copied into the old ones' place."""
    num = 0

    def counted():
        record = _recorded()

        def count(work):
            nonlocal num
            num += 1
            return record(work)

        return count

    model = _model()
    engine = _engine(model, counted, max_rows=8)
    ask = [Request(n, LEARNER, (n, 1, 2), Sampling(20, ()), n) for n in range(5)]
    _answers(engine, ask)
    assert num == 1  # five rows of 23 ids: 8 x 64
    engine.load_weights(LEARNER, {name: 2 * tensor for name, tensor in parameters(model).items()}, 1)
    louder = _answers(engine, ask)
    assert num == 1
    doubled = _model()
    doubled.load_state_dict({name: 2 * tensor for name, tensor in model.state_dict().items()})
    assert louder[0].logprobs == pytest.approx(forward_logprobs(doubled, ask[0].prompt, louder[0].ids), abs=2e-5)
    long = [Request(n, LEARNER, tuple(range(60)), Sampling(20, ()), n) for n in range(5)]
    _answers(engine, long)
    assert num > 1  # up to 80 ids: buffers of 128


def test_keys_are_not_copied_for_each_head_that_shares_them(monkeypatch):
    """A decoding pass of a model with grouped queries attends over as many key heads as the model has."""
    seen = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def spy(query, key, *args, **kwargs):
        seen.append((query.shape, key.shape))
        return attend(query, key, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    engine = _engine(_model("qwen3"), _recorded, max_rows=4)
    engine.submit(Request(0, LEARNER, (1, 2, 3), Sampling(3, ()), 0))
    engine.step()
    seen.clear()
    engine.step()
    assert seen
    assert {(query[1], key[1]) for query, key in seen} == {(2, 2)}


# CUDA graphs


class FakeCuda:
    """torch.cuda's part of a recording; `fails` as the capture of an operation that waits for the device does."""

    def __init__(self, fails=False):
        self.fails, self.calls = fails, []

    def install(self, monkeypatch):
        cuda = self

        class Stream:
            def wait_stream(self, other):
                cuda.calls.append("wait")

        class Graph:
            def replay(self):
                cuda.calls.append("replay")

        class Block:
            def __init__(self, *args, **kwargs):
                self.kwargs = kwargs

            def __enter__(self):
                cuda.calls.append(("enter", *sorted(self.kwargs)))

            def __exit__(self, *error):
                if cuda.fails and self.kwargs:
                    raise RuntimeError("operation not permitted when stream is capturing")

        for name, fake in {
            "Stream": Stream,
            "current_stream": Stream,
            "stream": Block,
            "CUDAGraph": Graph,
            "graph": Block,
            "graph_pool_handle": lambda: (0, 1),
        }.items():
            monkeypatch.setattr(decoding.torch.cuda, name, fake)
        return self


def test_a_pass_is_warmed_up_captured_once_and_then_replayed(monkeypatch):
    """A replay calls the graph and not the work, and returns what the capture returned."""
    cuda, calls = FakeCuda().install(monkeypatch), []

    def work():
        calls.append(1)
        return torch.tensor([len(calls)])

    replay = CudaGraphs()(work)
    assert len(calls) == 2
    assert [replay().item(), replay().item()] == [2, 2]
    assert len(calls) == 2
    assert cuda.calls.count("replay") == 2
    assert ("enter", "pool") in cuda.calls


def test_a_model_that_no_graph_can_hold_decodes_without_one(monkeypatch):
    """With one warning that says so."""
    FakeCuda(fails=True).install(monkeypatch)
    with pytest.warns(UserWarning, match="not recorded as a CUDA graph"):
        run = CudaGraphs()(lambda: torch.tensor([7]))
    assert run().item() == 7
