"""Ids of a reply that a prompt format put there: later ids follow them, and nothing is learned or measured at them."""

import dataclasses
import functools
import math
import random

import pytest
import torch
from accelerate import Accelerator
from spiral_models import MODELS

from spiral.api.records import LEARNER, Trajectory, Turn
from spiral.config.schema import LearnerConfig
from spiral.learning.full_learner import FullLearner
from spiral.learning.objective import Objective
from spiral.learning.packing import pack
from spiral.learning.policy_loss import PolicyLoss
from spiral.learning.samples import merge

torch.set_num_threads(1)


def turn(prompt, reply, forced=(), **fields):
    logprobs = tuple(0.0 if place in forced else -1.0 for place in range(len(reply)))
    return Turn("", prompt, reply, logprobs, "x", True, "stop", 0, forced=forced, **fields)


def trajectory(*turns):
    return Trajectory("kuhn", 0, LEARNER, 1.0, turns, 0)


@functools.cache
def model():
    torch.manual_seed(0)
    return MODELS["byte-0.1m"](context=64)[0].eval()


def test_they_stand_in_the_row_and_are_no_targets():
    """3 and 6 7 were sampled, 4 5 were not: 6 is predicted behind 5, and the counts are those of sampled ids."""
    batch = pack([trajectory(turn((1, 2), (3, 4, 5, 6, 7), (1, 2)))], [[2.0]], 100)
    [micro] = batch.micro_batches
    assert micro.ids.tolist() == [[1, 2, 3, 4, 5, 6, 7]]
    assert list(zip(micro.columns.tolist(), micro.targets.tolist(), strict=True)) == [(1, 3), (4, 6), (5, 7)]
    assert micro.logprobs.tolist() == [-1.0] * 3
    assert (batch.num_reply_tokens, batch.num_sequence_tokens) == (3, 7)


def test_one_text_that_was_sampled_and_one_that_was_forced_are_two_samples():
    """A policy that closes its thought itself is trained at the close, in the same row."""
    own, forced = turn((1,), (2, 3, 4)), turn((1,), (2, 3, 4), (1,))
    samples = merge([trajectory(forced), trajectory(own), trajectory(forced)], [[1.0], [4.0], [2.0]])
    assert [(s.forced, s.positive, s.count) for s in samples] == [((), 4.0, 1), ((1,), 3.0, 2)]
    [micro] = pack([trajectory(forced), trajectory(own)], [[1.0], [4.0]], 100).micro_batches
    assert micro.ids.tolist() == [[1, 2, 3, 4]]
    assert sorted(zip(micro.targets.tolist(), micro.positive.tolist(), strict=True)) == [
        (2, 1.0), (2, 4.0), (3, 4.0), (4, 1.0), (4, 4.0),
    ]  # fmt: skip


def test_the_anchor_holds_nothing_there():
    """Random legal play says 3 4 0 or 3 5 0; where 4 was not sampled, only 3 and the end are anchored, by their place
    among the trained tokens."""
    legal = ((3, 4, 0), (3, 5, 0))
    [micro] = pack([trajectory(turn((1,), (3, 4, 0), (1,), legal_replies=legal))], [[1.0]], 100).micro_batches
    assert micro.targets.tolist() == [3, 0]
    assert (micro.anchored.tolist(), micro.anchor_ids.tolist()) == ([0, 1], [3, 0])


def played():
    """Two games, one a transcript of two turns, with ids that were not sampled in the middle and at the end of parts."""
    rng = random.Random(1)

    def ids(num):
        return tuple(rng.choices(range(1, 256), k=num))

    first = turn(ids(5), ids(7), (2, 3))
    later = turn(first.prompt + first.reply + ids(3), ids(6), (0, 4))
    other = turn(first.prompt[:4] + ids(2), ids(4))
    return [trajectory(first, later), trajectory(other)], [[1.5, -0.5], [-2.0]]


def with_logprobs(one, by):
    """The model's log-probabilities at what was sampled, each moved by `by()`; 0 elsewhere."""
    with torch.no_grad():
        whole = torch.log_softmax(model()(input_ids=torch.tensor([[*one.prompt, *one.reply]])).logits[0], -1)
    at = [whole[len(one.prompt) + k - 1, token].item() + by() for k, token in enumerate(one.reply)]
    return dataclasses.replace(one, logprobs=tuple(0.0 if k in one.forced else x for k, x in enumerate(at)))


def moved(trajectories, by):
    return [dataclasses.replace(t, turns=tuple(with_logprobs(turn, by) for turn in t.turns)) for t in trajectories]


def by_hand(trajectories, advantages, weights):
    """The objective turn by turn over sampled ids alone; its gradient is left in the model."""
    objective = torch.zeros(())
    for one, row in zip(trajectories, advantages, strict=True):
        for t, advantage in zip(one.turns, row, strict=True):
            logprobs = torch.log_softmax(model()(input_ids=torch.tensor([[*t.prompt, *t.reply]])).logits[0], -1)
            places = [k for k in range(len(t.reply)) if k not in t.forced]
            at = [len(t.prompt) + k - 1 for k in places]
            now = logprobs[at, [t.reply[k] for k in places]]
            gap = now - torch.tensor([t.logprobs[k] for k in places])
            if weights.ratio_level == "sequence":
                gap = gap.mean().detach() + now - now.detach()
            terms = gap.exp() * advantage - weights.entropy * (logprobs[at].exp() * logprobs[at]).sum(-1)
            objective = objective + (terms.mean() if weights.mean_of_replies else terms.sum())
    objective.backward()
    return objective.item()


def gradient():
    return torch.cat([p.grad.flatten() for p in model().parameters()])


@pytest.mark.parametrize(
    "weights", [Objective(entropy=0.1), Objective(ratio_level="sequence", mean_of_replies=True, entropy=0.1)]
)
def test_the_gradient_is_that_of_what_was_sampled(weights):
    """Ratios of tokens and of whole replies, the mean over a reply, entropy: as computed by hand, to 1e-5."""
    rng = random.Random(2)
    trajectories, advantages = played()
    trajectories = moved(trajectories, lambda: rng.uniform(-0.3, 0.3))
    model().zero_grad()
    expected = by_hand(trajectories, advantages, weights)
    by_hand_gradient = gradient()
    model().zero_grad()
    loss = PolicyLoss(model())
    total = 0.0
    for micro in pack(trajectories, advantages, 1000).micro_batches:
        terms = loss(micro, weights)
        terms.objective.backward()
        total += terms.objective.item()
    assert total == pytest.approx(expected, abs=1e-5)
    assert torch.allclose(gradient(), by_hand_gradient, atol=1e-5)
    model().zero_grad()


def test_they_enter_no_figure():
    """A log-probability of 0 at what nobody sampled is far from the learner's, and the two agree: the largest gap, the
    mean ratio and its KL are over sampled ids, and so are the counts."""
    trajectories, advantages = played()
    trajectories = moved(trajectories, lambda: 0.0)
    learner = FullLearner(model(), LearnerConfig(), 10, Accelerator(cpu=True))
    stats = learner.update(pack(trajectories, advantages, 1000), 0, 2)
    assert stats["learner/ratio_gap"] < 1e-4
    assert stats["learner/ratio_mean"] == pytest.approx(1, abs=1e-4)
    assert stats["learner/ratio_beyond"] == 0
    assert stats["learner/reply_tokens"] == 17 - 4
    assert math.isclose(stats["learner/entropy_per_token"] * 13, stats["learner/entropy"] * 3, rel_tol=1e-5)
