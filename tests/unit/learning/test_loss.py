"""The objective by hand: REINFORCE at a ratio of 1, the clip, the KL magnet and the entropy, as sums over tokens."""

import dataclasses
import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

import spiral.learning.loss
from spiral.learning.objective import Objective
from spiral.learning.packing import MicroBatch
from spiral.learning.token_terms import token_terms

torch.set_num_threads(1)


def _batch(targets, logprobs, positive=None, negative=None, count=None, anchors=()):
    """`anchors`: (trained token, id, probability)."""
    num = len(targets)
    place = torch.arange(num)

    def floats(values, default):
        return torch.tensor([default] * num if values is None else values, dtype=torch.float64)

    return MicroBatch(
        place[None],
        place[None],
        None,
        torch.zeros_like(place),
        place,
        torch.tensor(targets),
        torch.as_tensor(logprobs, dtype=torch.float64),
        floats(positive, 0.0),
        floats(negative, 0.0),
        floats(count, 1.0),
        place,
        torch.tensor([token for token, _, _ in anchors], dtype=torch.long),
        torch.tensor([anchor for _, anchor, _ in anchors], dtype=torch.long),
        torch.tensor([probability for _, _, probability in anchors], dtype=torch.float64),
    )


def loss_terms(logits, batch, weights, reference=None, initial=None, old=None):
    """The objective as a function of logits, (N, V)."""
    tokens = token_terms(logits, batch.targets, batch.anchored, batch.anchor_ids, weights, reference, initial)
    return spiral.learning.loss.loss_terms(tokens, batch, weights, old)


def _logits(*rows):
    return torch.tensor(rows, dtype=torch.float32, requires_grad=True)


def _gradient(objective, logits):
    return torch.autograd.grad(objective, logits)[0]


LOGITS = (0.5, -1.0, 2.0)


def test_at_a_ratio_of_one_the_gradient_is_reinforce():
    """d/dlogits of A log pi(a) is A (onehot(a) - pi), whatever the clip, for A = 2 and for A = -3."""
    for clip in (None, 0.2):
        logits = _logits(LOGITS, LOGITS)
        pi = torch.softmax(logits, -1).detach()
        batch = _batch([1, 2], pi[0].log()[[1, 2]], [2.0, 0.0], [0.0, -3.0])
        terms = loss_terms(logits, batch, Objective(clip))
        onehot = torch.eye(3)[[1, 2]]
        expected = torch.tensor([[2.0], [-3.0]]) * (onehot - pi)
        torch.testing.assert_close(_gradient(terms.objective, logits), expected)
        assert terms.surrogate.item() == pytest.approx(2.0 - 3.0)  # sum of A times a ratio of 1
        assert terms.mismatch.gap.item() == pytest.approx(0.0, abs=1e-6)
        assert terms.clipped.item() == 0


def _at_ratio(ratio, advantage, clip=0.2):
    """Surrogate, its gradient by d/d log pi, and the count of clipped tokens, for one token."""
    logits = _logits(LOGITS)
    now = torch.log_softmax(logits, -1)[0, 1]
    stored = now.detach() - torch.log(torch.tensor(ratio))
    batch = _batch([1], [stored.item()], [max(advantage, 0.0)], [min(advantage, 0.0)])
    terms = loss_terms(logits, batch, Objective(clip))
    by_logprob = _gradient(terms.objective, logits)[0] / (torch.eye(3)[1] - torch.softmax(logits, -1)[0].detach())
    assert by_logprob.std() < 1e-5
    return terms.surrogate.item(), by_logprob.mean().item(), terms.clipped.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "surrogate", "slope"),
    [
        (2.0, 1.0, 1.2, 0.0),  # gone far enough in the right direction: cut off
        (2.0, -1.0, -2.0, -2.0),  # gone in the wrong direction: the way back stays open
        (0.5, 1.0, 0.5, 0.5),
        (0.5, -1.0, -0.8, 0.0),
        (1.1, 3.0, 3.3, 3.3),
        (0.9, -3.0, -2.7, -2.7),
    ],
)
def test_the_clip_by_hand(ratio, advantage, surrogate, slope):
    """min(r A, clip(r, 0.8, 1.2) A), and r A as its slope by log pi where it is not cut off, 0 where it is."""
    found = _at_ratio(ratio, advantage)
    assert found[:2] == pytest.approx((surrogate, slope), abs=1e-5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "clipped"),
    [(2.0, 1.0, 1), (0.5, -1.0, 1), (2.0, -1.0, 0), (0.5, 1.0, 0), (1.1, 1.0, 0)],
)
def test_only_tokens_that_the_clip_cut_off_count_as_clipped(ratio, advantage, clipped):
    """A ratio outside the interval on the side where min(...) does not take the clipped value is not cut off."""
    assert _at_ratio(ratio, advantage)[2] == clipped


