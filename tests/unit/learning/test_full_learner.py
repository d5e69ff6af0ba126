"""One update is the one that the config asks for: compared with an unmerged, unpacked implementation written here."""

import copy
import dataclasses
import itertools
import json
import math
import os
import random
import socket
import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator
from spiral_models import MODELS

from spiral.api.errors import RunError
from spiral.api.records import LEARNER, Request, Sampling, Trajectory, Turn
from spiral.config.schema import LearnerConfig
from spiral.engines.torch.engine import TorchEngine
from spiral.learning.full_learner import MAX_REFUSED, FullLearner
from spiral.learning.packing import pack
from spiral.learning.row_cost import RowCost
from spiral.learning.schedule import learning_rate, objective

torch.set_num_threads(1)

NUM_GAMES = 5
STOP = 0
"""Equal to the id that pads rows, on purpose."""


def _model(seed=0):
    torch.manual_seed(seed)
    return MODELS["byte-0.1m"](context=128)[0]


def _learner(model=None, num_steps=100, **config):
    settings = {"max_grad_norm": 1e9, "ratio_tolerance": 1e9, **config}
    return FullLearner(model or _model(), LearnerConfig(**settings), num_steps, Accelerator(cpu=True))


@torch.no_grad()
def _score(model, prompt, reply):
    logits = model(input_ids=torch.tensor([[*prompt, *reply]])).logits[0]
    logprobs = torch.log_softmax(logits, -1)
    return [logprobs[len(prompt) + k - 1, token].item() for k, token in enumerate(reply)]


def _played(seed=1, num=24, off=0.0):
    """Trajectories and advantages with many equal and many related turns; `off` moves the stored log-probs away."""
    rng, model = random.Random(seed), _model()
    trajectories, advantages, known = [], [], {}
    for _ in range(num):
        turns = []
        for _ in range(rng.randint(0, 3)):
            prompt = (257, *b"kuhn p0 "[: rng.randint(2, 8)], *rng.choices(b"JQ", k=rng.randint(0, 2)), 260)
            reply = (*rng.choice([b"check", b"bet", b"be"]), STOP)
            if (prompt, reply) not in known:
                shift = [off * rng.uniform(-1, 1) for _ in reply]
                logprobs = _score(model, prompt, reply)
                known[prompt, reply] = tuple(x + s for x, s in zip(logprobs, shift, strict=True))
            legal = tuple(
                (*move, STOP) for move in ([b"check", b"bet"] if len(prompt) % 2 else [b"call", b"bet", b"fold"])
            )
            turn = Turn("", prompt, reply, known[prompt, reply], "x", True, "stop", 0, legal_replies=legal)
            turns.append(turn)
        trajectories.append(Trajectory("kuhn", 0, LEARNER, 0.0, tuple(turns), 0))
        advantages.append([rng.choice([-2.0, -1.0, -0.3, 0.0, 1.0, 2.0]) for _ in turns])
    return trajectories, advantages


def _random_play(turn, k, vocabulary):
    """The next token of a reply drawn uniformly among the legal ones that begin as this reply's first k ids."""
    probabilities = torch.zeros(vocabulary)
    for legal in turn.legal_replies:
        if legal[:k] == turn.reply[:k]:
            probabilities[legal[k]] += 1
    return probabilities / max(1, probabilities.sum())


def _reference_gradient(model, reference, trajectories, advantages, clip, entropy, kl, anchor=0.0, initial=None):
    """The same objective the long way: every turn of every trajectory by itself, no merging, no packing, no masks."""
    model = copy.deepcopy(model).eval()
    objective = torch.zeros(())
    for trajectory, row in zip(trajectories, advantages, strict=True):
        for turn, advantage in zip(trajectory.turns, row, strict=True):
            ids = torch.tensor([[*turn.prompt, *turn.reply]])
            with torch.no_grad():
                theirs = torch.log_softmax(reference(input_ids=ids).logits[0], -1)
            mine = torch.log_softmax(model(input_ids=ids).logits[0], -1)
            for k, token in enumerate(turn.reply):
                at = len(turn.prompt) + k - 1
                ratio = torch.exp(mine[at, token] - turn.logprobs[k])
                gain = ratio * advantage
                if clip is not None:
                    gain = torch.minimum(gain, ratio.clamp(1 - clip, 1 + clip) * advantage)
                objective = objective + gain - entropy * (mine[at].exp() * mine[at]).sum()
                objective = objective - kl * (mine[at].exp() * (mine[at] - theirs[at])).sum()
                if initial is None:
                    held = _random_play(turn, k, mine.shape[-1])
                else:
                    held = torch.softmax(initial(input_ids=ids).logits[0, at].detach(), -1)
                objective = objective - anchor * (torch.special.xlogy(held, held) - held * mine[at]).sum()
    (-objective / NUM_GAMES).backward()
    return _flat(model), objective.item()


