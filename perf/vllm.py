"""Self-play on vLLM against one offline batch, other schedules and other engines; what transcripts read from its cache.

Self-play is a chain: a game asks again only when its last reply is there, while an offline batch has all prompts at
once. Self-play can keep up only while more games wait than vLLM computes at once, so there are several games for each
of vLLM's rows (`max_num_seqs`), all in play from the start. The batch has the prompts of that self-play in their order,
is given the lengths of its replies, and begins with as cold a prefix cache.

The reference (SPIRAL on oat) has two schedules. Its recipes run one game at a time in each actor, and each actor has an
engine of its own: a batch of 1. Its loop over several games is lock-step: all games of an actor take a turn together,
the slowest reply holds up all, a finished game leaves its place empty until the last one ends, and then the next games
begin. Both are played here on the same engine. What is slow plays a part of the games, and a game counts by its tokens.
On a CPU a step of few rows is nearly as much cheaper as it does less, so lock-step loses less than it would on a GPU;
`tokens_a_step` says how full the steps were.
"""

from __future__ import annotations

import gc
import importlib.util
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from perf.measure import Figure, alternate, say
from perf.parts import drain, num_turns
from perf.plays import Offline, Play, counts_of, rates_of, ratio_figure, share_alike
from perf.stand_ins import FreeText, Generate, LockStep, Recorder, Speech
from spiral.api.records import LEARNER, Request, Sampling
from spiral.api.training import Engine, PromptFormat
from spiral.config import loading
from spiral.engines.torch.engine import TorchEngine
from spiral.engines.vllm.backend import ON_CPU, VllmBackend
from spiral.engines.vllm.engine import VllmEngine
from spiral.engines.vllm.form import ModelForm
from spiral.engines.vllm.instance import Finished
from spiral.models.chat import chat
from spiral.models.logits import parameters
from spiral.models.prompt_cache import Prompter
from spiral.models.prompts import PlainFormat
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import Pool
from spiral.selfplay.rollouts import Rollouts
from spiral.selfplay.setup import make_games, make_training_setup

FOLDER = "SPIRAL_TEST_MODEL"
"""The environment variable that names a folder of SmolLM2."""
OFFLINE, SCHEDULE, CACHE = 0.85, 2.0, 0.90
"""Targets."""
TURNS = 8
"""Of each player of a transcript."""
BLOCK = int(ON_CPU["block_size"])


@dataclass(frozen=True)
class Case:
    """A model, and how much it plays."""

    name: str
    model: dict[str, Any]
    form: Callable[[Any, bool], PromptFormat]
    """form(tokenizer, transcript) -> how it is asked."""
    turns: tuple[int, ...]
    """Of the games, which are equally likely."""
    rows: int
    """Requests that an engine computes at once."""
    games: int
    waves: int
    """Of `games / rows` waves of games, those that are played in lock-step, and by other engines."""
    alone: int
    """Games that are played one at a time."""
    transcripts: int
    """Games that are played with transcripts."""
    repeats: int
    max_new_tokens: int
    others: bool = False
    """Whether other engines play too."""


def _letters(tokenizer: Any, transcript: bool) -> PromptFormat:
    if transcript:
        return FreeText(chat(tokenizer, answer="plain", history="transcript", when_full="void"))
    return FreeText(cast(PromptFormat, PlainFormat(tokenizer)))


def _speech(tokenizer: Any, transcript: bool) -> PromptFormat:
    if transcript:
        return Speech(chat(tokenizer, answer="plain", history="transcript", when_full="void"), tokenizer)
    return Speech(chat(tokenizer, answer="plain"), tokenizer)


TINY = Case(
    "byte-0.1m", {"name": "byte-0.1m", "args": {"context": 8192}}, _letters, (2, 6, 10),
    rows=16, games=128, waves=4, alone=8, transcripts=8, repeats=3, max_new_tokens=64,
)  # fmt: skip
SMOLLM2 = Case(
    "SmolLM2", {"name": "hf", "args": {"context": 2048}}, _speech, (2, 4, 6),
    rows=12, games=36, waves=1, alone=3, transcripts=1, repeats=1, max_new_tokens=48, others=True,
)  # fmt: skip


def figures() -> Iterator[Figure]:
    """A byte model, whose figures show this program's own work best, and SmolLM2 where a folder of it is named."""
    if importlib.util.find_spec("vllm") is None:
        say("   left out, since vLLM is not installed here: make vllm, then .venv-vllm/bin/python -m perf vllm")
        return
    yield from Bench(TINY).figures()
    if folder := os.environ.get(FOLDER):
        args = {**SMOLLM2.model["args"], "path": folder}
        yield from Bench(replace(SMOLLM2, model={**SMOLLM2.model, "args": args})).figures()
    else:
        say(f"   SmolLM2 is left out: {FOLDER} names no folder")


class CountingBackend(VllmBackend):
    """Remembers how many ids of each request's prompt were in the prefix cache."""

    def __init__(self, form: ModelForm, context: int, options: Mapping[str, Any], cached: dict[int, int]) -> None:
        super().__init__(form, context, options)
        self._cached = cached

    def step(self) -> list[Finished]:
        done = super().step()
        self._cached |= {int(finished.key): finished.num_cached for finished in done}
        return done


