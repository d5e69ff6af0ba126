"""Which defaults hold follows from what the config names; those of a pretrained model have a file of their own."""

import pytest

from spiral.api.errors import ConfigError
from spiral.config.loading import load, read_layers
from spiral.config.pretrained import FoundModel, find_nothing

TASK = "games=tasks/reasoning_gym/chain_sum"


def _pretrained(model, method):
    return FoundModel("hf", {}, 135_000_000)


def _sources(*overrides, find_model=find_nothing):
    return [layer.source for layer in read_layers(None, overrides, find_model)[0]]


def test_tasks_alone_are_trained_on_with_groups_and_a_reference_that_stays():
    """With the demo's magnet, whose reference moves, a byte model gives the most frequent answer to every question."""
    config = load(None, [TASK])
    assert (config.advantage.name, config.rollout.group_size, config.evaluate.opponents) == ("rloo", 16, [])
    assert (config.learner.reference_every, config.learner.kl_end, config.learner.anchor) == (0, 1.0, 0.0)
    assert config.rollout.episodes % config.rollout.group_size == 0


def test_tasks_keep_the_learner_of_a_pretrained_model():
    """It has no magnet and a learning rate of its size, and is asked fewer questions a step."""
    config, games = load(None, [TASK], _pretrained), load(None, [], _pretrained)
    assert config.learner == games.learner
    assert config.steps == games.steps
    assert (config.advantage.name, games.advantage.name) == ("rloo", "rae")
    assert config.rollout.group_size > 1
    assert config.rollout.episodes < load(None, [TASK]).rollout.episodes


@pytest.mark.parametrize("games", ["games=[tasks/a,kuhn_poker]", "games=kuhn_poker", "games=tasks_of_mine", "games=[]"])
def test_a_game_beside_tasks_has_the_demos_defaults(games):
    """A mixture is self-play too, which needs its magnet."""
    assert _sources(games) == ["defaults", "command line"]


def test_examples_to_learn_from_have_their_own_defaults_whatever_the_games_are():
    """Nothing is sampled, so nothing is compared in groups."""
    assert _sources(TASK, "examples.path=a.jsonl") == ["defaults", "supervised defaults", *["command line"] * 2]


def test_text_to_learn_from_has_the_supervised_defaults_and_its_own_and_no_games():
    assert _sources("text.paths=[a]") == [
        "defaults", "text defaults", "supervised defaults", "text defaults", "command line",
    ]  # fmt: skip
    config = load(None, ["text.paths=[a]"])
    assert (config.games, config.learner.objective, config.warm_start.max_steps) == ([], "likelihood", 0)
    assert (config.learner.schedule, config.learner.lr, config.learner.lr_end) == ("cosine", 0.003, 0.1)


def test_text_is_learned_without_a_warm_start_which_plays():
    with pytest.raises(ConfigError, match=r"warm_start.max_steps is 5; a warm start plays games, and none is played"):
        load(None, ["text.paths=[a]", "warm_start.max_steps=5"])


def test_a_pretrained_model_keeps_the_rate_of_its_size_on_text():
    """3e-5 by its 135 million parameters, ten times that where the gradient has no noise of sampling."""
    assert load(None, ["text.paths=[a]"], _pretrained).learner.lr == 3e-4


def test_what_the_user_says_is_laid_over_all_defaults():
    """Also where it comes before the games that the defaults follow from."""
    config = load(None, ["learner.kl=0.2", "rollout.group_size=4", TASK])
    assert (config.learner.kl, config.rollout.group_size) == (0.2, 4)