def _flat(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def _weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def _gradient(learner, batch):
    for parameter in learner.model.parameters():
        parameter.grad = None
    terms = learner._backward(batch, NUM_GAMES, objective(learner._config, 0, learner._num_steps))
    return _flat(learner.model), terms


def _off_reference(learner, seed=9):
    """Give the learner another reference than its weights, so that the KL term pulls."""
    other = _model(seed)
    state = copy.deepcopy(learner.state())
    state["tensors"]["reference"] = {n: p.detach() for n, p in other.named_parameters()}
    learner.load_state(state)
    return other


OBJECTIVES = {
    "reinforce": {"off": 0.0, "clip": None, "entropy": 0.0, "kl": 0.0},
    "clip": {"off": 0.6, "clip": 0.2, "entropy": 0.0, "kl": 0.0},
    "anchor": {"off": 0.0, "clip": None, "entropy": 0.0, "kl": 0.0, "anchor": 0.7},
    "all": {"off": 0.6, "clip": 0.2, "entropy": 0.05, "kl": 0.3, "anchor": 0.2},
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_gradient_is_that_of_every_turn_by_itself(name):
    """Merged, packed and masked, the gradient and the objective are those of the long way, turn by turn."""
    terms = dict(OBJECTIVES[name])
    played = _played(off=terms.pop("off"))
    learner = _learner(**terms)
    reference = _off_reference(learner) if terms["kl"] else learner.model
    expected, objective = _reference_gradient(learner.model, reference, *played, **terms)
    found, stats = _gradient(learner, pack(*played, 10**6))
    assert expected.norm() > 0.1
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-4)
    assert stats["objective"] == pytest.approx(objective, rel=1e-4)


def test_an_anchor_to_the_initial_policy_is_the_policy_that_the_learner_was_made_with():
    """After the weights moved, the term is the KL from the policy at the start, over the whole vocabulary."""
    played, initial = _played(), _model()
    learner = _learner(copy.deepcopy(initial), anchor=0.7, anchor_to="initial", lr=1e-3)
    learner.update(pack(*played, 300), 0, NUM_GAMES)
    expected, objective = _reference_gradient(
        learner.model, learner.model, *played, None, 0.0, 0.0, anchor=0.7, initial=initial
    )
    found, stats = _gradient(learner, pack(*played, 10**6))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-4)
    assert stats["objective"] == pytest.approx(objective, rel=1e-4)
    assert stats["anchor"] > 1e-3


def test_the_initial_policy_survives_a_resume():
    """A learner made from other weights and given the state anchors to the first one's start, not to its own."""
    played = _played()
    first = _learner(anchor=0.7, anchor_to="initial", lr=1e-3)
    first.update(pack(*played, 300), 0, NUM_GAMES)
    second = _learner(_model(5), anchor=0.7, anchor_to="initial", lr=1e-3)
    second.load_state(copy.deepcopy(first.state()))
    mine, theirs = _gradient(first, pack(*played, 300)), _gradient(second, pack(*played, 300))
    torch.testing.assert_close(mine[0], theirs[0])
    assert mine[1]["anchor"] == pytest.approx(theirs[1]["anchor"])


def test_a_checkpoint_without_the_initial_policy_cannot_be_anchored_to_it():
    """Asked for on a resume alone, the policy of the start is gone; the sentence says what can be done."""
    state = _learner().state()
    with pytest.raises(RunError, match="anchor_to=legal, or start a new run"):
        _learner(anchor=0.1, anchor_to="initial").load_state(state)


