"""Games of a fleet whose players are in this process, beside those of one process."""

import torch

from spiral.api.records import LEARNER
from spiral.cluster.engine import FleetEngine
from spiral.cluster.fleet import Fleet
from spiral.cluster.games import FleetGames
from spiral.plugins.registry import Plugins
from spiral.selfplay.draws import Draws
from spiral.selfplay.rollouts import Rollouts
from spiral.selfplay.setup import make_play_setup, make_training_setup, turn_record
from spiral.testing.crew import LocalCrew
from spiral.training.session import configure

PLUGINS = Plugins.installed()


def config_of_games(**more):
    asked = {
        "steps": 4, "rollout.episodes": 24, "warm_start.max_steps": 60, "warm_start.batch": 64, "warm_start.check_every": 60,
        "evaluate.opponents": [], "loggers": [], "rollout.max_new_tokens": 8,
    }  # fmt: skip
    return configure(None, **{**asked, **more})


class Games:
    """A step's games by one process, and by a fleet."""

    def __init__(self, weights, config, staleness=0, **crew):
        self.config, self.weights = config, weights
        self.setup = make_play_setup(config, PLUGINS)
        self.training = make_training_setup(config, PLUGINS)
        self.crew = LocalCrew(config, PLUGINS, **crew)
        self.losses = []
        self.fleet = Fleet(self.crew, "learner-0:1", 64, 60.0, on_loss=self.losses.append)
        self.engine = FleetEngine(self.fleet, 60.0)
        sources = self.setup.games, self.training.curriculum, self.training.opponents, self.setup.pool
        self.draws = Draws(*sources)
        self.games = FleetGames(self.fleet, self.draws, config, staleness)
        record = turn_record(config, self.training.advantages)
        self.local = Rollouts(*sources, config.rollout, record=record)

    def load(self, version, seed=None):
        torch.manual_seed(version if seed is None else seed)
        weights = {name: weight + 0.01 * torch.randn_like(weight) for name, weight in self.weights.items()}
        self.sent = weights
        for engine in (self.engine, self.setup.completer.engine):
            engine.load_weights(LEARNER, weights, version)

    def alone(self, step):
        return self.local.play(self.config.rollout.episodes, (self.config.seed, "rollout", step))


def moves(episodes):
    return [(e.deal, e.returns, [t.reply for x in e.trajectories for t in x.turns]) for e in episodes]


def seen_reading(weights):
    """The weights, and the names that were read of them so far."""
    read = []

    class Lazy(dict):
        def items(self):
            for name, weight in super().items():
                read.append(name)
                yield name, weight

    return Lazy(weights), read
