"""Nested state baselines by hand arithmetic: who is left out, what shrinks to what, and what a checkpoint keeps."""

import json
import random
from dataclasses import replace

import pytest
from spiral_advantages.nested import Nested
from spiral_advantages.rae import Rae

from spiral import LEARNER, SpiralError, Trajectory, Turn


def turn(state, prompt="seen"):
    return Turn(prompt, (1,), (2,), (-0.5,), "move", True, "stop", 0, joint_state=state)


def trajectory(reward, *turns, player=0, game="kuhn"):
    return Trajectory(game, player, LEARNER, reward, turns, 0)


def test_the_others_of_a_state_shrunk_to_the_prompt_shrunk_to_the_role():
    """Returns 2 and -1 at state a, 4 at state b, one prompt for all, no role's average yet (0).
    The first game: prompt (-1 + 4 + 0) / 3 = 1, state (-1 + 1) / 2 = 0, advantage 2.
    The second: prompt (2 + 4 + 0) / 3 = 2, state (2 + 2) / 2 = 2, advantage -3.
    The third: prompt (2 - 1 + 0) / 3 = 1/3, alone at its state: 1/3, advantage 11/3."""
    batch = [trajectory(2.0, turn("a")), trajectory(-1.0, turn("a")), trajectory(4.0, turn("b"))]
    assert Nested()(batch) == [[2.0], [-3.0], [pytest.approx(11 / 3)]]


def test_a_baseline_never_holds_its_own_game():
    """However large a return is, what is subtracted from it does not change; one game meets its state in two turns."""
    others = [trajectory(1.0, turn("a"), turn("a")), trajectory(-1.0, turn("a"))]
    baselines = set()
    for reward in (0.0, 5.0, 1e6):
        row = Nested()([trajectory(reward, turn("a"), turn("a"), turn("c")), *others])[0]
        baselines.add(tuple(round(reward - advantage, 6) for advantage in row))
    assert len(baselines) == 1


def test_where_no_state_comes_twice_it_is_rae():
    """Distinct states and prompts, three batches: the advantages of `rae` to the last bits, its average included."""
    nested, rae, rng = Nested(), Rae(), random.Random(0)
    for step in range(3):
        batch = [trajectory(rng.uniform(-2, 2), turn(f"{step}/{n}", f"{step}/{n}"), player=n % 2) for n in range(10)]
        for mine, theirs in zip(nested(batch), rae(batch), strict=True):
            assert mine == pytest.approx(theirs, abs=1e-12)


def test_roles_and_games_share_nothing():
    """The same state and prompt of another player, or of another game, is another state."""
    batch = [
        trajectory(1.0, turn("a")),
        trajectory(5.0, turn("a"), player=1),
        trajectory(7.0, turn("a"), game="other"),
    ]
    assert Nested()(batch) == [[1.0], [5.0], [7.0]]


def test_earlier_steps_count_for_what_is_kept_of_them():
    """keep 0.5: returns 2 and 4 at state a weigh 1 and sum up to 3 a step later. Role: decay 0, the last mean, 3.
    A return of 1: prompt (3 + 3) / 2 = 3, state (3 + 3) / 2 = 3, advantage -2; without keep, role alone: also 1 - 3.
    With another prompt and state it is the role's: 1 - 3; a second game of 9 at the state makes it
    prompt (3 + 9 + 3) / 3 = 5, state (3 + 9 + 5) / 3 = 17/3."""
    nested = Nested(keep=0.5, decay=0.0)
    nested([trajectory(2.0, turn("a")), trajectory(4.0, turn("a"))])
    saved, kept = json.loads(json.dumps(nested.state)), {"state a": [1.0, 3.0], "prompt seen": [1.0, 3.0]}
    assert saved == {"roles": {"kuhn/0": [1.0, 3.0]}, "states": {"kuhn/0": kept}}
    assert nested([trajectory(1.0, turn("a"))]) == [[-2.0]]
    nested.state = json.loads(json.dumps(saved))
    assert nested([trajectory(1.0, turn("a")), trajectory(9.0, turn("a"))])[0] == [pytest.approx(1 - 17 / 3)]


def test_rare_states_are_forgotten():
    """keep 0.5: a state met once weighs 0.5 a step later and less than 0.5 after two, when it is dropped."""
    nested = Nested(keep=0.5)
    nested([trajectory(1.0, turn("a", "p"))])
    assert set(nested.state["states"]["kuhn/0"]) == {"state a", "prompt p"}
    nested([trajectory(1.0, turn("b", "q"))])
    assert set(nested.state["states"]["kuhn/0"]) == {"state b", "prompt q"}
    without = Nested()
    without([trajectory(1.0, turn("a"))])
    assert without.state["states"] == {}


def test_a_game_without_a_turn_counts_for_the_role():
    """As in `rae`: it trains nothing, and its return is the role's."""
    nested = Nested(decay=0.0)
    assert nested([trajectory(1.0), trajectory(3.0)]) == [[], []]
    assert nested([trajectory(1.0, turn("a"))]) == [[-1.0]]


def test_turns_without_a_joint_state_are_refused():
    """Rollouts that recorded none would make every game one state."""
    bare = replace(turn("a"), joint_state="")
    with pytest.raises(SpiralError, match="turn 0 of player 0 of kuhn has none"):
        Nested()([trajectory(1.0, bare)])


@pytest.mark.parametrize("args", [{"keep": 1.0}, {"keep": -0.1}, {"decay": 1.0}])
def test_arguments_out_of_range_are_refused(args):
    with pytest.raises(SpiralError, match=f"nested was given {next(iter(args))}="):
        Nested(**args)