class Bench:
    """One case: its model, vLLM, and what plays on it."""

    def __init__(self, case: Case) -> None:
        self._case, self._plugins = case, Plugins.installed()
        self._model, self._tokenizer = self._plugins.make("model", case.model["name"], **case.model["args"])
        self._model.eval().requires_grad_(False)
        self._cached: dict[int, int] = {}
        self._engine = VllmEngine(self._model, make=self._make, max_num_seqs=case.rows)
        self._load(self._engine)
        # The first requests load parts of vLLM.
        drain(self._engine, [Request(n, LEARNER, (1,) * 40, Sampling(2, ()), seed=n) for n in range(case.rows)])
        gc.collect()
        gc.freeze()  # as training does

    def _make(self, form: ModelForm, context: int, options: Mapping[str, Any]) -> VllmBackend:
        return CountingBackend(form, context, options, self._cached)

    def _load(self, engine: Engine) -> None:
        """Weights, and with them a cold cache, as each training step begins."""
        engine.load_weights(LEARNER, parameters(self._model), 0)

    def _rollouts(self, engine: Engine, turns: Sequence[int], transcript: bool = False) -> Rollouts:
        games = [{"name": "simple_negotiation", "args": {"turns": num, "max_chat": 100}} for num in turns]
        rollout = {"max_new_tokens": self._case.max_new_tokens, "retries": 3, "cut_replies": "train"}
        config = loading.load(None, [{"games": games, "rollout": rollout}])
        prompter = Prompter(self._case.form(self._tokenizer, transcript))
        completer = Completer.of(engine, prompter, self._case.max_new_tokens, reads_cut=True)
        setup = make_training_setup(config, self._plugins)
        pool = Pool(self._plugins, completer)
        return Rollouts(make_games(config, self._plugins), setup.curriculum, setup.opponents, pool, config.rollout)

    def figures(self) -> Iterator[Figure]:
        """One figure for each ratio."""
        case = self._case
        play = self._play(self._engine, case.games)
        offline = Offline(play, self._engine)
        works: dict[str, Play | Offline] = {"self_play": play, "offline": offline, **self._others()}
        times = alternate(list(works.values()), case.repeats, warm_up=0, before=partial(self._prepare, works.values()))
        rates = {name: rates_of(work.tokens, row) for (name, work), row in zip(works.items(), times, strict=True)}
        size = {"rows": case.rows, "games": case.games, "turns_of_games": case.turns, "repeats": case.repeats}
        of_offline = size | {
            "self_play": counts_of(play),
            "offline": counts_of(offline),
            "alike": share_alike(play, offline),
        }
        yield ratio_figure(f"vllm {case.name}/self-play", "x an offline batch", OFFLINE, rates, "offline", of_offline)
        size["self_play"] = counts_of(play)
        for name, unit in (("lock_step", "x games a second in waves"), ("one_by_one", "x games a second one by one")):
            yield ratio_figure(
                f"vllm {case.name}/{name}", unit, SCHEDULE, rates, name, size | {name: counts_of(works[name])}
            )
        for name in ("torch", "generate"):
            if name in works:
                detail = size | {name: counts_of(works[name])}
                yield ratio_figure(
                    f"vllm {case.name}/{name}", f"x tokens a second of {name}", None, rates, name, detail
                )
        yield self._cache_figure()

    def _prepare(self, works: Iterable[Play | Offline]) -> None:
        self._load(self._engine)
        for work in works:
            work.prepare()

    def _others(self) -> dict[str, Play]:
        """Other schedules, and other engines where the case has them."""
        case = self._case
        waves = case.games // case.rows
        works = {
            "lock_step": self._play(self._engine, case.games, waves, case.waves, LockStep),
            "one_by_one": self._play(self._engine, case.games, case.games, case.alone),
        }
        if case.others:
            engine = TorchEngine(self._model, self._tokenizer, max_rows=case.rows)
            self._load(engine)
            works["torch"] = self._play(engine, case.games, waves, case.waves)
            # In lock-step, since a batch goes to its end.
            works["generate"] = self._play(Generate(self._model, pad=0), case.games, waves, case.waves)
        return works

    def _play(
        self,
        engine: Engine,
        games: int,
        waves: int = 1,
        played: int = 1,
        schedule: Callable[[Engine], Engine] = lambda engine: engine,
    ) -> Play:
        recorder = Recorder(engine)
        rollouts = partial(self._rollouts, schedule(recorder), self._case.turns)
        return Play(rollouts, recorder, games, waves, played)

    def _cache_figure(self) -> Figure:
        """Of transcripts, from each player's second turn on: ids that were in the cache over those that could be.

        Shareable is the whole of the last prompt and reply, with which the next prompt begins. vLLM keeps neither the
        last id of a reply, which nothing was computed from, nor a block that is not full.
        """
        recorder = Recorder(self._engine)
        rollouts = self._rollouts(recorder, [2 * TURNS], transcript=True)
        self._load(self._engine)
        episodes = rollouts.play(self._case.transcripts, (8,))
        cached = {request.prompt: self._cached[request.id] for request in recorder.requests}
        shareable, in_blocks, hits = 0, 0, 0
        for turns in (trajectory.turns for episode in episodes for trajectory in episode.trajectories):
            for last, turn in itertools.pairwise(turns):
                before = (*last.prompt, *last.reply)
                assert turn.prompt[: len(before)] == before
                shareable += len(before)
                in_blocks += (len(before) - 1) // BLOCK * BLOCK
                hits += min(cached[turn.prompt], len(before))
        return Figure(
            f"vllm {self._case.name}/transcript cache",
            hits / shareable,
            "of shareable tokens",
            CACHE,
            detail={
                "of_full_blocks": hits / in_blocks,
                "block": BLOCK,
                "cached": hits,
                "shareable": shareable,
                "prompts": sum(len(request.prompt) for request in recorder.requests),
                "games": len(episodes),
                "turns": num_turns(episodes),
            },
        )
