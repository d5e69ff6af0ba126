"""The policy-gradient term by hand: its ratios, importance weights, clips and how replies are weighed; and the measures
of how far learner and engine are apart."""

import dataclasses
import itertools
import math

import pytest
import torch

from spiral.learning.objective import Objective
from spiral.learning.packing import MicroBatch
from spiral.learning.surrogate import mismatch, reply_lengths, surrogate

torch.set_num_threads(1)

LEVELS = ("token", "sequence")
NONE = torch.zeros(0, dtype=torch.long)


def _batch(engine, advantages, lengths=None, counts=None):
    """Tokens with log-probabilities `engine`, one advantage each, in replies of `lengths` tokens."""
    num = len(engine)
    place, gains = torch.arange(num), torch.tensor(advantages, dtype=torch.float32)
    samples = [n for n, length in enumerate(lengths or [1] * num) for _ in range(length)]
    return MicroBatch(
        place[None], place[None], None, torch.zeros_like(place), place, place, torch.tensor(engine),
        gains.clamp(min=0), gains.clamp(max=0), torch.tensor(counts or [1.0] * num), torch.tensor(samples), NONE, NONE,
        torch.zeros(0),
    )  # fmt: skip


def _of(now, batch, old=None, **weights):
    """Value, slopes by each log-probability, and the counts."""
    logprobs = torch.tensor(now, requires_grad=True)
    terms = surrogate(logprobs, batch, Objective(**weights), None if old is None else torch.tensor(old))
    return terms.value.item(), torch.autograd.grad(terms.value, logprobs)[0].tolist(), terms


def _logs(*ratios):
    return [math.log(ratio) for ratio in ratios]


NAMED = [{"ratio_level": level, "importance_cap": cap} for level in LEVELS for cap in (None, 2.0)]


@pytest.mark.parametrize("weights", [{}, *NAMED])
def test_at_the_policy_that_sampled_the_slope_is_the_advantage(weights):
    """One token, advantage 1, the log-probability that it was sampled with: ratio 1, slope 1, by default and for every
    ratio level, with importance weights and without. A level that fell through would give a constant, of slope 0."""
    batch = _batch([-0.7], [1.0])
    assert _of([-0.7], batch, **weights)[:2] == (1.0, [1.0])
    assert _of([-0.7], batch, old=[-0.7], **weights)[:2] == (1.0, [1.0])


@pytest.mark.parametrize(("ratio", "weight"), [(0.5, 0.5), (1.0, 1.0), (1.5, 1.5), (4.0, 2.0)])
def test_importance_weights_are_truncated_from_above(ratio, weight):
    """In an update of one step the ratio to the old policy is 1: A min(pi / pi_engine, 2) is value and slope, at both
    signs of the advantage, and a weight below 1 stays."""
    for advantage in (3.0, -3.0):
        value, slopes, terms = _of(_logs(ratio), _batch([0.0], [advantage]), importance_cap=2.0, clip=0.2)
        assert (value, slopes) == (pytest.approx(advantage * weight), [pytest.approx(advantage * weight)])
        assert terms.clipped.item() == 0
        assert terms.truncated.item() == (ratio > 2)


