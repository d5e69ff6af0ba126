"""What a learner computes in, and keeps its weights and moments in, changes their rounding and not what is learned."""

import copy
import gc
import sys

import pytest
import torch
from accelerate import Accelerator
from spiral_models import MODELS
from torch.utils._python_dispatch import TorchDispatchMode

from spiral.api.errors import SpiralError
from spiral.api.records import LEARNER, Trajectory, Turn
from spiral.config.schema import LearnerConfig
from spiral.learning.averaging import ModelAverage
from spiral.learning.full_learner import FullLearner
from spiral.learning.optimizers import make_optimizer, set_rate
from spiral.learning.packing import pack
from spiral.learning.rounding import RoundedAdamW, copy_rounded_, rounding_generator
from spiral.models.bfloat16 import to_bfloat16
from spiral.models.logits import parameters
from spiral.runs.metric_names import MOVED

torch.set_num_threads(1)


def _model(dtype=torch.float32):
    torch.manual_seed(0)
    return MODELS["byte-0.1m"](context=128)[0].to(dtype).eval()


def _learner(model=None, **config):
    settings = {"max_grad_norm": 1e9, "ratio_tolerance": 1e9, "ema": 0.0, "importance": "none", **config}
    if model is None:
        model = _model(torch.bfloat16 if config.get("precision") == "bf16" else torch.float32)
    return FullLearner(model, LearnerConfig(**settings), 100, Accelerator(cpu=True))


def _batch():
    turns = [Turn("", (1, 2, 3, n), (4, 5, n % 3), (-5.5,) * 3, "x", True, "stop", 0) for n in range(8)]
    trajectories = [Trajectory("words", 0, LEARNER, 1.0, (turn,), 0) for turn in turns]
    return pack(trajectories, [[(-1.0) ** n] for n in range(8)], 4096)


# Rounding


def test_rounding_is_up_or_down_and_right_in_the_mean():
    """1 + 1/512, a quarter of the way from 1 to its neighbour in bfloat16: one of the two, the upper in a quarter of the
    cases; of either sign. What bfloat16 holds stays as it is, and so do infinities and what is no number."""
    for value in (1 + 1 / 512, -1 - 1 / 512):
        target = torch.empty(100_000, dtype=torch.bfloat16)
        copy_rounded_(target, torch.full((100_000,), value), rounding_generator(torch.device("cpu"), 1))
        assert set(target.abs().tolist()) == {1.0, 1 + 1 / 128}
        assert (target.abs() > 1).float().mean().item() == pytest.approx(0.25, abs=0.01)
    exact = torch.tensor([0.0, -0.0, 1.5, -3e38, torch.inf, -torch.inf, torch.nan])
    target = torch.empty(7, dtype=torch.bfloat16)
    exact = exact.bfloat16().float()
    copy_rounded_(target, exact, rounding_generator(torch.device("cpu"), 1))
    torch.testing.assert_close(target.float(), exact, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("optimizer", ["adamw", "plain"])
def test_weights_in_bfloat16_move_by_their_updates_in_the_mean(optimizer):
    """w = 1 and 100 steps of -6e-4: 0.94. Plain bfloat16 stays at 1, since each step is less than half a unit there."""
    weight = torch.nn.Parameter(torch.ones(5000, dtype=torch.bfloat16))
    if optimizer == "plain":
        made = torch.optim.AdamW([weight], lr=6e-4, weight_decay=0.0)
    else:
        made = make_optimizer([weight], LearnerConfig(lr=6e-4))
    for _ in range(100):
        weight.grad = torch.full_like(weight, 0.3)
        made.step()
    expected = 1.0 if optimizer == "plain" else 0.94
    assert weight.float().mean().item() == pytest.approx(expected, abs=2e-3)
    assert (weight != 1).float().mean().item() == (0 if optimizer == "plain" else pytest.approx(1, abs=1e-2))


def test_rounded_adamw_is_adamw():
    """Mean over 4,000 equal weights after 20 steps with gradients that change: torch's AdamW in float32, weight decay
    included, to a hundredth of the way."""
    start = torch.full((4000,), 0.5)
    rounded, exact = torch.nn.Parameter(start.bfloat16()), torch.nn.Parameter(start.clone())
    mine = RoundedAdamW([rounded], 1e-2, (0.9, 0.95), 0.1)
    theirs = torch.optim.AdamW([exact], lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1)
    for step in range(20):
        size = (1.0, 2.0, -0.5, 0.25)[step % 4]
        rounded.grad, exact.grad = torch.full_like(rounded, size), torch.full_like(exact, size)
        mine.step()
        theirs.step()
    way = exact[0].item() - 0.5
    assert abs(way) > 0.05
    assert rounded.float().mean().item() - 0.5 == pytest.approx(way, rel=0.01)


def test_an_average_in_bfloat16_follows():
    """A decay of .998 over 200 updates from 1 towards 1.0625: 1 - .998^200 of the way, in the mean. Each is less than a
    sixtieth of a unit at first, and rounded to the nearest nothing would move."""
    model = torch.nn.Linear(100, 50, bias=False).to(torch.bfloat16)
    torch.nn.init.ones_(model.weight)
    average = ModelAverage(model, 0.998, 0.0)
    average.num_updates = 10**6  # so long that the decay is the longer memory
    torch.nn.init.constant_(model.weight, 1.0625)
    for _ in range(200):
        average.update(model)
    expected = 1 + 0.0625 * (1 - 0.998**200)
    assert average.model.weight.float().mean().item() == pytest.approx(expected, abs=1e-3)


# The learner


def test_a_learner_in_bfloat16_moves_its_weights_and_goes_on_bit_for_bit():
    """Most weights have moved after ten small updates; a learner that takes its state over rounds as it does."""
    config = {"precision": "bf16", "lr": 1e-4, "ema": 0.9, "kl": 0.1, "reference_every": 2}
    one = _learner(**config)
    start = {name: weight.clone() for name, weight in parameters(one.model).items()}
    for step in range(5):
        one.update(_batch(), step, 8)
    other = _learner(**config)
    other.load_state(copy.deepcopy(one.state()))
    for step in range(5, 10):
        one.update(_batch(), step, 8)
        other.update(_batch(), step, 8)
    for name, weight in parameters(one.model).items():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, parameters(other.model)[name]), name
    moved = sum(int((weight != start[name]).sum()) for name, weight in parameters(one.model).items())
    assert moved / sum(weight.numel() for weight in start.values()) > 0.3


