"""The critic by hand: what it subtracts, when it learns, what it keeps, and what it refuses."""

import copy
import itertools
import json
import random

import pytest
import torch
from spiral_advantages.critic import Critic
from spiral_advantages.turn_gae import TurnGae

from spiral import LEARNER, SpiralError, Stateful, Trajectory, Turn
from spiral.testing import check_estimator


def features(prompts):
    """16 numbers for each prompt, drawn by its ids."""
    rows = [[rng.gauss(0, 1) for _ in range(16)] for rng in map(random.Random, map(str, prompts))]
    return torch.tensor(rows)


def critic(**args):
    made = Critic(**args)
    made.features = features
    return made


def turn(*ids, reward=0.0, others=()):
    return Turn("", ids, (1,), (-0.5,), "a", True, "stop", 0, reward=reward, other_prompts=others)


def trajectory(reward, *turns, game="game", player=0):
    return Trajectory(game, player, LEARNER, reward, turns, 0)


def random_batch(rng, size=8):
    return [
        trajectory(
            rng.choice((-2.0, 0.0, 1.5)),
            *(
                turn(player, rng.randrange(3), others=((1 - player, rng.randrange(3)),))
                for _ in range(rng.randrange(4))
            ),
            player=player,
        )
        for _ in range(size)
        for player in range(2)
    ]


@pytest.mark.parametrize("args", [{}, {"view": "joint"}, {"gamma": 0.9, "lam": 0.5}])
def test_the_kit_finds_no_fault(args):
    assert check_estimator(lambda: Critic(**args)) == []


def test_before_the_first_step_the_advantage_is_the_return():
    batch = [trajectory(2.0, turn(1), turn(2)), trajectory(-1.0, turn(3))]
    assert critic()(batch) == [[2.0, 2.0], [-1.0]]


def test_a_head_that_knows_nothing_leaves_the_moving_mean_of_the_role():
    """Every turn looks alike, so there is nothing to tell apart: 2, 0 of player 0 and 5 of player 1, as `turn_gae`."""
    batch = [trajectory(2.0, turn(7)), trajectory(0.0, turn(7)), trajectory(5.0, turn(7), player=1)]
    one, other = critic(), TurnGae()
    one.features = lambda prompts: torch.zeros(len(prompts), 16)
    for _ in range(3):
        found, expected = one(batch), other(batch)
    assert [x for (x,) in found] == pytest.approx([x for (x,) in expected], abs=1e-6)
    assert [x for (x,) in found] == pytest.approx([1.0, -1.0, 0.0], abs=1e-6)


def test_it_learns_what_each_prompt_is_worth():
    """3 after the prompt (1, 2), -1 after (3, 4), both in one role: what is left of the advantage is next to nothing."""
    batch = [trajectory(3.0, turn(1, 2)), trajectory(-1.0, turn(3, 4))] * 4
    one = critic()
    for _ in range(30):
        found = one(batch)
    assert [abs(x) < 0.05 for (x,) in found] == [True] * 8


def test_only_the_joint_view_tells_apart_what_the_player_cannot_see():
    batch = [trajectory(3.0, turn(1, others=((5,),))), trajectory(-1.0, turn(1, others=((6,),)))] * 4
    own, joint = critic(), critic(view="joint")
    for _ in range(30):
        found = own(batch), joint(batch)
    assert [x for (x,) in found[0][:2]] == pytest.approx([2.0, -2.0], abs=0.05)
    assert [x for (x,) in found[1][:2]] == pytest.approx([0.0, 0.0], abs=0.05)


