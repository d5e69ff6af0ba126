"""Behaviour cloning of random legal play, so that self-play starts from a policy that knows how a move is written.

It teaches the format and which moves are legal, not which are good: labels are uniform over the legal moves, so
exploration stays whole. An untrained byte model would write a legal move about once in 10^8 replies.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from spiral.api.errors import RunError, SpiralError
from spiral.api.games import Game, random_legal_move, try_move
from spiral.api.training import Engine
from spiral.api.records import LEARNER, Request, Sampling
from spiral.config.schema import WarmStartConfig
from spiral.learning.packing import Sample, pack_samples
from spiral.models.logits import TokenLogits, load_parameters, parameters
from spiral.models.prompts import Prompter
from spiral.seeds import child, derive
from spiral.selfplay.time_limit import limited

NUM_CHECKED = 256
"""Fresh states on which the share of legal replies is measured."""

CHANCE = 0.03
"""How much lower than when it was accepted the share may be measured: three deviations of 256 replies at 0.98."""

GAME_DEADLINE_S = 60.0
"""Longest that a game may think about one move."""
MAX_FAULTS = 100
"""Matches that may misbehave one after another."""
DEADLINE_S = 600.0
"""Longest wait for an engine that finishes no reply."""

Progress = Callable[[int, int, float], None]
"""progress(update, max_updates, share of legal replies when last measured)"""


@dataclass(frozen=True)
class WarmStarted:
    """What the warm start came to."""

    updates: int
    legal: float
    """Share of legal replies on fresh states when it stopped."""
    cached: bool


@dataclass(frozen=True)
class _State:
    """A decision met in random legal play."""

    prompt: tuple[int, ...]
    move: str
    game: Game


def warm_start(
    model: Any,
    games: Mapping[str, Callable[[], Game]],
    weights: Mapping[str, float],
    prompter: Prompter,
    engine: Engine,
    max_new_tokens: int,
    config: WarmStartConfig,
    seed: int,
    progress: Progress,
) -> WarmStarted:
    """Train `model` in place until `config.legal` of its replies are legal, or `config.max_steps` updates.

    Raises SpiralError for a prompt format in which a move has no reply of its own.
    """
    _check_dropout(model, config)
    lm = TokenLogits(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.95), weight_decay=0.0, foreach=True)
    states = _states(games, weights, prompter, random.Random(derive(seed, "warm_start", "train")))
    fresh = _states(games, weights, prompter, random.Random(derive(seed, "warm_start", "check")))
    for update in range(config.max_steps + 1):
        if update % config.check_every == 0 or update == config.max_steps:
            held_out = [next(fresh) for _ in range(NUM_CHECKED)]
            legal = _legal_share(model, engine, prompter, held_out, max_new_tokens, derive(seed, "warm_start", update))
            progress(update, config.max_steps, legal)
            if legal >= config.legal or update == config.max_steps:
                break
        _set_dropout(model, config, update, seed)
        batch = Counter((s.prompt, _reply(prompter, s.move)) for s in (next(states) for _ in range(config.batch)))
        for group in optimizer.param_groups:
            group["lr"] = config.lr * (1 - update / config.max_steps)
        _update(lm, optimizer, batch)
        model.eval()
    if config.dropout:
        model.set_dropout(0.0)
    return WarmStarted(update, legal, cached=False)


def cached_warm_start(
    model: Any,
    identity: Mapping[str, Any],
    train: Callable[[], WarmStarted],
    legal: Callable[[], float] = lambda: 1.0,
    wanted: float = 0.0,
) -> WarmStarted:
    """`train()`, or its result of an earlier run with the same `identity`, bit for bit.

    What was kept must still give a share `legal()` of at least `wanted`: a game's code may have changed under one
    version. A warm start that did not get there is not kept.
    """
    text = json.dumps({**identity, "torch": torch.__version__, "threads": torch.get_num_threads()}, sort_keys=True)
    folder = Path(os.environ.get("SPIRAL_CACHE", "~/.cache/spiral")).expanduser() / "warm_start"
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.safetensors"
    if path.exists():
        before = {name: weight.clone() for name, weight in parameters(model).items()}
        try:
            with torch.no_grad():
                load_parameters(model, load_file(path))
            # A little below what it was accepted at is chance: these are other states than those of its last check.
            if (share := legal()) >= wanted - CHANCE:
                return WarmStarted(0, share, cached=True)
        except (OSError, SafetensorError, SpiralError):  # a damaged cache file costs time, never the run
            pass
        path.unlink(missing_ok=True)
        with torch.no_grad():
            load_parameters(model, before)
    result = train()
    if result.legal >= wanted:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        save_file(parameters(model), temporary)
        os.replace(temporary, path)
    return result


def legal_share(
    model: Any,
    games: Mapping[str, Callable[[], Game]],
    weights: Mapping[str, float],
    prompter: Prompter,
    engine: Engine,
    max_new_tokens: int,
    seed: int,
) -> float:
    """The share of the model's sampled replies that are legal moves, on the first states a warm start is checked on."""
    fresh = _states(games, weights, prompter, random.Random(derive(seed, "warm_start", "check")))
    held_out = [next(fresh) for _ in range(NUM_CHECKED)]
    return _legal_share(model, engine, prompter, held_out, max_new_tokens, derive(seed, "warm_start", 0))