def test_importance_weights_make_the_gradient_that_of_the_learners_own_play():
    """Over a whole vocabulary, each token counted by the probability that the engine samples it with: without a cap the
    gradient is that of the learner's expected advantage. REINFORCE on the engine's tokens, without weights, is off."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, generator=generator, requires_grad=True)
    engine = torch.log_softmax(logits.detach() + 0.5 * torch.randn(7, generator=generator), -1)
    advantages = torch.randn(7, generator=generator)
    [expected] = torch.autograd.grad((torch.softmax(logits, -1) * advantages).sum(), logits)
    found = []
    for stored in (engine, torch.log_softmax(logits.detach(), -1)):
        batch = _batch(stored.tolist(), (engine.exp() * advantages).tolist())
        value = surrogate(torch.log_softmax(logits, -1), batch, Objective(importance_cap=1e6)).value
        found.append(torch.autograd.grad(value, logits)[0])
    torch.testing.assert_close(found[0], expected)
    assert (found[1] - expected).norm() > 0.1 * expected.norm()


@pytest.mark.parametrize(
    ("now", "advantage", "gain", "slope"),
    [
        (1.1, 2.0, 2.2, 2.2),
        (1.5, 2.0, 2.4, 0.0),  # beyond the clip
        (0.5, 2.0, 1.0, 1.0),
        (0.5, -2.0, -1.6, 0.0),
        (1.5, -2.0, -3.0, -3.0),
    ],
)
def test_the_clip_is_about_the_policy_before_the_update(now, advantage, gain, slope):
    """pi_engine 0.1, pi_old 0.3 or 0.05, pi = `now` times that: PPO's term at ratio `now`, times min(pi_old / pi_engine,
    2), a constant. A ratio to the engine would be clipped at once."""
    for old, weight in ((0.3, 2.0), (0.05, 0.5)):
        batch = _batch(_logs(0.1), [advantage])
        value, slopes, terms = _of(_logs(old * now), batch, old=_logs(old), clip=0.2, importance_cap=2.0)
        assert value == pytest.approx(weight * gain, rel=1e-5)
        assert slopes == [pytest.approx(weight * slope, rel=1e-5)]
        assert terms.clipped.item() == (slope == 0)


def test_without_importance_weights_the_ratio_is_to_the_engine():
    """The old policy does not matter: r = pi / pi_engine, unbounded where there is no clip."""
    batch = _batch(_logs(0.1), [2.0])
    assert _of(_logs(0.5), batch, old=_logs(0.3))[:2] == (pytest.approx(10.0), [pytest.approx(10.0)])


@pytest.mark.parametrize("weights", [{}, *NAMED])
@pytest.mark.parametrize("now", [0.3, 1.0, 1.7])
def test_merged_replies_are_the_sum_of_replies(weights, now):
    """Advantages 1, 2.5 and -2 on a reply of two tokens, merged (P 3.5, Q -2, 3 turns) and apart: the same value, slopes
    and counts, with importance weights, a clip that differs by side and ratios of either level."""
    weights = {**weights, "clip": 0.2, "clip_high": 0.3}
    logprobs, old, engine = _logs(now * 0.4, now * 0.2), _logs(0.4, 0.2), _logs(0.1, 0.3)
    apart = [_of(logprobs, _batch(engine, [a, a], [2]), old, **weights) for a in (1.0, 2.5, -2.0)]
    merged = dataclasses.replace(
        _batch(engine, [0.0, 0.0], [2], [3.0, 3.0]), positive=torch.tensor([3.5] * 2), negative=torch.tensor([-2.0] * 2)
    )
    value, slopes, terms = _of(logprobs, merged, old, **weights)
    assert value == pytest.approx(sum(one[0] for one in apart), rel=1e-5)
    for place in range(2):
        assert slopes[place] == pytest.approx(sum(one[1][place] for one in apart), rel=1e-5, abs=1e-6)
    assert terms.truncated.item() == sum(one[2].truncated.item() for one in apart)


def test_the_clip_may_be_wider_above():
    """DAPO's clip-higher, 0.2 below and 0.28 above: ratio 1.25 passes, 1.3 is cut to 1.28, 0.75 with a negative
    advantage to 0.8."""
    weights = {"clip": 0.2, "clip_high": 0.28}
    for ratio, advantage, value, slope in [(1.25, 1.0, 1.25, 1.25), (1.3, 1.0, 1.28, 0.0), (0.75, -1.0, -0.8, 0.0)]:
        found = _of(_logs(ratio), _batch([0.0], [advantage]), **weights)
        assert found[:2] == (pytest.approx(value), [pytest.approx(slope)])


def test_a_ratio_of_sequences_by_hand():
    """GSPO: a reply with token ratios 4 and 1 and one with 1/8, 1 and 1: (4 * 1)^(1/2) = 2 and (1/8)^(1/3) = 1/2. Each
    token has the value of its reply, and the slope of its own log-probability times that."""
    now, batch = _logs(4.0, 1.0, 0.125, 1.0, 1.0), _batch([0.0] * 5, [1.0, 1.0, -3.0, -3.0, -3.0], [2, 3])
    value, slopes, _ = _of(now, batch, ratio_level="sequence")
    assert value == pytest.approx(2 * 2.0 - 3 * 1.5, rel=1e-5)
    assert slopes == pytest.approx([2.0, 2.0, -1.5, -1.5, -1.5], rel=1e-5)


def test_a_ratio_of_sequences_leaves_each_token_its_importance_weight():
    """A reply at twice its old probability by token, whose engine's were 2 and 1/2 of the old: the sequence's ratio is 2,
    the weights 1/2 and 2, the slopes A times both. Through the mean of the reply each slope would be the mean, 2.5 A."""
    old, batch = [-1.0, -1.0], _batch([-1.0 + math.log(2), -1.0 - math.log(2)], [3.0, 3.0], [2])
    now = [x + math.log(2) for x in old]
    value, slopes, _ = _of(now, batch, old, ratio_level="sequence", importance_cap=4.0)
    assert (value, slopes) == (pytest.approx(15.0), pytest.approx([3.0, 12.0]))


def test_a_sequence_is_clipped_whole():
    """Token ratios 1.5 and 1/1.5 of one reply are a sequence's ratio of 1, which no clip of 0.2 cuts; 2 and 1.5 are 1.73:
    both tokens are cut off."""
    weights = {"clip": 0.2, "ratio_level": "sequence"}
    value, slopes, terms = _of(_logs(1.5, 1 / 1.5), _batch([0.0] * 2, [1.0, 1.0], [2]), **weights)
    assert (value, slopes, terms.clipped.item()) == (pytest.approx(2.0), pytest.approx([1.0, 1.0]), 0)
    value, slopes, terms = _of(_logs(2.0, 1.5), _batch([0.0] * 2, [1.0, 1.0], [2]), **weights)
    assert (value, slopes, terms.clipped.item()) == (pytest.approx(2.4), [0.0, 0.0], 2)


@pytest.mark.parametrize("level", LEVELS)
def test_the_mean_of_a_reply_does_not_weigh_it_by_its_length(level):
    """Replies of 1 and 4 tokens, advantages 1, ratio 1: each contributes 1, and so half of the objective; summed over
    tokens they contribute 1 and 4."""
    batch = _batch([-1.0] * 5, [1.0] * 5, [1, 4])
    value, slopes, _ = _of([-1.0] * 5, batch, ratio_level=level, mean_of_replies=True)
    assert (value, slopes) == (pytest.approx(2.0), pytest.approx([1.0, 0.25, 0.25, 0.25, 0.25]))
    value, slopes, _ = _of([-1.0] * 5, batch, ratio_level=level)
    assert (value, slopes) == (pytest.approx(5.0), pytest.approx([1.0] * 5))


def test_lengths_are_of_the_reply_that_a_token_belongs_to():
    """Samples 7, 7, 3, 9, 9, 9, as a process's share of a batch may be numbered."""
    batch = dataclasses.replace(_batch([0.0] * 6, [0.0] * 6), samples=torch.tensor([7, 7, 3, 9, 9, 9]))
    assert reply_lengths(batch).tolist() == [2, 2, 1, 3, 3, 3]