def test_what_is_not_asked_for_costs_no_model():
    """No copy of the weights for an anchor to random legal play, nor for one without weight."""
    for settings in ({"anchor": 0.1}, {"anchor_to": "initial"}):
        assert set(_learner(**settings).state()["tensors"]) == {"live", "averaged"}
    assert "initial" in _learner(anchor=0.1, anchor_to="initial").state()["tensors"]


def test_without_an_average_there_is_one_model():
    """`ema` 0: evaluation's model is the live one itself, and the learner holds no second copy of the weights."""
    learner = _learner(ema=0.0)
    assert learner.averaged() is None
    assert learner.evaluated_model is learner.model
    assert set(learner.state()["tensors"]) == {"live"}


@pytest.mark.parametrize(("anchor_end", "last"), [(1.0, 0.05), (0.1, 0.005), (0.0, 0.0)])
def test_the_anchor_falls_to_its_end(anchor_end, last):
    """anchor 0.05 over 5 steps: linear from 0.05 to anchor_end of it."""
    learner = _learner(anchor=0.05, anchor_end=anchor_end, num_steps=5)
    weights = [objective(learner._config, step, learner._num_steps).anchor for step in range(5)]
    assert weights == pytest.approx([0.05 + (last - 0.05) * step / 4 for step in range(5)])


@pytest.fixture(scope="module")
def everything():
    """A learner with every term of the objective, what it trains on, and its gradient packed in one piece."""
    learner = _learner(clip=0.2, entropy=0.05, kl=0.3, anchor=0.2)
    _off_reference(learner)
    played = _played(off=0.6)
    return learner, played, _gradient(learner, pack(*played, 10**6))


def _same(found, expected):
    torch.testing.assert_close(found[0], expected[0], atol=2e-5, rtol=2e-4)
    for name in ("objective", "surrogate", "entropy", "kl", "clipped", "gap"):
        assert found[1][name] == pytest.approx(expected[1][name], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("micro_batch_tokens", [1, 60, 150])
def test_micro_batches_change_nothing(everything, micro_batch_tokens):
    """Gradient and terms are those of one big forward."""
    learner, played, expected = everything
    batch = pack(*played, micro_batch_tokens)
    assert len(batch.micro_batches) > 1
    _same(_gradient(learner, batch), expected)


@pytest.mark.parametrize("pairs", [0.01, 30.0, 1e9])
def test_packing_changes_nothing(everything, pairs):
    """No trees at all, short ones, and long ones."""
    learner, played, expected = everything
    batch = pack(*played, 300, cost=RowCost(pairs))
    assert any(m.mask is not None for m in batch.micro_batches) == (pairs > 1)
    _same(_gradient(learner, batch), expected)


def test_the_order_of_episodes_changes_nothing(everything):
    """Shuffled trajectories."""
    learner, played, expected = everything
    pairs = list(zip(*played, strict=True))
    random.Random(3).shuffle(pairs)
    _same(_gradient(learner, pack(*zip(*pairs, strict=True), 10**6)), expected)


@pytest.mark.parametrize("world", [2, 3, 50])
def test_parts_of_processes_add_up(everything, world):
    """The gradients of the parts, summed, are the whole one; 50 processes are more than there are samples."""
    learner, played, expected = everything
    total = torch.zeros_like(expected[0])
    for rank in range(world):
        batch = pack(*played, 300, rank, world)
        if batch.micro_batches:
            total += _gradient(learner, batch)[0]
    torch.testing.assert_close(total, expected[0], atol=2e-5, rtol=2e-4)


def test_the_normaliser_is_the_number_of_games_asked_for():
    """Twice the games, half the objective: a constant, not what the batch happens to hold."""
    played = _played(off=0.0)
    one = _learner().update(pack(*played, 10**6), 0, 4)
    two = _learner().update(pack(*played, 10**6), 0, 8)
    assert one["learner/objective"] == pytest.approx(2 * two["learner/objective"], rel=1e-5)
    assert one["learner/grad_norm"] == pytest.approx(2 * two["learner/grad_norm"], rel=1e-4)


# The step


def _reference_update(model, trajectories, advantages, rates, clip, max_grad_norm, weight_decay=0.0):
    """AdamW as documented, a fresh gradient for each pass."""
    model = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0.0, betas=(0.9, 0.95), weight_decay=weight_decay, foreach=True
    )
    for rate in rates:
        gradient, _ = _reference_gradient(model, model, trajectories, advantages, clip, 0.0, 0.0)
        gradient = gradient * min(1.0, max_grad_norm / (gradient.norm().item() + 1e-6))
        start = 0
        for parameter in model.parameters():
            parameter.grad = gradient[start : start + parameter.numel()].view_as(parameter).clone()
            start += parameter.numel()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return model


