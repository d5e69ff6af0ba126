"""Plays of the same games by several schedules and engines, and their rates of sampled tokens against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from perf.measure import Figure, Timing, spread
from perf.parts import drain
from perf.stand_ins import Recorder
from spiral.api.records import Episode, Request, Sampling
from spiral.api.training import Engine
from spiral.selfplay.rollouts import Rollouts


class Play:
    """Self-play by one schedule on one engine; each call plays the same games, whose prompts it encodes anew."""

    def __init__(
        self, rollouts: Callable[[], Rollouts], recorder: Recorder, games: int, waves: int = 1, played: int = 1
    ) -> None:
        """`rollouts`: makes what plays. `waves`: into which the games are parted; one begins when the last has ended.
        `played`: how many of them."""
        self._make, self.recorder, self._games = rollouts, recorder, games
        self._waves, self._played = waves, played
        self.prepare()
        self.episodes: list[Episode] = []
        self.tokens: list[int] = []
        """Sampled, of each call."""

    def prepare(self) -> None:
        """Forget every prompt that was encoded."""
        self._rollouts = self._make()

    def __call__(self) -> None:
        self.recorder.clear()
        waves = [self._rollouts.play(self._games, (7,), wave, self._waves) for wave in range(self._played)]
        self.episodes = [episode for wave in waves for episode in wave]
        self.tokens.append(sum(map(len, self.recorder.replies.values())))


class Offline:
    """The requests of a play all at once, with replies of the same lengths."""

    def __init__(self, play: Play, engine: Engine) -> None:
        self._play, self.recorder = play, Recorder(engine)
        self.tokens: list[int] = []

    def prepare(self) -> None:
        """Nothing is kept."""

    def __call__(self) -> None:
        self.recorder.clear()
        played = self._play.recorder
        drain(self.recorder, [_of_length(request, len(played.replies[request.id])) for request in played.requests])
        self.tokens.append(sum(map(len, self.recorder.replies.values())))


def _of_length(request: Request, num_tokens: int) -> Request:
    return replace(request, sampling=Sampling(num_tokens, ()))


Rates = dict[str, list[float]]
"""Clock -> tokens a second of each repetition."""


def rates_of(tokens: Sequence[int], timings: Sequence[Timing]) -> Rates:
    pairs = list(zip(tokens, timings, strict=True))
    return {"cpu": [num / t.cpu for num, t in pairs], "wall": [num / t.wall for num, t in pairs]}


def ratio_figure(
    name: str, unit: str, target: float | None, rates: Mapping[str, Rates], other: str, counts: Mapping[str, Any]
) -> Figure:
    """Self-play's tokens a second over those of another work, of the same repetition."""
    mine, theirs = rates["self_play"], rates[other]
    ratio = {clock: spread(a / b for a, b in zip(mine[clock], theirs[clock], strict=True)) for clock in ("cpu", "wall")}
    per_s = {which: {clock: spread(rates[which][clock]) for clock in ratio} for which in ("self_play", other)}
    detail = {"ratio": ratio, "tokens_a_second": per_s, **counts}
    return Figure(name, ratio["cpu"]["median"], unit, target, detail=detail)


def counts_of(work: Play | Offline) -> dict[str, Any]:
    """What the last call did."""
    recorder = work.recorder
    lengths = sorted(map(len, recorder.replies.values()))
    counts: dict[str, Any] = {
        "requests": len(recorder.requests),
        "prompt_tokens": sum(len(request.prompt) for request in recorder.requests),
        "sampled_tokens": work.tokens[-1],
        "reply_tokens": {"min": lengths[0], "median": lengths[len(lengths) // 2], "max": lengths[-1]},
        "engine_steps": recorder.num_steps,
        "tokens_a_step": work.tokens[-1] / recorder.num_steps,
    }
    if isinstance(work, Play):
        counts["games"] = len(work.episodes)
    return counts


def share_alike(play: Play, offline: Offline) -> float:
    """The share of replies that both sampled; rounding may part them."""
    replies = offline.recorder.replies
    return sum(replies.get(key) == ids for key, ids in play.recorder.replies.items()) / len(replies)