@pytest.mark.parametrize(
    ("weights", "advantage", "log_ratio"),
    list(itertools.product([{}, *NAMED], [1.0, -1.0], [100.0, -100.0, 1e30])),
)
def test_an_extreme_reply_is_finite(weights, advantage, log_ratio):
    """Log-ratios of 100, -100 and 1e30 to the engine, and to the old policy, at both signs of the advantage and with and
    without a clip: value and slopes are finite. exp(100) is infinite in float32, and infinity times 0 no number."""
    batch = _batch([-log_ratio] * 2, [advantage] * 2, [2])
    for clip, old in itertools.product((None, 0.2), (None, [-log_ratio] * 2, [0.0, 0.0])):
        value, slopes, _ = _of([0.0, 0.0], batch, old, clip=clip, **weights)
        assert math.isfinite(value)
        assert all(map(math.isfinite, slopes))
    assert all(math.isfinite(getattr(mismatch(torch.zeros(2), batch, 0.1), name).item()) for name in ("ratio", "kl"))


def test_extreme_tokens_that_cancel_are_an_ordinary_sequence():
    """Log-ratios 100 and -100 of one reply: ratio 1 with its usual slopes, since the mean is bounded and not its parts."""
    batch = _batch([-100.0, 100.0], [2.0, 2.0], [2])
    value, slopes, _ = _of([0.0, 0.0], batch, ratio_level="sequence", clip=0.2)
    assert (value, slopes) == (pytest.approx(4.0), pytest.approx([2.0, 2.0]))