def _close_steps(found, expected, start):
    """Adam divides by a gradient's own size, so tiny ones amplify rounding: nearly all entries, and the direction."""
    mine, theirs = _weights(found) - start, _weights(expected) - start
    assert theirs.norm() > 0
    assert float((mine - theirs).norm() / theirs.norm()) < 0.02
    assert float(torch.cosine_similarity(mine, theirs, 0)) > 0.9995


def test_two_steps_are_adamw_with_clipping_and_schedule():
    """Two updates with gradients scaled to norm 0.5 and the rates 0.001 and 0.00081 (10 steps, end 0.1 of it)."""
    first, second = _played(seed=1), _played(seed=2)
    learner = _learner(num_steps=10, lr=1e-3, lr_end=0.1, max_grad_norm=0.5, weight_decay=0.01)
    start = _weights(learner.model).clone()
    one = _reference_update(learner.model, *first, [1e-3], None, 0.5, 0.01)
    learner.update(pack(*first, 300), 0, NUM_GAMES)
    _close_steps(learner.model, one, start)
    assert not torch.equal(start, _weights(learner.model))
    before = _weights(learner.model).clone()
    learner.update(pack(*second, 300), 1, NUM_GAMES)
    assert not torch.equal(before, _weights(learner.model))


def test_each_epoch_has_a_gradient_of_its_own():
    """3 epochs are 3 passes of the long way, each with the gradient at its weights: none is left from the pass before."""
    played = _played(off=0.0)
    learner = _learner(epochs=3, clip=0.2, lr=1e-3, num_steps=10**9)
    start = _weights(learner.model).clone()
    expected = _reference_update(learner.model, *played, [1e-3] * 3, 0.2, 1e9)
    learner.update(pack(*played, 300), 0, NUM_GAMES)
    _close_steps(learner.model, expected, start)


def test_the_step_goes_uphill():
    """A reply with a positive advantage becomes likelier, one with a negative advantage less likely."""
    model, prompt = _model(), (257, *b"p0 K", 260)
    replies = [(*b"bet", STOP), (*b"check", STOP)]
    turns = [Turn("", prompt, r, tuple(_score(model, prompt, r)), "x", True, "stop", 0) for r in replies]
    played = [Trajectory("kuhn", 0, LEARNER, 0.0, (t,), 0) for t in turns], [[1.0], [-1.0]]
    learner = _learner(model)
    learner.update(pack(*played, 100), 0, NUM_GAMES)
    now = [sum(_score(learner.model, prompt, r)) for r in replies]
    assert now[0] > sum(turns[0].logprobs)
    assert now[1] < sum(turns[1].logprobs)


def test_a_step_without_a_turn_is_no_error():
    """Games in which the learner never moved train nothing, move nothing, and count no refusal."""
    learner = _learner()
    before = _weights(learner.model).clone()
    stats = learner.update(pack([], [], 100), 0, NUM_GAMES)
    assert stats["learner/refused"] == 0
    assert torch.equal(_weights(learner.model), before)


def test_metrics_by_hand():
    """Reply tokens, objective = sum of A over games at a ratio of 1, entropy a turn and a token, gap 0."""
    played = _played(off=0.0)
    learner = _learner(kl=0.1)
    stats = learner.update(pack(*played, 300), 0, NUM_GAMES)
    turns = [t for trajectory in played[0] for t in trajectory.turns]
    tokens = sum(len(t.reply) for t in turns)
    total = sum(a * len(t.reply) for t, a in zip(turns, sum(played[1], []), strict=True))
    assert stats["learner/surrogate"] == pytest.approx(total / NUM_GAMES, rel=1e-4)
    assert stats["learner/reply_tokens"] == tokens
    assert stats["learner/entropy"] * len(turns) == pytest.approx(stats["learner/entropy_per_token"] * tokens, rel=1e-5)
    assert 0 < stats["learner/entropy_per_token"] < math.log(272)
    assert stats["learner/ratio_gap"] < 1e-4
    assert stats["learner/kl"] == pytest.approx(0, abs=1e-5)
    assert stats["learner/refused"] == 0


