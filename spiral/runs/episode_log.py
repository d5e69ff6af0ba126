"""An episode as a line of episodes.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spiral.api.records import Episode, Turn


def episode_record(
    step: int, episode: Episode, credit: Mapping[int, Sequence[float]], show: Callable[[list[int]], str]
) -> dict[str, Any]:
    """An episode as JSON. `credit`: id() of a trained trajectory -> advantages of its turns; `show`: ids as text."""
    turns, seen = [], [0] * len(episode.trajectories)
    for player in episode.players:
        trajectory = episode.trajectories[player]
        index = seen[player]
        advantages = credit.get(id(trajectory))
        advantage = None if advantages is None else advantages[index]
        turns.append({"player": player, **_turn(trajectory.turns[index], show), "advantage": advantage})
        seen[player] += 1
    return {
        "step": step,
        "game": episode.game,
        "deal": episode.deal,
        "policies": list(episode.policies),
        "returns": list(episode.returns),
        "rewards": [trajectory.reward for trajectory in episode.trajectories],
        "ending": episode.ending,
        "offender": episode.offender,
        "turns": turns,
    }


def _turn(turn: Turn, show: Callable[[list[int]], str]) -> dict[str, Any]:
    return {
        "observation": turn.observation,
        "reply": show(list(turn.reply)) if turn.reply else turn.move or "",
        "move": turn.move,
        "legal": turn.legal,
        "finish": turn.finish,
        "reward": turn.reward,
        "logprob": sum(turn.logprobs) if turn.reply else None,
        "token_logprobs": [round(x, 4) for x in turn.logprobs],
        "forced": list(turn.forced),
    }