def test_learner_against_engine_by_hand():
    """Ratios 1/2, 1 and 2 of tokens that stand for 1, 3 and 2 turns: the mean ratio is 7.5 / 6; r - 1 - log r is log 2 -
    1/2, 0 and 1 - log 2, whose mean is (1 * 0.1931 + 2 * 0.3069) / 6; 3 of 6 tokens are beyond 0.1 nats; the largest
    difference is log 2."""
    batch = _batch([0.0] * 3, [0.0] * 3, counts=[1.0, 3.0, 2.0])
    found = mismatch(torch.tensor(_logs(0.5, 1.0, 2.0)), batch, band=0.1)
    assert found.ratio.item() / 6 == pytest.approx(7.5 / 6)
    assert found.kl.item() / 6 == pytest.approx((math.log(2) - 0.5 + 2 * (1 - math.log(2))) / 6, rel=1e-5)
    assert found.beyond.item() / 6 == 0.5
    assert found.gap.item() == pytest.approx(math.log(2))


def test_the_mismatch_kl_is_that_of_the_distributions():
    """Over a whole vocabulary, each token counted by the engine's probability, the estimate is KL(engine || learner), and
    the mean ratio 1."""
    generator = torch.Generator().manual_seed(0)
    engine, learner = (torch.log_softmax(torch.randn(7, generator=generator), -1) for _ in range(2))
    batch = _batch(engine.tolist(), [0.0] * 7, counts=engine.exp().tolist())
    found = mismatch(learner, batch, band=0.1)
    assert found.kl.item() == pytest.approx((engine.exp() * (engine - learner)).sum().item(), rel=1e-5)
    assert found.ratio.item() == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("level", LEVELS)
def test_a_likelihood_is_the_weighed_log_probability_whatever_sampled_the_reply(level):
    """Value sum of A log pi, slope A: no ratio, so neither what another policy's log-probabilities were nor a clip nor
    a cap of importance weights changes anything; by the mean of each reply where replies count so."""
    now, advantages = [-0.5, -3.0, -1.0], [1.0, 1.0, -2.0]
    weights = {"likelihood": True, "ratio_level": level, "clip": 0.2, "importance_cap": 2.0}
    for engine in ([0.0, 0.0, 0.0], [-9.0, -0.1, -4.0]):
        value, slopes, terms = _of(now, _batch(engine, advantages, [2, 1]), **weights)
        assert value == pytest.approx(-0.5 - 3.0 + 2.0)
        assert slopes == advantages
        assert (float(terms.clipped), float(terms.truncated)) == (0.0, 0.0)
    value, slopes, _ = _of(now, _batch([0.0] * 3, advantages, [2, 1]), mean_of_replies=True, **weights)
    assert value == pytest.approx((-0.5 - 3.0) / 2 + 2.0)
    assert slopes == [0.5, 0.5, -2.0]