def test_dropout_is_off():
    """A model that arrives in train mode is scored and trained in eval mode."""
    model = _model().train()
    learner = _learner(model)
    learner.update(pack(*_played(), 300), 0, NUM_GAMES)
    assert not learner.model.training
    assert not learner.evaluated_model.training


def test_the_learning_rate_by_hand():
    """lr 1, 2 steps of warm-up, 12 steps in all: 0.5, 1, then down from 1 in equal steps."""
    learner = _learner(lr=1.0, lr_end=0.1, warmup_steps=2, num_steps=12)
    rates = [learning_rate(learner._config, step, learner._num_steps) for step in range(12)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    falls = [a - b for a, b in itertools.pairwise(rates[2:])]
    assert falls == pytest.approx([falls[0]] * 9)
    assert falls[0] > 0


@pytest.mark.parametrize("warmup", [0, 3])
def test_the_last_learning_rate_is_lr_end(warmup):
    """learner.lr_end is the last learning rate as a fraction of lr: step num_steps - 1 has lr * lr_end."""
    learner = _learner(lr=2.0, lr_end=0.1, warmup_steps=warmup, num_steps=12)
    assert learning_rate(learner._config, 11, learner._num_steps) == pytest.approx(0.2)


def test_a_cosine_by_hand():
    """lr 1, lr_end 0.2, 1 step of warm-up, 6 in all: from 1 to 0.2 by 0.2 + 0.8 (1 + cos(pi k / 4)) / 2."""
    config = LearnerConfig(lr=1.0, lr_end=0.2, warmup_steps=1, schedule="cosine")
    half = 0.4 * 2**-0.5
    rates = [learning_rate(config, step, 6) for step in range(6)]
    assert rates == pytest.approx([1.0, 1.0, 0.6 + half, 0.6, 0.6 - half, 0.2])


def test_warm_up_stable_decay_by_hand():
    """lr 1, lr_end 0.2, 2 steps of warm-up; the last 4 of 10 steps fall, to lr_end at the last one."""
    config = LearnerConfig(lr=1.0, lr_end=0.2, warmup_steps=2, schedule="wsd", decay=0.4)
    rates = [learning_rate(config, step, 10) for step in range(10)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2])
    assert learning_rate(LearnerConfig(lr=1.0, lr_end=0.2, schedule="wsd", decay=0.0), 8, 10) == 1.0


@pytest.mark.parametrize("kl_end", [1.0, 0.0, 0.25])
def test_the_kl_weight_falls_to_its_end(kl_end):
    """kl 0.4, 5 steps: 0.4 at first, kl_end of it at the last step (learner.kl_end), equal steps between."""
    learner = _learner(kl=0.4, kl_end=kl_end, num_steps=5)
    weights = [objective(learner._config, step, learner._num_steps).kl for step in range(5)]
    assert weights == pytest.approx([0.4 * (1 - (1 - kl_end) * step / 4) for step in range(5)])


def test_the_kl_weight_of_a_step_is_what_pulls():
    """With kl_end 0, an update at half time has half the KL term of the first one: seen in the objective."""
    played = _played()
    objectives = []
    for step in (0, 50):
        learner = _learner(kl=0.4, kl_end=0.0, num_steps=101)
        _off_reference(learner)
        stats = learner.update(pack(*played, 300), step, NUM_GAMES)
        turns = sum(len(t.turns) for t in played[0])
        objectives.append((stats["learner/surrogate"] - stats["learner/objective"]) * NUM_GAMES / turns)
        assert stats["learner/kl_weight"] == pytest.approx(objective(learner._config, step, learner._num_steps).kl)
        assert objectives[-1] == pytest.approx(
            objective(learner._config, step, learner._num_steps).kl * stats["learner/kl"], rel=1e-3
        )
    assert objectives[1] == pytest.approx(objectives[0] / 2, rel=0.02)


