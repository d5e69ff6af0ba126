"""Updates whose batch was sampled by another policy than the one that is trained: minibatches, epochs, importance weights
and named objectives, compared with an unmerged, unpacked implementation written here."""

import copy
import math
import random
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from spiral_models import MODELS

from spiral.api.errors import RunError
from spiral.api.records import LEARNER, Request, Sampling, Trajectory, Turn
from spiral.config.schema import LearnerConfig
from spiral.engines.torch.engine import TorchEngine
from spiral.learning.full_learner import FullLearner
from spiral.learning.minibatches import draw_minibatches
from spiral.learning.packing import pack
from spiral.learning.schedule import objective
from spiral.models.logits import parameters
from spiral.testing.engines import answered, one_turn_batch

torch.set_num_threads(1)

NUM_GAMES = 6
NAMED = {
    "dapo": {"clip": 0.2, "clip_high": 0.28, "normalisation": "tokens"},
    "dr_grpo": {"clip": 0.2, "normalisation": "constant"},
    "gspo": {"clip": 3e-4, "clip_high": 4e-4, "ratio_level": "sequence", "normalisation": "sequence"},
}
"""As `docs/guides/numbers.md` names them."""


def _model(seed=0):
    torch.manual_seed(seed)
    return MODELS["byte-0.1m"](context=128)[0]


def _learner(model=None, engine_dtype=None, **config):
    settings = {"max_grad_norm": 1e9, "ratio_tolerance": 1e9, "lr_end": 1.0, **config}
    return FullLearner(
        model or _model(), LearnerConfig(**settings), 100, Accelerator(cpu=True), engine_dtype=engine_dtype
    )


def _logprobs(model, prompt, reply):
    logits = model(input_ids=torch.tensor([[*prompt, *reply]])).logits[0]
    places = torch.arange(len(reply)) + len(prompt) - 1
    return torch.log_softmax(logits, -1)[places, torch.tensor(reply)]


def _played(num=16, off=0.0, seed=1):
    """Trajectories of one or two turns with many equal ones; `off` moves the engine's log-probabilities away."""
    rng, model = random.Random(seed), _model()
    trajectories, advantages = [], []
    for number in range(num):
        turns = []
        for _ in range(rng.randint(1, 2)):
            prompt = (257, *b"kuhn p0 "[: rng.randint(2, 5)], 260)
            reply = (*rng.choice([b"check", b"bet", b"b"]), 0)
            with torch.no_grad():
                logprobs = _logprobs(model, prompt, reply)
            shift = random.Random(f"{prompt} {reply}")  # equal replies are equally far off, so that some are merged
            stored = tuple(x + off * shift.uniform(-1, 1) for x in logprobs.tolist())
            turns.append(Turn("", prompt, reply, stored, "x", True, "stop", 0))
        trajectories.append(Trajectory("kuhn", 0, LEARNER, 0.0, tuple(turns), number))
        advantages.append([rng.choice([-2.0, -1.0, 1.0, 2.0]) for _ in turns])
    return trajectories, advantages


def _long_way(model, played, config, divisor, cap=None, before=None):
    """The gradient of the negated objective, turn by turn: as the papers have it. `before`: the model of pi_old."""
    model = copy.deepcopy(model).eval()
    total, num_tokens, num_turns = torch.zeros(()), 0, 0
    for trajectory, row in zip(*played, strict=True):
        for turn, advantage in zip(trajectory.turns, row, strict=True):
            now, engine = _logprobs(model, turn.prompt, turn.reply), torch.tensor(turn.logprobs)
            old = now.detach() if before is None else _logprobs(before, turn.prompt, turn.reply).detach()
            log_ratio = now - (engine if cap is None else old)
            if config.get("ratio_level") == "sequence":
                log_ratio = log_ratio.mean().expand(len(now))
                if cap is not None:
                    log_ratio = log_ratio.detach() + now - now.detach()
            ratio, clip = log_ratio.exp(), config.get("clip", math.inf)
            gain = torch.minimum(
                ratio * advantage, ratio.clamp(1 - clip, 1 + config.get("clip_high", clip)) * advantage
            )
            if cap is not None:
                gain = gain * (old - engine).exp().clamp(max=cap)
            total = total + (gain.mean() if config.get("normalisation") == "sequence" else gain.sum())
            num_tokens, num_turns = num_tokens + len(now), num_turns + 1
    divisor = {"tokens": num_tokens, "sequence": num_turns}.get(config.get("normalisation"), divisor)
    (-total / divisor).backward()
    return _flat(model)


