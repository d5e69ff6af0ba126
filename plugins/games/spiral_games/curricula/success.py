"""The success of a player in one finished game, as a number from 0 to 1, for curricula that adapt to results."""

from __future__ import annotations

from spiral import LEARNER, Episode, outcome


def score(episode: Episode, player: int) -> float:
    """1 for a win, 0.5 for a draw, 0 for a loss: the player's return against the best among other policies' players.

    Where the learner is every player, against the best of the other players. With a single player there is no draw:
    1 for a return above 0, else 0. Returns are the game's own, before any shaping.
    """
    if len(episode.returns) == 1:
        return float(episode.returns[0] > 0)
    others = [i for i, policy in enumerate(episode.policies) if i != player and policy != LEARNER]
    others = others or [i for i in range(len(episode.returns)) if i != player]
    return outcome(episode.returns[player], max(episode.returns[i] for i in others))


def learner_players(episode: Episode) -> list[int]:
    """The players whose turns are trained."""
    return [player for player, policy in enumerate(episode.policies) if policy == LEARNER]


def tells_strength(episode: Episode) -> bool:
    """Whether the result says something about the learner: it does not where the learner only met itself."""
    return len(episode.policies) == 1 or any(policy != LEARNER for policy in episode.policies)