def test_the_learning_rate_of_an_update_is_reported():
    """What the schedule says is what the optimiser used."""
    learner = _learner(lr=1e-3, lr_end=0.0, num_steps=5)
    stats = learner.update(pack(*_played(), 300), 2, NUM_GAMES)
    assert stats["learner/lr"] == pytest.approx(5e-4) == learning_rate(learner._config, 2, learner._num_steps)


# Guards


def _poisoned():
    trajectories, advantages = _played()
    trajectories = [t for t in trajectories if t.turns]
    advantages = [a for a in advantages if a]
    advantages[0][0] = math.nan
    return trajectories, advantages


def test_a_loss_that_is_not_finite_changes_no_weight():
    """A NaN advantage: weights and optimiser stay bit for bit, the step is reported as refused, the next one trains."""
    learner = _learner()
    learner.update(pack(*_played(seed=4), 300), 0, NUM_GAMES)
    before = copy.deepcopy(learner.state())
    stats = learner.update(pack(*_poisoned(), 300), 1, NUM_GAMES)
    assert stats["learner/refused"] == 1
    after = learner.state()
    for name, weight in before["tensors"]["live"].items():
        assert torch.equal(weight, after["tensors"]["live"][name])
    _equal_trees(before["optimizer"]["state"], after["optimizer"]["state"])
    stats = learner.update(pack(*_played(seed=4), 300), 2, NUM_GAMES)
    assert stats["learner/refused"] == 0
    assert torch.isfinite(_weights(learner.model)).all()
    assert not torch.equal(
        _weights(learner.model), torch.cat([w.flatten() for w in before["tensors"]["live"].values()])
    )


def test_a_gradient_that_is_not_finite_is_refused():
    """An advantage so large that the gradient overflows, though nothing was NaN."""
    trajectories, advantages = _played()
    learner = _learner()
    before = _weights(learner.model).clone()
    stats = learner.update(pack(trajectories, [[3e38] * len(row) for row in advantages], 300), 0, 1)
    assert stats["learner/refused"] == 1
    assert torch.equal(_weights(learner.model), before)


def test_a_refused_pass_of_a_later_epoch_undoes_nothing_silently():
    """The promise is about the update: if any pass is refused, the weights are those before the update."""
    played = _played(off=0.0)
    learner = _learner(epochs=2, clip=0.2)
    before = _weights(learner.model).clone()
    backward, calls = learner._backward, []

    def second_fails(*args):
        terms = backward(*args)
        calls.append(1)
        return {**terms, "objective": math.nan} if len(calls) == 2 else terms

    learner._backward = second_fails
    stats = learner.update(pack(*played, 300), 0, NUM_GAMES)
    assert stats["learner/refused"] == 1
    assert torch.equal(_weights(learner.model), before)


def test_refusals_in_a_row_stop_the_run():
    """MAX_REFUSED in a row raise RunError; a good step in between starts the count afresh."""
    learner = _learner()
    bad, good = pack(*_poisoned(), 300), pack(*_played(seed=4), 300)
    for step in range(MAX_REFUSED - 1):
        learner.update(bad, step, NUM_GAMES)
    learner.update(good, 5, NUM_GAMES)
    for step in range(MAX_REFUSED - 1):
        learner.update(bad, step, NUM_GAMES)
    with pytest.raises(RunError, match=f"not finite for {MAX_REFUSED} steps in a row up to step 77"):
        learner.update(bad, 77, NUM_GAMES)