def dropout_rate(points: Sequence[tuple[float, float]], fraction: float) -> float:
    """The rate at a fraction of the phase: linear between (fraction, rate) points, constant outside them."""
    if not points:
        return 0.0
    before = [p for p in points if p[0] <= fraction] or [points[0]]
    after = [p for p in points if p[0] >= fraction] or [points[-1]]
    (x0, y0), (x1, y1) = before[-1], after[0]
    return y0 if x1 <= x0 else y0 + (y1 - y0) * (fraction - x0) / (x1 - x0)


def _states(
    games: Mapping[str, Callable[[], Game]],
    weights: Mapping[str, float],
    prompter: Prompter,
    rng: random.Random,
) -> Iterator[_State]:
    """Decisions of random legal play without end; every game as often as its weight says.

    A match that misbehaves ends there, and its earlier decisions stay. Raises RunError when all do.
    """
    faults = 0
    while True:
        name = rng.choices(list(games), [weights[g] for g in games])[0]
        met = _decisions(games[name], prompter, random.Random(rng.getrandbits(63)), rng)
        for state in met:
            if isinstance(state, _State):
                faults = 0
                yield state
            elif (faults := faults + 1) > MAX_FAULTS:
                raise RunError(
                    f"{faults} matches of the warm start misbehaved one after another, the last one of {name}: {state}"
                    f"; run: spiral check {name.partition('(')[0]}"
                )


def _decisions(
    make: Callable[[], Game], prompter: Prompter, chance: random.Random, rng: random.Random
) -> Iterator[_State | str]:
    """The decisions of one match; at its end the reason, if it was a game's fault."""
    try:
        with limited(GAME_DEADLINE_S):
            game = make()
            game.reset(chance)
            player = game.current_player()
        while player is not None:
            with limited(GAME_DEADLINE_S):
                move, observation, copy = random_legal_move(game, rng), game.observe(player), deepcopy(game)
            yield _State(prompter.encode(game.rules, observation), move, copy)
            with limited(GAME_DEADLINE_S):
                game.play(move)
                player = game.current_player()
    except SpiralError:
        raise
    except Exception as error:
        yield f"{type(error).__name__}: {error}"


def _reply(prompter: Prompter, move: str) -> tuple[int, ...]:
    reply = prompter.reply(move)
    if reply is None:
        raise SpiralError(
            "a warm start needs a prompt format in which a move has one reply, such as prompt=plain; with this one set "
            "warm_start.max_steps=0 and start from a pretrained model"
        )
    return reply


def _update(lm: TokenLogits, optimizer: torch.optim.Optimizer, batch: Counter[Any]) -> None:
    samples = [Sample(p, r, (0.0,) * len(r), count=batch[p, r]) for p, r in sorted(batch)]
    for cpu_batch in pack_samples(samples, 1 << 14):
        micro = cpu_batch.to(lm.model.device)
        logits = lm(micro.ids, micro.positions, micro.mask, micro.rows, micro.columns)
        nll = torch.nn.functional.cross_entropy(logits.float(), micro.targets, reduction="none")
        ((micro.count * nll).sum() / batch.total()).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def _legal_share(
    model: Any, engine: Engine, prompter: Prompter, states: Sequence[_State], max_new_tokens: int, seed: int
) -> float:
    """The share of sampled replies that are legal moves."""
    engine.load_weights(LEARNER, parameters(model), 0)
    sampling = Sampling(max_new_tokens, prompter.stop_ids)
    for number, state in enumerate(states):
        engine.submit(Request(number, LEARNER, state.prompt, sampling, child(seed, number)))
    legal, answered = 0, 0
    last_reply = time.monotonic()
    while answered < len(states):
        if time.monotonic() - last_reply > DEADLINE_S:
            raise RunError(f"the engine finished no reply for {DEADLINE_S:g} s in the warm start; see its log")
        for completion in engine.step():
            last_reply = time.monotonic()
            answered += 1
            move = prompter.read(completion.ids) if completion.finish == "stop" else None
            legal += move is not None and _takes(states[completion.request_id].game, move)
    return legal / len(states)


def _takes(game: Game, move: str) -> bool:
    """Whether the move is legal; a game that misbehaves takes none."""
    try:
        with limited(GAME_DEADLINE_S):
            return try_move(deepcopy(game), move)
    except Exception:
        return False


def _check_dropout(model: Any, config: WarmStartConfig) -> None:
    if config.dropout and not hasattr(model, "set_dropout"):
        raise SpiralError("warm_start.dropout is set, and this model has no set_dropout(rate); leave it empty")


def _set_dropout(model: Any, config: WarmStartConfig, update: int, seed: int) -> None:
    rate = dropout_rate(config.dropout, update / config.max_steps)
    if rate > 0:
        torch.manual_seed(derive(seed, "warm_start", "dropout", update))
        model.set_dropout(rate)
        model.train()