def _flat(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def _weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def _gradient(learner, part, num_games=NUM_GAMES):
    for parameter in learner.model.parameters():
        parameter.grad = None
    weights = learner._agreement.applied(objective(learner._config, 0, 100))
    terms = learner._backward(part, learner._divisor(part, num_games), weights)
    return _flat(learner.model), terms


# One optimiser step


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("name", NAMED)
def test_a_named_objective_is_the_papers(name, cap):
    """DAPO, Dr.GRPO and GSPO, at ratios of up to e: the gradient is that of the long way, turn by turn. For GSPO without
    importance weights the long way differentiates the ratio of the sequence itself."""
    played = _played(off=1.0)
    learner = _learner(**NAMED[name], importance="none" if cap is None else "truncated")
    expected = _long_way(learner.model, played, NAMED[name], NUM_GAMES, cap)
    found, terms = _gradient(learner, pack(*played, 300).minibatches[0])
    assert expected.norm() > 1e-3
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-4)
    assert terms["clipped"] > 0 if cap is None else terms["truncated"] > 0


def test_replies_of_older_weights_are_weighed_by_the_weights_that_sampled_them():
    """Known failure (SkyRL#1315): clipping is off in asynchronous runs, since the present weights' probabilities stand in
    for those at sampling. A drift of ln 2 a version over two versions: every ratio is 4, every weight is cut to 2, and
    the check of agreement, which would stop a synchronous run, lets it pass."""
    trajectories, advantages = _played()
    shifted = [replace(t, turns=tuple(map(_two_versions_old, t.turns))) for t in trajectories]
    learner = FullLearner(_model(), LearnerConfig(max_grad_norm=1e9), 100, Accelerator(cpu=True), is_async=True)
    expected = _long_way(learner.model, (shifted, advantages), {}, NUM_GAMES, cap=2.0)
    batch = pack(shifted, advantages, 300)
    found, terms = _gradient(learner, batch.minibatches[0])
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-4)
    assert terms["truncated"] == batch.num_reply_tokens
    measured = learner.update(batch, 0, NUM_GAMES)
    assert measured["learner/ratio_mean"] == pytest.approx(4.0, rel=1e-3)
    assert measured["learner/truncated"] == 1.0


def _two_versions_old(turn):
    return replace(turn, logprobs=tuple(x - 2 * math.log(2) for x in turn.logprobs))


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_importance_weights_are_on_where_the_engine_computes_otherwise(dtype):
    """An engine that names its dtype has kernels of its own: one step's gradient is A min(pi / pi_engine, 2) grad log pi.
    One that does not is the same computation: A pi / pi_engine grad log pi, as REINFORCE at ratios of 1."""
    played = _played(off=1.0)
    learner = _learner(engine_dtype=dtype)
    expected = _long_way(learner.model, played, {}, NUM_GAMES, None if dtype is None else 2.0)
    found, terms = _gradient(learner, pack(*played, 300).minibatches[0])
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-4)
    assert (terms["truncated"] > 0) == (dtype is not None)


@pytest.mark.parametrize("normalisation", ["constant", "tokens", "sequence"])
def test_rows_processes_and_micro_batches_change_no_gradient(normalisation):
    """Each normaliser is of the whole batch: parts of 2, 3 and 60 processes, most of which have no token then, add up to
    the gradient of one process in one forward, and so do micro-batches of one row."""
    played = _played(off=0.5)
    settings = {"normalisation": normalisation, "ratio_level": "sequence", "importance": "truncated", "kl": 0.1}
    learner = _learner(**settings)
    expected, terms = _gradient(learner, pack(*played, 10**6).minibatches[0])
    for world, tokens in [(1, 1), (2, 60), (3, 300), (60, 300)]:
        total, sums = torch.zeros_like(expected), dict.fromkeys(terms, 0.0)
        for rank in range(world):
            part = pack(*played, tokens, rank, world).minibatches[0]
            if part.micro_batches:
                gradient, found = _gradient(learner, part)
                total += gradient
                sums = {name: sums[name] + value for name, value in found.items()}
        torch.testing.assert_close(total, expected, atol=2e-5, rtol=2e-4)
        for name in terms.keys() - {"gap"}:
            assert sums[name] == pytest.approx(terms[name], rel=1e-4, abs=1e-4), name


