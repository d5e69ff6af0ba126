"""What an estimator or a reward shaper gets wrong is one sentence with its name, in which file and line if it raised."""

import math
from dataclasses import replace

import pytest
import torch

from spiral.api.errors import PluginError, SpiralError
from spiral.learning.credit import advantages_of, shaped
from spiral.testing import make_episode, make_trajectory

BATCH = [make_trajectory(1.0, num_turns=2), make_trajectory(-1.0, player=1)]
FINE = [[0.5, 0.5], [-0.5]]


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        (lambda: FINE, "raised TypeError: .*takes 0 positional arguments but 1 was given"),
        (lambda batch: 1 / 0, r"raised ZeroDivisionError: division by zero \(.*test_credit.py, line \d+\)"),
        (lambda batch: None, "returned a NoneType for 2 trajectories; it must return one list a trajectory"),
        (lambda batch: FINE[:1], "returned 1 values for 2 trajectories"),
        (lambda batch: torch.zeros(2, 1), "returned a Tensor for 2 trajectories"),
        (lambda batch: [[0.5], [-0.5]], r"returned 1 values for a trajectory of 2 turns \(game game, player 0\)"),
        (lambda batch: [0.5, -0.5], "returned a float for a trajectory of 2 turns"),
        (lambda batch: [torch.zeros(2), [0.0]], "returned a Tensor for a trajectory of 2 turns"),
        (lambda batch: [[0.5, math.nan], [0.0]], r"returned nan \(game game, player 0, turn 1\), which is no finite"),
        (lambda batch: [[0.5, None], [0.0]], r"returned None \(game game, player 0, turn 1\), which is no finite"),
    ],
)
def test_an_estimators_mistake_is_a_sentence_with_its_name(estimator, said):
    with pytest.raises(PluginError, match=f"^advantage estimator 'mine' {said}"):
        advantages_of(estimator, BATCH, "mine")


def test_what_an_estimator_says_itself_passes():
    """A SpiralError is a sentence already."""

    def refuses(batch):
        raise SpiralError("mine needs groups")

    with pytest.raises(SpiralError, match="^mine needs groups$"):
        advantages_of(refuses, BATCH, "mine")
    assert advantages_of(lambda batch: FINE, BATCH, "mine") == FINE
    assert advantages_of(lambda batch: tuple(map(tuple, FINE)), BATCH, "mine") == ((0.5, 0.5), (-0.5,))


def _paid(reward):
    return lambda e: replace(e, trajectories=tuple(replace(t, reward=reward) for t in e.trajectories))


@pytest.mark.parametrize(
    ("shaper", "said"),
    [
        (lambda: None, "raised TypeError: "),
        (lambda episode: {}["bonus"], r"raised KeyError: 'bonus' \(.*test_credit.py, line \d+\)"),
        (lambda episode: None, "returned a NoneType; it must return the episode with other rewards"),
        (
            lambda episode: replace(episode, trajectories=()),
            "returned a Episode; it must return the episode with other",
        ),
        (_paid(math.inf), "gave player 0 of game inf, which is no finite number"),
        (_paid(torch.tensor(1.0)), r"gave player 0 of game tensor\(1.\), which is no finite number"),
    ],
)
def test_a_shapers_mistake_is_a_sentence_with_its_name(shaper, said):
    with pytest.raises(PluginError, match=f"^reward 'mine' {said}"):
        shaped([make_episode()], [lambda episode: episode, shaper], ["other", "mine"])
