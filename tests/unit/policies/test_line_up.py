"""What an opponent sampler gets wrong is one sentence with its name, wherever it is asked."""

import random

import pytest

from spiral import LEARNER, hookimpl
from spiral.api.errors import ConfigError, PluginError
from spiral.config import loading as config
from spiral.plugins.registry import Plugins
from spiral.policies.fallback import FallbackSampler
from spiral.policies.line_up import line_up
from spiral.policies.pool import Pool
from spiral.selfplay.validation import check


class Sampler:
    def __init__(self, seats):
        self.seats = seats

    def seat(self, game, num_players, pool, rng):
        return self.seats(num_players)


class OldSignature:
    def seat(self, game, pool):
        return [LEARNER, LEARNER]


MISTAKES = [
    (OldSignature(), r"raised TypeError: .*seat\(\) takes 3 positional arguments but 5 were given"),
    (Sampler(lambda num: [][num]), r"raised IndexError: list index out of range \(.*test_line_up.py, line \d+\)"),
    (Sampler(lambda num: None), "gave the line-up None to a game for 2; it must name one policy a player"),
    (Sampler(lambda num: LEARNER[:2]), "gave the line-up 'le' to a game for 2; it must name one policy a player"),
    (Sampler(lambda num: [LEARNER]), r"gave the line-up \['learner'\] to a game for 2; it must name one policy a"),
    (Sampler(lambda num: [LEARNER, 3]), r"gave the line-up \['learner', 3\] to a game for 2; the pool holds no 3"),
    (Sampler(lambda num: [LEARNER, [LEARNER]]), r"the pool holds no \['learner'\]"),
]


@pytest.mark.parametrize(("sampler", "said"), MISTAKES)
def test_a_samplers_mistake_is_a_sentence_with_its_name(sampler, said):
    with pytest.raises(PluginError, match=f"^sampler 'mine' .*{said}"):
        line_up(sampler, "sampler 'mine'", "game", 2, Pool(Plugins()), random.Random(0))


def test_of_two_samplers_the_one_that_raised_is_named():
    fallback = FallbackSampler(Sampler(lambda num: [LEARNER] * num), OldSignature(), 1.0, ("'one'", "'two'"))
    assert fallback.seat("game", 2, Pool(Plugins()), random.Random(0)) == [LEARNER, LEARNER]
    fallback.num_rollbacks = 1
    with pytest.raises(PluginError, match="^'two' raised TypeError"):
        line_up(fallback, "'one' or 'two'", "game", 2, Pool(Plugins()), random.Random(0))


class Raises:
    def __init__(self):
        raise KeyError("settings")


class Careless:
    def choose(self, game, player, rng):
        return game.hand[player]


class Local:
    @hookimpl
    def register_opponents(self, register):
        register("old", OldSignature)
        register("unmade", Raises)

    @hookimpl
    def register_bots(self, register):
        register("careless", Careless)
        register("unmade", Raises)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["opponents=old"],
            r"game kuhn_poker: opponent sampler 'old' raised TypeError: .*; mend it, or choose another$",
        ),
        (["opponents=unmade"], r"^opponents 'unmade', as it was made, raised KeyError: 'settings' \(.*, line \d+\)"),
        (["evaluate.opponents=[unmade]"], r"^bot 'unmade', as it was made, raised KeyError: 'settings'"),
        (["evaluate.opponents=[careless]"], "^game kuhn_poker: bot:careless raised AttributeError: .*mend that bot"),
    ],
)
def test_before_a_run_the_mistake_of_a_bot_or_a_sampler_is_not_told_as_the_games(words, said):
    """Nothing says that the game failed, or that it should be mended."""
    plugins = Plugins.installed()
    plugins.add(Local(), "local")
    with pytest.raises(ConfigError, match=said) as error:
        check(config.load(None, words), plugins)
    assert "failed as it was started" not in str(error.value)
    assert "spiral check kuhn_poker" not in str(error.value)