@pytest.mark.parametrize(("precision", "lr", "about"), [("bf16", 1e-4, 0.5), ("bf16", 1e-6, 0.01), ("mixed", 1e-6, 1)])
def test_a_step_says_what_share_of_the_weights_moved(precision, lr, about):
    """Of those with a gradient, as a count over all of them finds too: nearly all in float32, few in bfloat16."""
    learner = _learner(precision=precision, lr=lr)
    start = {name: weight.clone() for name, weight in parameters(learner.model).items()}
    learned = {}
    keep = lambda *_: learned.update({name: p.grad != 0 for name, p in learner.model.named_parameters()})  # noqa: E731
    learner._optimizer.register_step_pre_hook(keep)
    found = learner.update(_batch(), 0, 8)[MOVED]
    moved = sum(
        int(((weight != start[name]) & learned[name]).sum()) for name, weight in parameters(learner.model).items()
    )
    assert found == pytest.approx(moved / sum(int(mask.sum()) for mask in learned.values()), rel=0.1, abs=2e-3)
    assert about / 4 < found < about * 4


@pytest.mark.parametrize("precision", ["mixed", "bf16"])
def test_the_loss_is_float32_and_near(precision):
    """Gradient norm and entropy are those of float32 to a few percent; of `mixed`, gradients are float32."""
    exact = _learner().update(_batch(), 0, 8)
    learner = _learner(precision=precision)
    found = learner.update(_batch(), 0, 8)
    for name in ("learner/grad_norm", "learner/entropy"):
        assert found[name] == pytest.approx(exact[name], rel=0.05)
        assert found[name] != exact[name]
    kept = {tensor.dtype for state in learner._optimizer.state.values() for tensor in state.values() if tensor.dim()}
    assert kept == {torch.float32 if precision == "mixed" else torch.bfloat16}
    assert learner.model.dtype == (torch.float32 if precision == "mixed" else torch.bfloat16)