def test_stale_engine_weights_stop_the_run():
    """Replies of an engine whose weights are one update behind: the ratio is not 1 and the run says so."""
    model = _model()
    engine = TorchEngine(model, None)
    learner = _learner(model, lr=1e-2, ratio_tolerance=1e-3)

    def played():
        for n in range(20):
            engine.submit(Request(n, LEARNER, (257, *b"p0 J"[: 1 + n % 4], 260), Sampling(6, (STOP,)), n * 999))
        done = []
        while len(done) < 20:
            done += engine.step()
        turns = [
            Turn("", (257, *b"p0 J"[: 1 + c.request_id % 4], 260), c.ids, c.logprobs, "x", True, c.finish, 0)
            for c in done
        ]
        return [Trajectory("kuhn", 0, LEARNER, 0.0, (t,), 0) for t in turns], [[1.0]] * 20

    engine.load_weights(LEARNER, learner.weights(), 0)
    stats = learner.update(pack(*played(), 300), 0, NUM_GAMES)
    assert stats["learner/ratio_gap"] < 1e-4  # fresh: fine
    before = _weights(learner.model).clone()
    with pytest.raises(RunError, match="learner and the engine disagree"):
        learner.update(pack(*played(), 300), 1, NUM_GAMES)
    assert torch.equal(_weights(learner.model), before)
    engine.load_weights(LEARNER, learner.weights(), 1)
    learner.update(pack(*played(), 300), 1, NUM_GAMES)


def test_the_tolerance_is_the_configs():
    """Log-probs 0.01 nats off: refused at 0.001, accepted at 0.1."""
    trajectories, advantages = _played()
    moved = [
        Trajectory("kuhn", 0, LEARNER, 0.0, tuple(_moved(t) for t in trajectory.turns), 0)
        for trajectory in trajectories
    ]
    with pytest.raises(RunError, match="differs by 0.01 nats"):
        _learner(ratio_tolerance=1e-3).update(pack(moved, advantages, 300), 0, NUM_GAMES)
    stats = _learner(ratio_tolerance=0.1).update(pack(moved, advantages, 300), 0, NUM_GAMES)
    assert stats["learner/ratio_gap"] == pytest.approx(0.01, abs=1e-4)


def _moved(turn):
    logprobs = tuple(x + 0.01 for x in turn.logprobs)
    return Turn(turn.observation, turn.prompt, turn.reply, logprobs, turn.move, True, "stop", 0)


# Averages, references and state


def _trained(learner, steps):
    """Live weights after each of `steps` updates, and the averages."""
    live, averages = [], []
    for step in steps:
        learner.update(pack(*_played(seed=10 + step, num=8), 300), step, NUM_GAMES)
        live.append(_weights(learner.model).clone())
        averages.append(_weights(learner.evaluated_model).clone())
    return live, averages


