"""A step's minibatches: random parts of its trajectories, the same in every process, that together are the whole step."""

import dataclasses

import pytest

from spiral.api.records import LEARNER, Trajectory, Turn
from spiral.learning.minibatches import draw_minibatches
from spiral.learning.packing import pack


def _trajectory(number, num_turns=3):
    turns = []
    for k in range(num_turns):
        prompt = (*(turns[-1].prompt + turns[-1].reply if turns else (number,)), 50 + k)
        turns.append(Turn("", prompt, (100 + k,), (-1.0,), "x", True, "stop", 0))
    return Trajectory("words", 0, LEARNER, 1.0, tuple(turns), number)


STEP = [_trajectory(number) for number in range(10)]


def test_the_parts_are_the_whole():
    """10 trajectories in 3 parts: each in one of them, in 4, 3 and 3; one part is all of them in their order."""
    parts = draw_minibatches(STEP, 3, seed=1)
    assert sorted(place for part in parts for place in part) == list(range(10))
    assert [len(part) for part in parts] == [4, 3, 3]
    assert draw_minibatches(STEP, 1, seed=1) == [list(range(10))]


def test_the_draw_is_the_seeds():
    """The same seed, the same parts; another seed, others."""
    assert draw_minibatches(STEP, 3, seed=1) == draw_minibatches(STEP, 3, seed=1)
    assert draw_minibatches(STEP, 3, seed=1) != draw_minibatches(STEP, 3, seed=2)


def test_trajectories_that_train_nothing_are_in_no_part():
    """Without turns, or with masked ones only; 2 trained trajectories in 5 parts are 2 parts, and none at all are one
    empty part."""
    masked = dataclasses.replace(STEP[0], turns=tuple(dataclasses.replace(t, trained=False) for t in STEP[0].turns))
    nothing = [masked, _trajectory(1, 0)]
    assert sorted(draw_minibatches([*nothing, *STEP[:2]], 5, seed=0)) == [[2], [3]]
    assert draw_minibatches(nothing, 5, seed=0) == [[]]
    [part] = pack(nothing, [[1.0] * 3, []], 100, minibatches=5).minibatches
    assert (part.micro_batches, part.num_turns) == ((), 0)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_transcript_is_in_one_minibatch_however_many_processes(world):
    """Each minibatch trains the same turns whatever the number of processes, and all turns of a transcript or none."""
    advantages = [[1.0] * 3] * 10
    parts = [pack(STEP, advantages, 20, rank, world, minibatches=3, seed=5).minibatches for rank in range(world)]
    for number, expected in enumerate(draw_minibatches(STEP, 3, seed=5)):
        found = [m for rank in parts for m in rank[number].micro_batches]
        trained = sorted(
            (m.ids[row, 0].item(), t) for m in found for row, t in zip(m.rows, m.targets.tolist(), strict=True)
        )
        assert trained == sorted((place, 100 + k) for place in expected for k in range(3))
        assert {(rank[number].num_turns, rank[number].num_reply_tokens) for rank in parts} == {(3 * len(expected),) * 2}


def test_the_sums_of_a_batch_are_those_of_its_minibatches():
    """Turns, reply tokens and prompt and reply tokens of 3 minibatches are those of the batch in one piece."""
    advantages = [[1.0] * 3] * 10
    whole, cut = pack(STEP, advantages, 20), pack(STEP, advantages, 20, minibatches=3)
    assert len(cut.minibatches) == 3
    for name in ("num_turns", "num_reply_tokens", "num_sequence_tokens"):
        assert getattr(cut, name) == getattr(whole, name) > 0
    assert sum(len(m.targets) for m in cut.micro_batches) == 30