def test_five_tokens_and_one_are_six():
    """Process 0 has five tokens of advantage 1, process 1 one of advantage 7: over tokens the objective is 12 / 6 = 2,
    and not the mean of the means 1 and 7."""
    reply = (*b"check", 0)[:5]
    model = _model()
    with torch.no_grad():
        stored = [tuple(_logprobs(model, p, r).tolist()) for p, r in (((257, 260), reply), ((258, 260), (0,)))]
    turns = [
        Turn("", (257, 260), reply, stored[0], "x", True, "stop", 0),
        Turn("", (258, 260), (0,), stored[1], "x", True, "stop", 0),
    ]
    played = [Trajectory("kuhn", 0, LEARNER, 0.0, (turn,), 0) for turn in turns], [[1.0], [7.0]]
    learner, parts = _learner(normalisation="tokens"), [pack(*played, 300, rank, 2).minibatches[0] for rank in range(2)]
    assert [sum(len(m.targets) for m in part.micro_batches) for part in parts] == [5, 1]
    values = [learner._backward(part, learner._divisor(part, 1), objective(learner._config, 0, 1)) for part in parts]
    assert [learner._divisor(part, 1) for part in parts] == [6, 6]
    assert sum(terms["objective"] for terms in values) / 6 == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize("normalisation", ["constant", "tokens", "sequence"])
def test_accumulation_does_not_scale_a_step(normalisation):
    """8 equally long rows as 1 x 8, 2 x 4 and 8 x 1 micro-batches: one gradient, where dividing twice or never gives
    1, 1/2 and 1/8 of it."""
    model, trajectories = _model(), []
    for number in range(8):
        prompt, reply = (65 + number, 257, 260), (*b"bet", 0)  # nothing shared: a row each
        with torch.no_grad():
            stored = tuple(_logprobs(model, prompt, reply).tolist())
        turn = Turn("", prompt, reply, stored, "x", True, "stop", 0)
        trajectories.append(Trajectory("kuhn", 0, LEARNER, 0.0, (turn,), 0))
    learner, gradients = _learner(normalisation=normalisation), []
    for num_rows in (8, 4, 1):
        part = pack(trajectories, [[1.0]] * 8, num_rows * 7).minibatches[0]
        assert len(part.micro_batches) == 8 // num_rows
        gradients.append(_gradient(learner, part)[0])
    assert gradients[0].norm() > 0.1
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("normalisation", ["constant", "tokens", "sequence"])
def test_the_kl_term_alone_moves_the_weights(normalisation):
    """Advantages 0, weight 1, another reference: the gradient is not 0, and along itself it is the finite difference of
    the KL term."""
    trajectories, advantages = _played(num=4)
    part = pack(trajectories, [[0.0] * len(row) for row in advantages], 300).minibatches[0]
    learner = _learner(kl=1.0, normalisation=normalisation)
    state = copy.deepcopy(learner.state())
    state["tensors"]["reference"] = {name: p.detach() for name, p in _model(9).named_parameters()}
    learner.load_state(state)
    gradient, _ = _gradient(learner, part)
    gradient, start = gradient.clone(), _weights(learner.model).clone()
    assert gradient.norm() > 1e-3
    values = []
    for sign in (1, -1):
        moved = start + sign * 1e-2 * gradient / gradient.norm()
        torch.nn.utils.vector_to_parameters(moved, learner.model.parameters())
        values.append(_gradient(learner, part)[1]["objective"] / learner._divisor(part, NUM_GAMES))
    assert -(values[0] - values[1]) / 2e-2 == pytest.approx(gradient.norm().item(), rel=0.02)


@pytest.mark.parametrize("ratio_level", ["token", "sequence"])
def test_ratios_are_one_at_the_first_step_whatever_the_dropout(ratio_level):
    """A model that a loader left in train mode with a dropout of 0.5: what the engine sampled without it is scored
    without it."""
    model = _model()
    model.set_dropout(0.5)
    played = _played()
    with torch.no_grad():  # dropout is really on
        prompt, reply = played[0][0].turns[0].prompt, played[0][0].turns[0].reply
        assert (
            _logprobs(model.train(), prompt, reply) - torch.tensor(played[0][0].turns[0].logprobs)
        ).abs().max() > 0.01
    stats = _learner(model.train(), clip=1e-4, ratio_level=ratio_level).update(pack(*played, 300), 0, NUM_GAMES)
    assert stats["learner/ratio_gap"] < 1e-5
    assert stats["learner/ratio_mean"] == pytest.approx(1, abs=1e-5)
    assert stats["learner/clipped"] == stats["learner/ratio_beyond"] == 0


