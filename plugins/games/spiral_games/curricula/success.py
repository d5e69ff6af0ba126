"""How well a chair did in one finished game, as a number from 0 to 1; it remembers nothing."""

from __future__ import annotations

from spiral import LEARNER, Episode


def score(episode: Episode, player: int) -> float:
    """1 for a win, 0.5 for a draw, 0 for a loss: the chair's return against the best of the chairs that others hold.

    Where the learner holds every chair, against the best of the other chairs. With a single player there is no draw:
    1 for a return above 0, else 0. Returns are the game's own, before any shaping.
    """
    if len(episode.returns) == 1:
        return float(episode.returns[0] > 0)
    chairs = [i for i, policy in enumerate(episode.policies) if i != player and policy != LEARNER]
    chairs = chairs or [i for i in range(len(episode.returns)) if i != player]
    mine, best = episode.returns[player], max(episode.returns[i] for i in chairs)
    return 1.0 if mine > best else 0.5 if mine == best else 0.0


def learner_chairs(episode: Episode) -> list[int]:
    """The chairs whose play is trained."""
    return [player for player, policy in enumerate(episode.policies) if policy == LEARNER]


def tells_strength(episode: Episode) -> bool:
    """Whether the result says something about the learner: it does not where the learner only met itself."""
    return len(episode.policies) == 1 or any(policy != LEARNER for policy in episode.policies)
