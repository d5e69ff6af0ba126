"""A cooperative game's points are common: they reach both players once, whoever's turn brought them.

Mini Hanabi with three fireworks of one card each, so each of three turns brings a point: 3 for both players in the
match, in the episode, in each trajectory, in what every estimator makes of it, and in the pool's results. Reported as 1
or 2 where a point is paid to the player who moved, as 6 where it is paid to both twice (open_spiel#68, PettingZoo#136).
"""

import pytest
from spiral_advantages.nested import Nested
from spiral_advantages.rae import Rae
from spiral_advantages.reinforce import Reinforce
from spiral_advantages.turn_gae import TurnGae
from spiral_games.native.mini_hanabi import MiniHanabi
from spiral_models.byte.tokenizer import ByteTokenizer

from spiral.api.records import LEARNER, Completion
from spiral.config.schema import RolloutConfig
from spiral.models.prompt_cache import Prompter
from spiral.models.prompts import PlainFormat
from spiral.plugins.registry import Plugins
from spiral.policies.completer import Completer
from spiral.policies.pool import Pool
from spiral.selfplay.curriculum import Weighted
from spiral.selfplay.match import TurnRecord
from spiral.selfplay.rollouts import Rollouts

PROMPTER = Prompter(PlainFormat(ByteTokenizer()))


class ThreeFireworks(MiniHanabi):
    """Each turn plays a card that fits: player 0's, player 1's, and the one that player 0 drew."""

    def __init__(self):
        super().__init__(colours=3, ranks=1, hand=1)


class PlaysFirst:
    """An engine whose every reply is `play 1`."""

    def __init__(self):
        self.asked = []

    def submit(self, request):
        self.asked.append(request)

    def step(self):
        asked, self.asked = self.asked, []
        reply = tuple(PROMPTER.reply("play 1"))
        return [Completion(request.id, reply, (-0.5,) * len(reply), "stop", 0) for request in asked]

    def load_weights(self, policy, weights, version):
        pass


class Mirror:
    def seat(self, game, num_players, pool, rng):
        return [LEARNER] * num_players


@pytest.fixture(scope="module")
def episode():
    pool = Pool(Plugins(), Completer.of(PlaysFirst(), PROMPTER, 16))
    record = TurnRecord(joint_state=True)
    games = {"hanabi": ThreeFireworks}
    rollouts = Rollouts(games, Weighted({"hanabi": 1.0}), Mirror(), pool, RolloutConfig(), record=record)
    [episode] = rollouts.play(1, (0,))
    return episode


def test_three_points_are_three_for_both_in_the_episode(episode):
    assert episode.players == (0, 1, 0)
    assert episode.ending == "finished"
    assert episode.returns == (3.0, 3.0)


def test_each_trajectory_has_them_once(episode):
    assert [(t.player, len(t.turns), t.reward) for t in episode.trajectories] == [(0, 2, 3.0), (1, 1, 3.0)]
    assert all(turn.reward == 0 for t in episode.trajectories for turn in t.turns)  # or they would count twice


@pytest.mark.parametrize("estimator", [Reinforce, Rae, Nested, TurnGae])
def test_each_turn_is_credited_with_all_of_them(episode, estimator):
    """Before a baseline has seen a game it is 0: the advantage is the return, on the first player's first turn too."""
    assert estimator()(episode.trajectories) == [[3.0, 3.0], [3.0]]