def test_gae_by_hand():
    """Rewards .5 and -.5 + 2, with values V: delta_0 = .5 + .9 V_1 - V_0, delta_1 = 1.5 - V_1, A_0 = delta_0 + .45 A_1."""
    one, rng = critic(gamma=0.9, lam=0.5), random.Random(0)
    for _ in range(5):
        one(random_batch(rng))
    probe, plain = copy.deepcopy(one), copy.deepcopy(one)
    # Of a trajectory of one turn without a reward, the advantage is minus its value.
    first, second = (-copy.deepcopy(probe)([trajectory(0.0, turn(0, k))])[0][0] for k in (1, 2))
    assert abs(first - second) > 1e-3
    [[a, b]] = plain([trajectory(2.0, turn(0, 1, reward=0.5), turn(0, 2, reward=-0.5))])
    assert b == pytest.approx(2.0 - 0.5 - second, abs=1e-6)
    assert a == pytest.approx(0.5 + 0.9 * second - first + 0.45 * b, abs=1e-6)


def test_the_values_of_a_step_have_not_seen_its_returns():
    """The same turns with other returns: the advantages differ by the returns and by nothing else."""
    one, rng = critic(), random.Random(1)
    for _ in range(5):
        one(random_batch(rng))
    batch = random_batch(rng)
    other = [trajectory(t.reward + 10.0 * (i + 1), *t.turns, player=t.player) for i, t in enumerate(batch)]
    found, moved = copy.deepcopy(one)(batch), copy.deepcopy(one)(other)
    for i, (row, row_moved) in enumerate(zip(found, moved, strict=True)):
        assert [y - x for x, y in zip(row, row_moved, strict=True)] == pytest.approx([10.0 * (i + 1)] * len(row))


def test_the_order_of_the_games_changes_no_bit():
    rng = random.Random(0)
    batches = [random_batch(rng, 2) for _ in range(2)]
    states, credits = [], []
    for order in itertools.permutations(range(4)):
        one = critic(view="joint", lam=0.7)
        for batch in batches:
            found = one([batch[i] for i in order])
        states.append(one.state)
        credits.append([found[order.index(i)] for i in range(4)])
    assert all(state == states[0] for state in states)
    assert all(credit == credits[0] for credit in credits)


def test_a_run_resumed_through_json_goes_on_exactly():
    rng = random.Random(2)
    batches = [random_batch(rng) for _ in range(8)]
    whole, before, after = (critic(view="joint") for _ in range(3))
    expected = [whole(batch) for batch in batches]
    assert [before(batch) for batch in batches[:4]] == expected[:4]
    after.state = json.loads(json.dumps(before.state))
    assert [after(batch) for batch in batches[4:]] == expected[4:]
    assert after.state == whole.state
    assert isinstance(after, Stateful)


def test_a_state_from_before_the_first_step_starts_over():
    one = critic()
    one.state = json.loads(json.dumps(critic().state))
    assert one([trajectory(2.0, turn(1))]) == [[2.0]]


def test_games_without_a_turn_and_empty_batches():
    one = critic()
    assert one([]) == []
    assert one([trajectory(1.0)]) == [[]]
    assert one.state == {"roles": {}, "head": None}


def test_it_says_what_it_lacks():
    with pytest.raises(SpiralError, match="critic .* was given no features; train with spiral train"):
        Critic()([trajectory(1.0, turn(1))])
    with pytest.raises(SpiralError, match="turn 0 of player 0 of game has none"):
        critic()([trajectory(1.0, turn())])
    one = critic()
    one([trajectory(1.0, turn(1))])
    one.features = lambda prompts: torch.zeros(len(prompts), 8)
    with pytest.raises(SpiralError, match="learned on 16 numbers a turn, and now there are 8; resume with"):
        one([trajectory(1.0, turn(1))])


@pytest.mark.parametrize(
    "args",
    [{"gamma": 1.1}, {"lam": float("nan")}, {"units": 0}, {"updates": 0}, {"lr": 0.0}, {"decay": 1.0}, {"view": "all"}],
)
def test_bad_arguments(args):
    ((name, value),) = args.items()
    with pytest.raises(SpiralError, match=f"critic was given {name}={value!r}; give"):
        Critic(**args)
