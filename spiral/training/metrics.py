"""Episodes and timings -> the numbers of a step, named `stage/quantity`; pure functions of the records."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from spiral.api.records import Episode, Trajectory


def summarise(
    episodes: Sequence[Episode], trajectories: Sequence[Trajectory], advantages: Sequence[Sequence[float]]
) -> dict[str, float]:
    """What was played in a step, over all games and by game; `trajectories` and `advantages` are the learner's."""
    turns = [turn for trajectory in trajectories for turn in trajectory.turns]
    credits = [a for row in advantages for a in row]
    metrics = {
        "play/turns_per_game": _mean([len(e.players) for e in episodes]),
        "play/illegal_rate": _mean([e.ending == "illegal" for e in episodes]),
        "play/reply_tokens": _mean([len(t.reply) for t in turns]),
        "play/cut_off_rate": _mean([t.finish == "length" for t in turns]),
        "advantage/mean_abs": _mean([abs(a) for a in credits]),
        "advantage/zero_share": _mean([a == 0 for a in credits]),
    }
    by_game: dict[str, list[Episode]] = defaultdict(list)
    for episode in episodes:
        by_game[episode.game].append(episode)
    for game, played in sorted(by_game.items()):
        metrics[f"play/{game}/games"] = float(len(played))
        metrics[f"play/{game}/turns"] = _mean([len(e.players) for e in played])
        metrics[f"play/{game}/illegal_rate"] = _mean([e.ending == "illegal" for e in played])
        for player in range(len(played[0].returns)):
            metrics[f"play/{game}/return_p{player}"] = _mean([e.returns[player] for e in played])
    return metrics


class Stopwatch:
    """Seconds spent in named parts of a step."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[part] += time.perf_counter() - start

    def metrics(self, num_games: int, sampled_tokens: float, trained_tokens: float) -> dict[str, float]:
        """`time/*_s` and rates, and start again from nothing. The only metrics that differ between equal runs."""
        seconds, self._seconds = self._seconds, defaultdict(float)
        total = sum(seconds.values())
        return {
            **{f"time/{part}_s": s for part, s in seconds.items()},
            "time/step_s": total,
            "speed/games_per_s": num_games / max(total, 1e-9),
            "speed/sampled_tokens_per_s": sampled_tokens / max(seconds["rollout"], 1e-9),
            "speed/trained_tokens_per_s": trained_tokens / max(seconds["learner"], 1e-9),
        }


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values)) if values else 0.0
