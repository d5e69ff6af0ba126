"""Plackett-Luce ratings, updated game by game; the only file that imports openskill."""

from __future__ import annotations

from collections.abc import Sequence

from openskill.models import PlackettLuce

from spiral.api.policies import Rating

_MODEL = PlackettLuce()


def rate(before: Sequence[Rating], returns: Sequence[float]) -> list[Rating]:
    """The players' ratings after one game, from those before it and their returns; equal returns are a draw."""
    teams = [[_MODEL.rating(rating.mu, rating.sigma)] for rating in before]
    after = _MODEL.rate(teams, scores=list(returns))
    return [Rating(skill.mu, skill.sigma) for (skill,) in after]
