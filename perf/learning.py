"""R2: the learner's update against a bare training loop, and against one padded row a turn without merging.

The batches are those of real self-play, and rows of random ids that share nothing, where a learner can save nothing.
The bare loop gets the learner's own packed tensors ready-made and does forward, backward and AdamW only; the padded one
gets its rows ready-made too, computes logits only where they are trained, and sorts rows by length. Weights hardly move
(a tiny learning rate), so every repetition does the same.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator

from perf.measure import Figure, Timing, alternate, median_cpu, ratios
from perf.parts import Parts, make_parts
from perf.shapes import SMOLLM2, transcripts
from spiral.api.records import LEARNER, Trajectory, Turn
from spiral.config.schema import LearnerConfig
from spiral.learning.full_learner import FullLearner
from spiral.learning.packing import MicroBatch, pack, pack_samples
from spiral.learning.samples import Sample, merge
from spiral.models.logits import TokenLogits

BARE_TARGET, NAIVE_TARGET = 0.9, 5.0
SETTINGS = LearnerConfig(lr=1e-9, kl=0.0, clip=None, ratio_tolerance=1e-2)
PRETRAINED = replace(SETTINGS, ema=0.0, micro_batch_tokens=1024, ratio_tolerance=math.inf)
"""As a pretrained model is trained: without an average."""
CASES = (
    ("kuhn/0.1m", ("games=kuhn_poker", "model=byte-0.1m", "rollout.episodes=512"), 7),
    ("ttt/0.1m", ("games=tic_tac_toe", "model=byte-0.1m", "rollout.episodes=512"), 3),
    ("ttt/1m", ("games=tic_tac_toe", "model=byte-1m", "rollout.episodes=128"), 2),
)
TREE_GAMES = 64
DISTINCT_ROWS, SMOLLM2_ROWS, ROW_TOKENS = 32, 4, 128
"""Rows of the cases whose rows share nothing, and the tokens of each, of which half are trained."""


@dataclass(frozen=True)
class Rows:
    """What an update trains on."""

    trajectories: Sequence[Trajectory]
    advantages: Sequence[Sequence[float]]
    games: int


def figures() -> Iterator[Figure]:
    """Two figures for each game; one for rows that share nothing, of a byte model and in the shape of SmolLM2."""
    for name, overrides, repeats in CASES:
        parts = make_parts(*overrides, legal=0.9)
        rows = _played(parts)
        yield from _compare(name, parts.setup.model, rows, SETTINGS, repeats, over_padded=True)
    yield from wide_figures()


def wide_figures() -> Iterator[Figure]:
    """Rows that share nothing, and trees of a game's positions in which both players move at random: what needs no
    model that has learnt to play."""
    parts = make_parts("games=tic_tac_toe", "model=byte-1m")
    trees = _played_at_random(parts, TREE_GAMES)
    settings = replace(SETTINGS, ratio_tolerance=math.inf)
    yield from _compare("trees/1m", copy.deepcopy(parts.setup.model), trees, settings, 3)
    rows = _random(DISTINCT_ROWS, 256)
    yield from _compare("distinct/1m", parts.setup.model, rows, replace(SETTINGS, ratio_tolerance=math.inf), 5)
    yield from _compare("distinct/SmolLM2's shape", SMOLLM2.model(), _random(SMOLLM2_ROWS, 256), PRETRAINED, 3)


def _played(parts: Parts) -> Rows:
    games = parts.config.rollout.episodes
    episodes = parts.rollouts().play(games, (3,))
    trajectories = [t for e in episodes for t in e.trajectories]
    return Rows(trajectories, [[t.reward] * len(t.turns) for t in trajectories], games)


def _played_at_random(parts: Parts, games: int) -> Rows:
    """Games of random legal moves, each said by its one reply."""
    rng, (make,) = random.Random(0), parts.setup.games.values()
    trajectories = []
    for number in range(games):
        game = make()
        game.reset(rng)
        turns: list[list[Turn]] = [[] for _ in range(game.num_players)]
        while (player := game.current_player()) is not None:
            moves, seen = game.legal_moves() or [], game.observe(player)
            move = rng.choice(moves)
            reply = parts.prompter.reply(move) or ()
            prompt = parts.prompter.encode(game.rules, seen, moves)
            turns[player].append(Turn(seen, prompt, reply, (-1.0,) * len(reply), move, True, "stop", 0))
            game.play(move)
        for player, value in enumerate(game.returns()):
            trajectories.append(Trajectory("random", player, LEARNER, value, tuple(turns[player]), number))
    return Rows(trajectories, [[t.reward] * len(t.turns) for t in trajectories], games)


def _random(num: int, vocab: int) -> Rows:
    trajectories = transcripts(num, ROW_TOKENS, vocab)
    return Rows(trajectories, [[t.reward] for t in trajectories], num)


def _compare(
    name: str, model: Any, rows: Rows, settings: LearnerConfig, repeats: int, over_padded: bool = False
) -> Iterator[Figure]:
    trajectories, advantages, limit = rows.trajectories, rows.advantages, settings.micro_batch_tokens
    batch = pack(trajectories, advantages, limit)
    works: dict[str, Callable[[], object]] = {"bare": bare_loop(model, batch.micro_batches, rows.games)}
    padded_batches = padded(trajectories, advantages, limit) if over_padded else ()
    if padded_batches:
        works["padded"] = bare_loop(model, padded_batches, rows.games)
    learner = FullLearner(model, settings, 1000, Accelerator())  # last, since it trains the model itself

    def update() -> None:
        learner.update(pack(trajectories, advantages, limit), 0, rows.games)

    works = {"update": update, "pack": lambda: pack(trajectories, advantages, limit), **works}
    times = dict(zip(works, alternate(list(works.values()), repeats), strict=True))
    detail = {
        "turns": batch.num_turns,
        "samples": len(merge(trajectories, advantages)),
        "micro_batches": len(batch.micro_batches),
        "packed": batch.micro_batches[0].mask is not None,
        "computed_tokens": batch.num_computed_tokens,
        "computed_tokens_padded": sum(b.ids.numel() for b in padded_batches),
        "cpu_ms": {n: 1e3 * median_cpu(t) for n, t in times.items()} | _extras(learner, settings),
    }
    whole = times["update"]
    unpacked = [Timing(w.cpu - p.cpu, w.wall - p.wall) for w, p in zip(whole, times["pack"], strict=True)]
    for work, target in (("bare", BARE_TARGET), ("padded", NAIVE_TARGET)):
        if work in times:
            ratio = ratios(times[work], whole)
            without = ratios(times[work], unpacked)["cpu"]
            more = {**detail, "ratio": ratio, "ratio_without_packing": without}
            yield Figure(f"R2 {name} over {work}", ratio["cpu"]["median"], f"x {work}", target, detail=more)


def _extras(learner: FullLearner, settings: LearnerConfig) -> dict[str, float]:
    """CPU milliseconds of what an update does besides, and a bare loop does not: the norm of the gradient, the average
    of the weights."""
    for parameter in learner.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    parameters, average = list(learner.model.parameters()), learner._average
    works: dict[str, Callable[[], object]] = {
        "norm": lambda: torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
    }
    if average is not None:
        works["average"] = lambda: average.update(learner.model)
    times = alternate(list(works.values()), 3)
    for parameter in parameters:
        parameter.grad = None
    return {name: 1e3 * median_cpu(row) for name, row in zip(works, times, strict=True)}


def bare_loop(model: Any, micro_batches: Sequence[MicroBatch], games: int) -> Callable[[], None]:
    """Forward, policy-gradient loss, backward and AdamW over tensors that are ready."""
    model = copy.deepcopy(model).requires_grad_(True)
    lm = TokenLogits(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=SETTINGS.lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    def run() -> None:
        for batch in micro_batches:
            logits = lm(batch.ids, batch.positions, batch.mask, batch.rows, batch.columns)
            logprobs = torch.log_softmax(logits, -1).gather(-1, batch.targets[:, None])[:, 0]
            loss = -((batch.positive + batch.negative) * logprobs).sum() / games
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return run


def padded(
    trajectories: Sequence[Trajectory], advantages: Sequence[Sequence[float]], limit: int
) -> tuple[MicroBatch, ...]:
    """One row a turn, shortest first, padded on the right."""
    turns = [(t, a) for trajectory, row in zip(trajectories, advantages, strict=True)
             for t, a in zip(trajectory.turns, row, strict=True) if t.reply]  # fmt: skip
    turns.sort(key=lambda pair: len(pair[0].prompt) + len(pair[0].reply))
    out: list[MicroBatch] = []
    rows: list[MicroBatch] = []
    for turn, advantage in turns:
        sample = Sample(turn.prompt, turn.reply, turn.logprobs, max(advantage, 0.0), min(advantage, 0.0), 1)
        row = pack_samples([sample], limit)[0]
        if rows and row.ids.shape[1] * (len(rows) + 1) > limit:
            out.append(_stack(rows))
            rows = []
        rows.append(row)
    return (*out, _stack(rows))


def _stack(rows: Sequence[MicroBatch]) -> MicroBatch:
    """Single rows as one micro-batch."""
    width = max(r.ids.shape[1] for r in rows)

    def wide(tensor: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(tensor, (0, width - tensor.shape[1]))

    joined = {
        name: torch.cat([getattr(r, name) for r in rows])
        for name in ("columns", "targets", "logprobs", "positive", "negative", "count", "samples")
    }
    return replace(
        rows[0],
        ids=torch.cat([wide(r.ids) for r in rows]),
        positions=torch.cat([wide(r.positions) for r in rows]),
        rows=torch.cat([r.rows + n for n, r in enumerate(rows)]),
        **joined,
    )
