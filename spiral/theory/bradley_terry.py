"""Strengths of players from a cross-play table: Bradley and Terry's from scores, least squares from margins."""

from __future__ import annotations

import math

import numpy as np

from spiral.theory.intervals import Floats

ELO = 400 / math.log(10)
"""Points a unit of log-odds: 400 points are odds of 10 to 1."""
PRIOR = 0.1
"""Drawn games of each player against a player of average strength, which keep an unbeaten one's strength finite."""


def bradley_terry(wins: Floats, prior: float = PRIOR) -> Floats:
    """(..., P): log-strengths r with mean 0 that make `wins` (..., P, P) likeliest: P(i beats j) = 1/(1+exp(r_j-r_i)).

    Maximum likelihood (Bradley and Terry 1952; ties as half wins) with `prior` drawn games of each player against a
    player of strength 0, by Newton's method with halved steps; several tables at once along the leading axes.
    """
    table = np.asarray(wins, dtype=float)
    flat = table.reshape(-1, *table.shape[-2:])
    games = flat + flat.swapaxes(1, 2)
    strengths = np.zeros(flat.shape[:2])
    worth = _log_likelihood(strengths, flat, prior)
    for _ in range(200):
        step = _newton_step(strengths, flat, games, prior)
        size = np.ones((len(flat), 1))
        for _ in range(40):
            tried = strengths + size * step
            found = _log_likelihood(tried, flat, prior)
            worse = found < worth - 1e-12 * (1 + np.abs(worth))
            if not worse.any():
                break
            size[worse] /= 2
        strengths, worth = tried, found
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    strengths = strengths - strengths.mean(1, keepdims=True)
    return np.asarray(strengths.reshape(table.shape[:-1]))


def least_squares(margins: Floats, games: Floats, prior: float = PRIOR) -> Floats:
    """(..., P): ratings r with mean 0 for which r_i - r_j is nearest to the mean margins, weighted by games.

    With `prior` games of margin 0 of each player against a player of rating 0. Players who all met equally often have
    the mean of their margins.
    """
    laplacian = -games
    diagonal = np.arange(games.shape[-1])
    laplacian[..., diagonal, diagonal] += games.sum(-1) + prior
    ratings = np.linalg.solve(laplacian, margins.sum(-1)[..., None])[..., 0]
    return np.asarray(ratings - ratings.mean(-1, keepdims=True))


def expected_scores(strengths: Floats) -> Floats:
    """(P, P): the score that Bradley-Terry strengths predict of each row's player against each column's."""
    return np.asarray(_sigmoid(strengths[:, None] - strengths[None, :]))


def _log_likelihood(strengths: Floats, wins: Floats, prior: float) -> Floats:
    gaps = strengths[:, :, None] - strengths[:, None, :]
    drawn = np.logaddexp(0, strengths) + np.logaddexp(0, -strengths)
    found = -(wins * np.logaddexp(0, -gaps)).sum((1, 2)) - prior / 2 * drawn.sum(1)
    return np.asarray(found)


def _newton_step(strengths: Floats, wins: Floats, games: Floats, prior: float) -> Floats:
    expected = _sigmoid(strengths[:, :, None] - strengths[:, None, :])
    alone = _sigmoid(strengths)
    slope = (wins - games * expected).sum(2) - prior * (alone - 0.5)
    curvature = games * expected * (1 - expected)
    hessian = -curvature
    diagonal = np.arange(wins.shape[1])
    hessian[:, diagonal, diagonal] += curvature.sum(2) + prior * alone * (1 - alone)
    return np.asarray(np.linalg.solve(hessian, slope[:, :, None])[:, :, 0])


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -x)))