def test_the_average_by_hand():
    """ema 0.2: w1, then 1/6 a + 5/6 w2, then 0.2 a + 0.8 w3, since 1 - 5/7 is more than 0.2."""
    (w1, w2, w3), averages = _trained(_learner(ema=0.2), range(3))
    torch.testing.assert_close(averages[0], w1, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(averages[1], w1 / 6 + w2 * 5 / 6, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(averages[2], 0.2 * averages[1] + 0.8 * w3, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize(("power", "weights"), [(0.0, (1, 1, 1)), (2.0, (1, 3, 6)), (4.0, (1, 5, 15))])
def test_a_long_average_begins_with_polynomial_decay(power, weights):
    """ema 0.98: after 3 updates the weights are the binomials (t + power - 1 over power), which grow as t^power."""
    live, averages = _trained(_learner(ema=0.98, ema_power=power), range(3))
    expected = sum(w * each for w, each in zip(weights, live, strict=True)) / sum(weights)
    torch.testing.assert_close(averages[2], expected, atol=1e-7, rtol=1e-6)


def test_without_averaging_the_average_is_the_live_policy():
    """ema 0."""
    live, averages = _trained(_learner(ema=0.0), range(2))
    assert torch.equal(averages[1], live[1])


def test_the_reference_moves_when_it_is_due():
    """reference_every 2: the initial weights during steps 0 and 1, the mean of the weights after both from then on."""
    learner = _learner(kl=0.2, reference_every=2)

    def reference():
        return torch.cat([w.flatten() for w in learner.state()["tensors"]["reference"].values()]).clone()

    start = _weights(learner.model).clone()
    assert torch.equal(reference(), start)
    first, _ = _trained(learner, [0])
    assert torch.equal(reference(), start)
    live, _ = _trained(learner, [1])
    moved = reference()
    torch.testing.assert_close(moved, (first[0] + live[0]) / 2, atol=1e-7, rtol=1e-6)
    _trained(learner, [2])
    assert torch.equal(reference(), moved)


def test_state_goes_on_bit_for_bit():
    """A new learner with other weights that takes the state back continues exactly as the old one does."""
    config = {"kl": 0.2, "reference_every": 2, "ema": 0.9, "clip": 0.2}
    old = _learner(**config)
    _trained(old, range(3))
    new = _learner(_model(seed=5), **config)
    new.load_state(copy.deepcopy(old.state()))
    for mine, theirs in zip(_trained(old, range(3, 6)), _trained(new, range(3, 6)), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    _equal_trees(old.state(), new.state())


def _equal_trees(a, b):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            _equal_trees(a[key], b[key])
    elif isinstance(a, list | tuple):
        for x, y in zip(a, b, strict=True):
            _equal_trees(x, y)
    else:
        assert a == b


def test_weights_of_another_model_are_refused():
    """One sentence with the name of a weight and both shapes."""
    state = _learner(MODELS["byte-0.4m"](context=128)[0]).state()
    with pytest.raises(RunError, match="belong to another model"):
        _learner().load_state(state)


# Real processes

WORKER = """
import json, os, sys
import torch
torch.set_num_threads(1)
from accelerate import Accelerator
from spiral_models import MODELS
from spiral.learning.packing import pack
from spiral.learning.schedule import learning_rate, objective
from spiral.config.schema import LearnerConfig
from spiral.learning.full_learner import FullLearner
from spiral.api.records import Trajectory, Turn

rows = json.load(open(sys.argv[1]))
accelerator = Accelerator(cpu=True)
torch.manual_seed(0)
config = LearnerConfig(ratio_tolerance=1e9, **json.loads(sys.argv[3]))
learner = FullLearner(MODELS["byte-0.1m"](context=128)[0], config, 100, accelerator)
turn = lambda p, r, l: Turn("", tuple(p), tuple(r), tuple(l), "x", True, "stop", 0)
trajectories = [Trajectory("kuhn", 0, "learner", 0.0, tuple(turn(*t) for t in row), 0) for row, _ in rows]
shard = accelerator.process_index, accelerator.num_processes
stats = learner.update(pack(trajectories, [a for _, a in rows], 300, *shard, config.minibatches, 7), 0, 5)
weights = [p.flatten() for p in learner.model.parameters()]
torch.save((stats, torch.cat(weights).detach(), accelerator.num_processes), sys.argv[2] + os.environ["RANK"])
"""


TOGETHER = {"max_grad_norm": 0.5, "clip": 0.2, "kl": 0.3, "entropy": 0.05}


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        TOGETHER,
        {**TOGETHER, "minibatches": 2, "epochs": 2, "importance": "truncated", "normalisation": "tokens"},
    ],
)
def test_two_real_processes_train_what_one_does(tmp_path, config):
    """Two processes over gloo: both end with the weights and the numbers of a single process."""
    trajectories, advantages = _played(off=0.6)
    trajectories = [
        dataclasses.replace(t, turns=tuple(dataclasses.replace(turn, legal_replies=None) for turn in t.turns))
        for t in trajectories
    ]
    rows = [
        ([(t.prompt, t.reply, t.logprobs) for t in trajectory.turns], row)
        for trajectory, row in zip(trajectories, advantages, strict=True)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workers = []
    for rank in range(2):
        env = {
            **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
        }  # fmt: skip
        command = [sys.executable, "-c", WORKER, str(tmp_path / "rows.json"), str(tmp_path / "out"), json.dumps(config)]
        workers.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
    learner = _learner(**config)
    start = _weights(learner.model).clone()
    batch = pack(trajectories, advantages, 300, minibatches=config.get("minibatches", 1), seed=7)
    expected = learner.update(batch, 0, NUM_GAMES)
    (stats, weights, world), (_, others, _) = (torch.load(tmp_path / f"out{r}") for r in range(2))
    assert world == 2
    assert torch.equal(weights, others)
    step = _weights(learner.model) - start
    assert float((weights - start - step).norm() / step.norm()) < 0.02
    for name in expected.keys() - {"learner/computed_tokens"}:
        assert stats[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-4), name