def test_without_a_clip_the_ratio_is_free():
    """clip: null gives r A for any ratio."""
    assert _at_ratio(4.0, 1.0, None)[:2] == pytest.approx((4.0, 4.0), abs=1e-5)


def test_merged_turns_are_the_sum_of_turns():
    """Turns with A = 1, 2.5 and -2 on one token, at ratios 0.5, 1 and 2: merged and apart, the same value and slope."""
    for ratio in (0.5, 1.0, 2.0):
        apart = [_at_ratio(ratio, a) for a in (1.0, 2.5, -2.0)]
        logits = _logits(LOGITS)
        now = torch.log_softmax(logits, -1)[0, 1]
        stored = (now.detach() - torch.log(torch.tensor(ratio))).item()
        terms = loss_terms(logits, _batch([1], [stored], [3.5], [-2.0], [3.0]), Objective(0.2))
        slope = _gradient(terms.objective, logits)[0, 1] / (1 - torch.softmax(logits, -1)[0, 1])
        assert terms.surrogate.item() == pytest.approx(sum(a[0] for a in apart), abs=1e-5)
        assert slope.item() == pytest.approx(sum(a[1] for a in apart), abs=1e-5)


def test_kl_to_the_reference():
    """Value as torch.distributions has it; gradient p (log p - log q - KL), by hand; each token counts for its turns."""
    logits = _logits(LOGITS, (0.0, 0.0, 1.0))
    reference = torch.tensor([[0.0, 1.0, 0.5], [2.0, 0.0, 0.0]])
    batch = _batch([1, 0], torch.zeros(2), count=[1.0, 3.0])
    terms = loss_terms(logits, batch, Objective(kl=0.7), reference)
    kl = kl_divergence(Categorical(logits=logits.detach()), Categorical(logits=reference))
    assert terms.kl.item() == pytest.approx((kl[0] + 3 * kl[1]).item(), rel=1e-5)
    assert terms.objective.item() == pytest.approx(-0.7 * terms.kl.item(), rel=1e-5)
    p, log_p = torch.softmax(logits, -1).detach(), torch.log_softmax(logits, -1).detach()
    by_hand = p * (log_p - torch.log_softmax(reference, -1) - kl[:, None])
    expected = -0.7 * torch.tensor([[1.0], [3.0]]) * by_hand
    torch.testing.assert_close(_gradient(terms.objective, logits), expected, atol=1e-6, rtol=1e-5)


def test_kl_to_oneself_is_nothing():
    """The reference that the policy equals pulls nowhere; without a reference the term is 0."""
    logits = _logits(LOGITS)
    terms = loss_terms(logits, _batch([1], [0.0]), Objective(kl=1.0), logits.detach())
    assert terms.kl.item() == pytest.approx(0.0, abs=1e-7)
    assert _gradient(terms.objective, logits).abs().max() < 1e-6
    assert loss_terms(logits, _batch([1], [0.0]), Objective(kl=1.0)).kl.item() == 0


def test_entropy_bonus():
    """Value as torch.distributions has it; gradient -p (log p + H); it raises the objective; counted by turns."""
    logits = _logits(LOGITS, (0.0, 0.0, 1.0))
    terms = loss_terms(logits, _batch([1, 0], torch.zeros(2), count=[2.0, 1.0]), Objective(entropy=0.1))
    entropy = Categorical(logits=logits.detach()).entropy()
    assert terms.entropy.item() == pytest.approx((2 * entropy[0] + entropy[1]).item(), rel=1e-5)
    assert terms.objective.item() == pytest.approx(0.1 * terms.entropy.item(), rel=1e-5)
    p, log_p = torch.softmax(logits, -1).detach(), torch.log_softmax(logits, -1).detach()
    expected = -0.1 * torch.tensor([[2.0], [1.0]]) * p * (log_p + entropy[:, None])
    torch.testing.assert_close(_gradient(terms.objective, logits), expected, atol=1e-6, rtol=1e-5)