@pytest.mark.parametrize("normalisation", ["constant", "tokens", "sequence"])
def test_a_masked_reply_neither_pays_nor_counts(normalisation):
    """A turn that is not trained, at an advantage of 1000: gradient, normaliser and figures are those of a batch without
    it. There is no other rejection: an importance weight is cut, and the token stays."""
    trajectories, advantages = _played(off=0.5)
    without = [Trajectory("kuhn", 0, LEARNER, 0.0, t.turns[:1], t.deal) for t in trajectories]
    masked = []
    for trajectory in without:
        turn = Turn("", (257, 33, 260), (*b"bet", 0), (-1.0,) * 4, "x", True, "length", 0, trained=False)
        masked.append(Trajectory("kuhn", 0, LEARNER, 0.0, (*trajectory.turns, turn), 0))
    learner = _learner(normalisation=normalisation, importance="truncated")
    first = [row[:1] for row in advantages]
    expected, terms = _gradient(learner, pack(without, first, 300).minibatches[0])
    expected = expected.clone()
    found, others = _gradient(learner, pack(masked, [[*row, 1000.0] for row in first], 300).minibatches[0])
    assert torch.equal(found, expected)
    assert others == terms


def test_one_extreme_reply_leaves_a_step_finite():
    """An engine that gave one reply a log-probability of -100 a token: the step is taken, and moves by finite amounts,
    for every ratio level, with importance weights and without."""
    for level, importance in [(a, b) for a in ("token", "sequence") for b in ("none", "truncated")]:
        trajectories, advantages = _played()
        turn = trajectories[0].turns[0]
        extreme = Turn("", (257, 34, 260), turn.reply, (-100.0,) * len(turn.reply), "x", True, "stop", 0)
        trajectories[0] = Trajectory("kuhn", 0, LEARNER, 0.0, (extreme,), 0)
        for sign in (1.0, -1.0):
            learner = _learner(ratio_level=level, importance=importance, clip=0.2, max_grad_norm=1.0)
            before = _weights(learner.model).clone()
            stats = learner.update(pack(trajectories, [[sign], *advantages[1:]], 300), 0, NUM_GAMES)
            assert stats["learner/refused"] == 0
            assert all(map(math.isfinite, stats.values()))
            assert torch.isfinite(_weights(learner.model)).all()
            assert not torch.equal(_weights(learner.model), before)


# Learner against engine


def test_the_mismatch_is_measured_before_the_first_step():
    """Log-probabilities 0.01 nats above the learner's at every token: the ratio is e^-0.01, the KL 0.01^2 / 2, every
    token is beyond a band of 0.001; in one step and in several."""
    trajectories, advantages = _played()
    moved = [
        Trajectory(
            "kuhn", 0, LEARNER, 0.0,
            tuple(Turn("", t.prompt, t.reply, tuple(x + 0.01 for x in t.logprobs), "x", True, "stop", 0) for t in each.turns),
            0,
        )
        for each in trajectories
    ]  # fmt: skip
    for settings in ({}, {"epochs": 2, "minibatches": 3, "clip": 0.2}):
        learner = _learner(lr=1e-2, **settings)
        learner._agreement = type(learner._agreement)(1e-3, False, None)
        with pytest.raises(RunError, match="100% of a fresh batch"):
            learner.update(pack(moved, advantages, 300, minibatches=settings.get("minibatches", 1)), 0, NUM_GAMES)
        learner._agreement = type(learner._agreement)(0.1, False, None)
        batch = pack(moved, advantages, 300, minibatches=settings.get("minibatches", 1))
        stats = learner.update(batch, 0, NUM_GAMES)
        assert stats["learner/ratio_gap"] == pytest.approx(0.01, abs=1e-4)
        assert stats["learner/ratio_mean"] == pytest.approx(math.exp(-0.01), abs=1e-5)
        assert stats["learner/mismatch_kl"] == pytest.approx(5e-5, rel=0.05)
        assert stats["learner/ratio_beyond"] == 0


