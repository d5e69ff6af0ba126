"""The metrics of a step: pure functions of its episodes and advantages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from spiral.api.records import Episode, Trajectory
from spiral.runs import metric_names


def summarise(
    episodes: Sequence[Episode], trajectories: Sequence[Trajectory], advantages: Sequence[Sequence[float]]
) -> dict[str, float]:
    """What was played in a step, over all games and by game; `trajectories` and `advantages` are the learner's."""
    turns = [turn for trajectory in trajectories for turn in trajectory.turns]
    credits = [a for row in advantages for a in row]
    metrics = {
        "play/turns_per_game": _mean([len(e.players) for e in episodes]),
        metric_names.CUT_GAMES: float(sum(e.ending == "cut" for e in episodes)),
        metric_names.ILLEGAL_RATE: _mean([e.ending == "illegal" for e in episodes]),
        "play/reply_tokens": _mean([t.num_sampled for t in turns]),
        "play/left_out_rate": _mean([t.left_out > 0 for t in turns]),
        "play/cut_off_rate": _mean([t.finish == "length" for t in turns]),
        "play/forced_rate": _mean([bool(t.forced) for t in turns]),
        "advantage/mean_abs": _mean([abs(a) for a in credits]),
        "advantage/zero_share": _mean([a == 0 for a in credits]),
    }
    by_game: dict[str, list[Episode]] = defaultdict(list)
    for episode in episodes:
        by_game[episode.game].append(episode)
    equal = _equal_groups(trajectories)
    for game, played in sorted(by_game.items()):
        if game in equal:
            metrics[metric_names.of_game("play", game, metric_names.EQUAL_GROUPS)] = equal[game]
        metrics[metric_names.of_game("play", game, "games")] = float(len(played))
        metrics[metric_names.of_game("play", game, "turns")] = _mean([len(e.players) for e in played])
        metrics[metric_names.of_game("play", game, "illegal_rate")] = _mean([e.ending == "illegal" for e in played])
        metrics[metric_names.of_game("play", game, "cut_rate")] = _mean([e.ending == "cut" for e in played])
        for player in range(len(played[0].returns)):
            metrics[metric_names.of_game("play", game, metric_names.of_player("return", player))] = _mean(
                [e.returns[player] for e in played]
            )
    return metrics


def _equal_groups(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Game -> share of the groups, two or more games of one deal and player, in which every reward is the same; without
    games that have no group. Estimators that compare the games of a group learn nothing from such a one."""
    groups: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    for t in trajectories:
        groups[t.game, t.deal, t.player].append(t.reward)
    by_game: dict[str, list[bool]] = defaultdict(list)
    for (game, _, _), rewards in groups.items():
        if len(rewards) > 1:
            by_game[game].append(min(rewards) == max(rewards))
    return {game: _mean(equal) for game, equal in by_game.items()}


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values)) if values else 0.0