def test_the_gap_is_the_largest_difference():
    """|log-probability now - stored|, the largest over tokens, either sign."""
    logits = _logits(LOGITS, LOGITS, LOGITS)
    now = torch.log_softmax(logits, -1)[0, 1].item()
    terms = loss_terms(logits, _batch([1, 1, 1], [now, now + 0.3, now - 0.1]), Objective())
    assert terms.mismatch.gap.item() == pytest.approx(0.3, abs=1e-6)


def test_terms_are_sums_and_never_means():
    """Twice the tokens, twice every term: so the cut of a batch into forwards cannot matter."""
    reference = torch.zeros(2, 3)
    one = _batch([1, 2], [-1.0, -2.0], [1.0, 0.0], [0.0, -1.0], [1.0, 2.0])
    fields = [getattr(one, f.name) for f in dataclasses.fields(MicroBatch)]
    two = MicroBatch(*(None if field is None else torch.cat([field] * 2, -1) for field in fields))
    logits = torch.tensor([LOGITS, (0.0, 0.3, 1.0)])
    single = loss_terms(logits, one, Objective(0.2, 0.01, 0.1), reference)
    double = loss_terms(torch.cat([logits] * 2), two, Objective(0.2, 0.01, 0.1), torch.cat([reference] * 2))
    for name in ("objective", "surrogate", "entropy", "kl", "clipped"):
        assert getattr(double, name).item() == pytest.approx(2 * getattr(single, name).item(), rel=1e-5)
    assert double.mismatch.gap.item() == pytest.approx(single.mismatch.gap.item())


def test_the_anchor_by_hand():
    """Random play says id 0 with 1/4 and id 2 with 3/4: KL = sum u log(u / pi), and its gradient in the logits pi - u."""
    logits = _logits(LOGITS, LOGITS)
    batch = _batch([1, 0], [0.0, 0.0], count=[2.0, 5.0], anchors=[(0, 0, 0.25), (0, 2, 0.75)])
    terms = loss_terms(logits, batch, Objective(anchor=0.3))
    pi, anchor = torch.softmax(logits[0].detach(), -1), torch.tensor([0.25, 0.0, 0.75])
    expected = 2 * sum(u * math.log(u / p) for u, p in zip([0.25, 0.75], pi[[0, 2]].tolist(), strict=True))
    assert terms.anchor.item() == pytest.approx(expected, rel=1e-5)
    gradient = _gradient(terms.objective, logits)
    torch.testing.assert_close(gradient[0], -0.3 * 2 * (pi - anchor))
    assert not gradient[1].any()  # no random play is known there


def test_the_anchor_pulls_where_nothing_else_does():
    """A move at e^-30: policy gradient and magnet pull on its logit by less than 1e-9, the anchor by its weight times a
    half. It is what brings back a move that is no longer sampled."""
    logits = _logits((0.0, -30.0))
    one = _batch([0], [0.0], [1.0], anchors=[(0, 0, 0.5), (0, 1, 0.5)])
    reference = torch.tensor([[0.0, -2.0]])
    without = _gradient(loss_terms(logits, one, Objective(kl=1.0), reference).objective, logits)
    with_anchor = _gradient(loss_terms(logits, one, Objective(kl=1.0, anchor=0.05), reference).objective, logits)
    assert abs(without[0, 1].item()) < 1e-9
    assert with_anchor[0, 1].item() == pytest.approx(0.025, rel=1e-4)