def test_an_engine_in_bf16_is_measured_and_corrected_where_it_says_so():
    """Replies of the model in bf16, trained in float32. If the engine names its dtype, a step is taken: some token is off
    by more than float32 allows, few by more than bf16 does. If it does not, the run stops."""
    model = _model()
    engine = TorchEngine(copy.deepcopy(model).to(torch.bfloat16), None)
    requests = [Request(n, LEARNER, (257, 65 + n, 260), Sampling(8, (0,)), n) for n in range(32)]
    engine.load_weights(LEARNER, {name: p.to(torch.bfloat16) for name, p in parameters(model).items()}, 0)
    batch = one_turn_batch(requests, answered(engine, requests))
    with pytest.raises(RunError, match="the learner and the engine disagree"):
        _learner(model, ratio_tolerance=None).update(batch, 0, 32)
    stats = _learner(model, torch.bfloat16, ratio_tolerance=None).update(batch, 0, 32)
    assert stats["learner/refused"] == 0
    assert stats["learner/ratio_gap"] > 1e-3
    assert stats["learner/mismatch_kl"] > 0
    assert stats["learner/ratio_mean"] == pytest.approx(1, abs=0.05)
    assert stats["learner/ratio_beyond"] < 0.1


# Several optimiser steps


def _steps(learner, played, seed, num):
    """What each optimiser step of an update has for its gradient, in their order."""
    gradients, step = [], learner._optimizer.step

    def kept(*args):
        gradients.append(_flat(learner.model).clone())
        return step(*args)

    learner._optimizer.step = kept
    stats = learner.update(pack(*played, 300, minibatches=num, seed=seed), 0, NUM_GAMES)
    return gradients, stats


@pytest.mark.parametrize("importance", ["none", "truncated"])
@pytest.mark.parametrize(
    "config", [*NAMED.values(), {"clip": 0.2, "ratio_level": "sequence"}], ids=[*NAMED, "constant"]
)
def test_each_minibatch_is_a_step_about_the_policy_before_the_update(config, importance):
    """2 epochs of 2 minibatches are 4 steps. Each has the gradient of its own trajectories at the weights of its turn,
    divided by its own tokens or replies, or by half of the games; the clip and the importance weights are about the
    policy before the first of them."""
    played, cap = _played(off=0.4), {"none": None, "truncated": 1.2}[importance]
    learner = _learner(**config, importance=importance, importance_cap=1.2, minibatches=2, epochs=2, lr=1e-3)
    before, model = copy.deepcopy(learner.model), copy.deepcopy(learner.model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
    found, _ = _steps(learner, played, seed=3, num=2)
    assert len(found) == 4
    for number, part in enumerate([*draw_minibatches(played[0], 2, seed=3)] * 2):
        own = [played[0][place] for place in part], [played[1][place] for place in part]
        expected = _long_way(model, own, config, NUM_GAMES / 2, cap, before)
        torch.testing.assert_close(found[number], expected, atol=5e-4 * max(1, expected.norm()), rtol=5e-3)
        start = 0
        for parameter in model.parameters():  # from the learner's own gradient, so that rounding does not add up
            parameter.grad = found[number][start : start + parameter.numel()].view_as(parameter).clone()
            start += parameter.numel()
        optimizer.step()


def test_the_metrics_of_an_update_are_of_all_its_minibatches():
    """Objective, entropy and tokens of the first pass of 3 minibatches are those of one, where the rate is so small that
    no step moves anything."""
    played = _played()
    one = _learner(lr=1e-12, clip=0.2, kl=0.1).update(pack(*played, 300), 0, NUM_GAMES)
    three = _learner(lr=1e-12, clip=0.2, kl=0.1, minibatches=3).update(pack(*played, 300, minibatches=3), 0, NUM_GAMES)
    for name in one.keys() - {"learner/grad_norm", "learner/computed_tokens", "learner/ratio_gap", "learner/moved"}:
        assert three[name] == pytest.approx(one[name], rel=1e-4, abs=1e-6), name


def test_a_refused_minibatch_leaves_the_weights_before_the_update():
    """The second of 2 steps has an infinite gradient: the first one is undone too, and the step counts as refused."""
    trajectories, advantages = _played()
    part = draw_minibatches(trajectories, 2, seed=0)[1]
    advantages[part[0]] = [3e38] * len(advantages[part[0]])
    learner = _learner(minibatches=2, clip=0.2)
    before = _weights(learner.model).clone()
    stats = learner.update(pack(trajectories, advantages, 300, minibatches=2), 0, 1)
    assert stats["learner/refused"] == 1
    assert torch.equal(_weights(learner.model), before)
    assert learner._optimizer.state_dict()["state"] == {}
