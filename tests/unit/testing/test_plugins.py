"""The check of an installed plug-in by kind and name, on everything that is installed."""

import subprocess
import sys

import pytest

from spiral import SpiralError, hookimpl
from spiral.plugins.registry import Plugins
from spiral.testing import CHECKED_KINDS, check

PLUGINS = Plugins.installed()
CHECKED = [r for r in PLUGINS.registrations() if r.kind in CHECKED_KINDS and not r.members]


@pytest.mark.parametrize("plugin", CHECKED, ids=lambda r: f"{r.kind}-{r.name}")
def test_everything_installed_is_without_violations(plugin):
    assert check(PLUGINS, plugin.kind, plugin.name) == []


def test_a_plugin_that_cannot_be_made_by_itself_says_so():
    plugins = Plugins()
    plugins._table["game", "needy"] = PLUGINS.find("game", "kuhn_poker").__class__(
        "game", "needy", lambda rounds: None, "acme", "1"
    )
    (violation,) = check(plugins, "game", "needy")
    assert "default arguments" in violation
    assert "rounds" in violation


def test_an_unknown_name_is_an_error_of_the_user():
    with pytest.raises(SpiralError, match="no bot named 'unknown'"):
        check(PLUGINS, "bot", "unknown")


class FirstGame:
    def __init__(self, games):
        self.games = list(games)

    def choose(self, rng):
        return self.games[0]


def test_check_finds_the_check_of_a_kind():
    class CurriculaAndRewards:
        @hookimpl
        def register_curricula(self, register):
            register("no_game", lambda games: FirstGame(["chess"]))
            register("first_game", FirstGame)

        @hookimpl
        def register_rewards(self, register):
            register("nothing", lambda: lambda episode: None)
            register("unchanged", lambda: lambda episode: episode)

    plugins = Plugins()
    plugins.add(CurriculaAndRewards(), "acme")
    assert {"curriculum", "reward"} <= set(CHECKED_KINDS)
    assert check(plugins, "curriculum", "first_game") == check(plugins, "reward", "unchanged") == []
    assert check(plugins, "curriculum", "no_game") != []
    for violation in check(plugins, "curriculum", "no_game"):
        assert "no game of the run" in violation
    (violation,) = check(plugins, "reward", "nothing")
    assert "not an Episode" in violation


def test_the_checks_need_neither_pytest_nor_torch():
    code = "import sys, spiral.testing; print([m for m in ('torch', 'transformers', 'pytest') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
