"""Dropout schedules: the rate at each fraction by hand, a model that has it in its gradients alone, and the same draws
for the same step."""

import pytest
import torch
from accelerate import Accelerator
from spiral_models import MODELS

from spiral.api.errors import SpiralError
from spiral.api.records import LEARNER, Trajectory, Turn
from spiral.config.dropout import DropoutConfig
from spiral.config.schema import LearnerConfig
from spiral.learning.dropout import Dropout, dropout_rate
from spiral.learning.full_learner import FullLearner
from spiral.learning.packing import pack
from spiral.learning.policy_loss import PolicyLoss
from spiral.learning.supervised import LIKELIHOOD
from spiral.models.logits import parameters

torch.set_num_threads(1)


def _model():
    torch.manual_seed(0)
    return MODELS["byte-0.1m"](context=64)[0].eval()


# Schedules

EIGHTHS = [n / 8 for n in range(9)]


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ({"schedule": "constant"}, [0.2] * 9),
        ({"schedule": "early", "switch": 0.25}, [0.2, 0.2, 0, 0, 0, 0, 0, 0, 0]),
        ({"schedule": "late", "switch": 0.25}, [0, 0, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]),
        ({"schedule": "linear_up"}, [0, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2]),
        ({"schedule": "linear_up", "ramp": 0.5}, [0, 0.05, 0.1, 0.15, 0.2, 0.2, 0.2, 0.2, 0.2]),
        ({"schedule": "linear_down", "ramp": 0.5}, [0.2, 0.15, 0.1, 0.05, 0, 0, 0, 0, 0]),
        ({"schedule": "triangle", "cycles": 2}, [0, 0.1, 0.2, 0.1, 0, 0.1, 0.2, 0.1, 0]),
        ({"schedule": "triangle", "cycles": 1}, [0, 0.05, 0.1, 0.15, 0.2, 0.15, 0.1, 0.05, 0]),
    ],
)
def test_the_rate_is_a_function_of_the_fraction_that_is_done(schedule, rates):
    """At a jump the later one holds."""
    config = DropoutConfig(0.2, **schedule)
    assert [dropout_rate(config, fraction) for fraction in EIGHTHS] == pytest.approx(rates)


@pytest.mark.parametrize(
    "schedule", [{"schedule": "early", "switch": 0.0}, {"schedule": "late", "switch": 1.0}, {"schedule": "linear_down", "ramp": 0.0}]
)  # fmt: skip
def test_a_schedule_at_its_limit_has_no_dropout(schedule):
    """Whose last step is before the fraction 1."""
    assert [dropout_rate(DropoutConfig(0.2, **schedule), n / 8) for n in range(8)] == [0.0] * 8


# The model


