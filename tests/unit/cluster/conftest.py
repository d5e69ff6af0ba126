"""Weights that play, and what plays with them."""

import pytest

from spiral.api.progress import no_progress
from spiral.models.logits import parameters
from spiral.selfplay.setup import make_play_setup
from spiral.training.initial_weights import warm_start_weights
from tests.unit.cluster.played import PLUGINS, Games, config_of_games


@pytest.fixture(scope="session")
def legal():
    """Weights that mostly move legally, so that games have several turns."""
    config = config_of_games()
    setup = make_play_setup(config, PLUGINS)
    warm_start_weights(config, setup, PLUGINS, no_progress)
    return {name: weight.clone() for name, weight in parameters(setup.model).items()}


@pytest.fixture
def made(legal):
    made = []

    def make(*args, **more):
        made.append(Games(legal, *args, **more))
        return made[-1]

    yield make
    for games in made:
        games.fleet.close()