def test_an_anchor_without_weight_is_measured():
    """Weight 0: the term is reported, and the gradient is that of the surrogate alone."""
    logits = _logits(LOGITS)
    batch = _batch([1], [0.0], [1.0], anchors=[(0, 0, 1.0)])
    terms = loss_terms(logits, batch, Objective())
    assert terms.anchor.item() > 1
    plain = loss_terms(logits, _batch([1], [0.0], [1.0]), Objective())
    torch.testing.assert_close(_gradient(terms.objective, logits), _gradient(plain.objective, logits))


def test_a_kl_term_alone_trains():
    """Advantages 0, weight 1, policy unequal to reference: the gradient is the finite difference of the KL itself."""
    logits, reference = _logits(LOGITS, (0.0, 0.0, 1.0)), torch.tensor([[0.0, 1.0, 0.5], [2.0, 0.0, 0.0]])
    batch = _batch([1, 0], torch.zeros(2), count=[1.0, 3.0])
    gradient = _gradient(loss_terms(logits, batch, Objective(kl=1.0), reference).objective, logits)
    assert gradient.norm() > 0.1
    for row, column in [(0, 0), (0, 2), (1, 1)]:
        around = []
        for sign in (1, -1):
            moved = logits.detach().clone()
            moved[row, column] += sign * 0.01
            kl = kl_divergence(Categorical(logits=moved), Categorical(logits=reference))
            around.append((kl[0] + 3 * kl[1]).item())
        assert gradient[row, column].item() == pytest.approx(-(around[0] - around[1]) / 0.02, abs=1e-3)


@pytest.mark.parametrize("initial", [False, True])
def test_where_replies_count_by_their_mean_every_term_does(initial):
    """Replies of 1 and 2 tokens: entropy, KL and anchor are measured as sums over tokens, and trained with a weight of
    1, 1/2 and 1/2."""
    logits = _logits(LOGITS, (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    reference = torch.tensor([[0.0, 1.0, 0.5], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    anchors = [(0, 0, 0.5), (0, 1, 0.5), (2, 2, 1.0)]
    batch = _batch([1, 0, 2], torch.zeros(3), count=[1.0, 3.0, 3.0], anchors=anchors)
    start = reference.flip(0) if initial else None
    whole = dataclasses.replace(batch, samples=torch.tensor([0, 1, 1]))
    weights = Objective(entropy=0.1, kl=0.7, anchor=0.3, mean_of_replies=True)
    terms = loss_terms(logits, whole, weights, reference, start)
    objective, gradient = 0.0, torch.zeros(3, 3)
    for place, share in enumerate([1.0, 0.5, 0.5]):
        counts = torch.zeros(3, dtype=torch.float64)
        counts[place] = batch.count[place]
        alone = dataclasses.replace(batch, count=counts)
        one = loss_terms(logits, alone, dataclasses.replace(weights, mean_of_replies=False), reference, start)
        objective += share * one.objective.item()
        gradient += share * _gradient(one.objective, logits)
    assert terms.objective.item() == pytest.approx(objective, rel=1e-5)
    torch.testing.assert_close(_gradient(terms.objective, logits), gradient)
    summed = loss_terms(logits, whole, dataclasses.replace(weights, mean_of_replies=False), reference, start)
    for name in ("entropy", "kl", "anchor"):
        assert getattr(terms, name).item() == pytest.approx(getattr(summed, name).item(), rel=1e-6)


def test_the_loss_tells_the_log_probabilities_of_its_tokens():
    """Those of the trained ids now: as `old`, they give an update's later steps the policy before its first."""
    logits = _logits(LOGITS, (0.0, 0.0, 1.0))
    batch = _batch([1, 0], [-5.0, -5.0], [1.0, 1.0])
    terms = loss_terms(logits, batch, Objective(importance_cap=2.0))
    expected = torch.log_softmax(logits.detach(), -1)[[0, 1], [1, 0]]
    assert torch.equal(terms.logprobs, expected)
    moved = (logits.detach() + torch.tensor([0.0, 1.0, 0.0])).requires_grad_()
    later = loss_terms(moved, batch, Objective(importance_cap=2.0), old=terms.logprobs)
    ratios = (torch.log_softmax(moved.detach(), -1)[[0, 1], [1, 0]] - expected).exp()
    assert later.surrogate.item() == pytest.approx(2 * ratios.sum().item(), rel=1e-5)