def test_the_model_has_it_inside_alone_and_at_the_places_asked_for():
    """Whatever ends the block."""
    model, seen = _model(), []
    dropout = Dropout(model, DropoutConfig(0.25, places=["attention"]), 0, "learner")

    def fail():
        with dropout.during(0.5, 1):
            seen.append((model.training, model.config.dropout, tuple(model.config.dropout_places)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == [(True, 0.25, ("attention",))]
    assert not model.training
    assert model.config.dropout == 0


def test_what_is_dropped_follows_from_seed_phase_and_step_alone():
    model, ids = _model(), torch.arange(20)[None]

    def logits(seed, phase, step):
        torch.rand(3)  # whatever the global generator stands at
        with Dropout(model, DropoutConfig(0.25), seed, phase).during(0.5, step):
            return model(ids).logits

    first = logits(0, "learner", 3)
    assert torch.equal(first, logits(0, "learner", 3))
    for other in ((1, "learner", 3), (0, "warm_start", 3), (0, "learner", 4)):
        assert not torch.equal(first, logits(*other))


def test_a_model_without_dropout_is_refused_unless_the_rate_is_0():
    with pytest.raises(SpiralError, match="learner.dropout.rate is 0.1, and this model has no set_dropout"):
        Dropout(torch.nn.Linear(2, 2), DropoutConfig(0.1), 0, "learner")
    with Dropout(torch.nn.Linear(2, 2), DropoutConfig(), 0, "learner").during(0.5, 1):
        pass


# Updates


def _batch(**how):
    turns = [Turn("", (1, 2, n), (4, n, 6), (0.0,) * 3, None, True, "stop", 0) for n in range(6)]
    trajectories = [Trajectory("text", 0, LEARNER, 0.0, (turn,), 0) for turn in turns]
    return pack(trajectories, [[1.0]] * len(turns), 10**6, **how)


def _learner(model, seed=0, **config):
    config = {"objective": "likelihood", "normalisation": "tokens", "kl": 0.0, "ema": 0.0, "lr": 1e-3, **config}
    return FullLearner(model, LearnerConfig(**config), 10, Accelerator(cpu=True), seed=seed)


def _gradients(model, checkpoint_activations):
    loss = PolicyLoss(model, checkpoint_activations=checkpoint_activations)
    model.zero_grad()
    with Dropout(model, DropoutConfig(0.2), 0, "learner").during(0.0, 7):
        (-loss(_batch().micro_batches[0], LIKELIHOOD).objective).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_what_is_computed_again_in_the_backward_pass_drops_what_was_dropped():
    """Gradients with activation checkpointing on and off, with dropout of 0.2 (OLMo-core#828, guided-diffusion#167)."""
    model = _model()
    plain = _gradients(model, False)
    assert max(gradient.norm() for gradient in plain.values()) > 1e-3
    torch.testing.assert_close(_gradients(model, True), plain, atol=1e-6, rtol=1e-6)


def test_an_update_of_likelihood_has_dropout_in_its_gradients_and_a_scorer_none():
    """Two learners with and without it part; the scorer's log-probabilities are those of the model without, bit by bit,
    and what is saved says so."""
    plain, dropped = _learner(_model()), _learner(_model(), dropout=DropoutConfig(0.3))
    nll = [learner.update(_batch(), 0, 6)["learner/nll"] for learner in (plain, dropped)]
    assert nll[0] != nll[1]
    weights = [parameters(learner.model) for learner in (plain, dropped)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not dropped.model.training
    assert dropped.model.config.dropout == 0
    fresh = _model()
    fresh.load_state_dict(dropped.model.state_dict())
    ids, places = torch.arange(8)[None], torch.arange(8)
    scored = [lm(ids, places[None], None, places * 0, places) for lm in (dropped.scorer(), _learner(fresh).scorer())]
    assert torch.equal(*scored)


def test_minibatches_are_scored_without_dropout_before_the_first_step():
    """The pass that scores a batch of several minibatches is no update: a rate of 0.9 would show in the ratios."""
    learner, seen = _learner(_model(), minibatches=2, clip=0.2, dropout=DropoutConfig(0.9)), []
    score = learner._score
    learner._score = lambda *args: (seen.append(learner.model.training), score(*args))[1]
    learner.update(_batch(minibatches=2), 0, 6)
    assert seen == [False]


def test_an_update_is_a_function_of_its_step():
    """Of a run that goes on: the same weights, wherever the generators stand; other seeds, steps drop other things."""

    def nll(seed=0, step=0):
        torch.rand(3)
        return _learner(_model(), seed, dropout=DropoutConfig(0.3)).update(_batch(), step, 6)["learner/nll"]

    assert nll() == nll()
    assert len({nll(), nll(seed=1), nll(step=1)}) == 3


def test_a_late_schedule_begins_at_its_step():
    """Of 10 steps from 0.5 on: steps 0 to 4 are those without dropout."""

    def nll(step, **config):
        return _learner(_model(), **config).update(_batch(), step, 6)["learner/nll"]

    late = {"dropout": DropoutConfig(0.3, "late", switch=0.5)}
    assert [nll(step) == nll(step, **late) for step in (0, 4, 5, 9)] == [True, True, False, False]