class _Softmaxes(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.dtypes, self.products = set(), set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "log_softmax" in str(func):
            self.dtypes.add(args[0].dtype)
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.products.add(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["mixed", "bf16"])
def test_log_probabilities_are_taken_in_float32(precision):
    """Matrix products are bfloat16, softmaxes over the vocabulary float32, forward and backward."""
    learner = _learner(precision=precision, kl=0.1)
    with _Softmaxes() as seen:
        learner.update(_batch(), 0, 8)
    assert seen.dtypes == {torch.float32}
    assert seen.products == {torch.bfloat16}


def test_an_adapter_in_a_run_in_bfloat16_stays_float32():
    """It is all that is trained, and a hundredth of the memory; buffers stay too, such as rotary frequencies."""
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(_model(), peft.LoraConfig(r=4, target_modules=["qkv_proj"]))
    to_bfloat16(model)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == (torch.float32 if "lora_" in name else torch.bfloat16), name
    assert {buffer.dtype for buffer in model.buffers()} == {torch.float32}
    learner = FullLearner(model, LearnerConfig(ema=0.0, ratio_tolerance=1e9), 100, Accelerator(cpu=True))
    assert isinstance(learner._optimizer, torch.optim.AdamW)
    assert learner.update(_batch(), 0, 8)["learner/grad_norm"] > 0


# Memory


def _held():
    """Bytes of the storage of every tensor that is alive."""
    gc.collect()
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in found}.values())


@pytest.mark.parametrize(
    ("settings", "models"),
    [
        ({}, 2),
        ({"precision": "mixed", "checkpoint_activations": True}, 2),
        ({"precision": "bf16"}, 2),
        ({"epochs": 2, "clip": 0.2}, 2),
        ({"anchor": 0.1}, 2),
        ({"ema": 0.9}, 3),
        ({"kl": 0.1}, 4),
        ({"anchor": 0.1, "anchor_to": "initial"}, 3),
    ],
)
def test_a_learner_holds_what_was_asked_for(settings, models):
    """Beside the weights, after two updates: Adam's two moments, each as large as the weights, and nothing else; an
    average, the initial policy, and a reference with the average that it moves to only where the config has them."""
    batch, dtype = _batch(), torch.bfloat16 if settings.get("precision") == "bf16" else torch.float32
    _learner(**settings).update(batch, 0, 8)  # what is kept once for all learners
    model = _model(dtype)
    weights = sum(weight.nbytes for weight in parameters(model).values())
    before = _held()
    learner = _learner(model, **settings)
    for step in range(2):
        learner.update(batch, step, 8)
    assert (_held() - before) / weights == pytest.approx(models, abs=0.15)


# The 8-bit optimiser


def test_without_its_library_the_8_bit_optimiser_is_one_sentence(monkeypatch):
    """What was asked for, what is missing, how to get it or do without."""
    model = _model()
    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    with pytest.raises(SpiralError, match=r"adamw_8bit needs torchao, which is not installed: pip install"):
        _learner(model, optimizer="adamw_8bit")


def test_the_8_bit_optimiser_is_adamw(monkeypatch):
    """torchao's: the rate that is set is used, weights move as by AdamW to a percent, and its step changes no other
    random draw."""
    torchao = pytest.importorskip("torchao.optim")
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)  # what it compiles is torch as well
    weight = torch.nn.Parameter(torch.linspace(1, 2, 8192))
    exact = torch.nn.Parameter(weight.detach().clone())
    made = make_optimizer([weight], LearnerConfig(lr=1.0, optimizer="adamw_8bit"))
    assert isinstance(made, torchao.AdamW8bit)
    theirs = torch.optim.AdamW([exact], lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
    set_rate(made, 1e-3)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for step in range(10):
        weight.grad = torch.linspace(-1, 1, 8192) + 0.1 * step
        exact.grad = weight.grad.clone()
        made.step()
        theirs.step()
    assert torch.equal(torch.get_rng_state(), before)
    way = (exact - torch.linspace(1, 2, 8192)).norm()
    assert (weight - exact).norm() < 0.05 * way
    assert made.state[weight]["exp_avg"].codes.dtype == torch.uint8
