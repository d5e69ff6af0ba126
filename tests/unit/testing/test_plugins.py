"""The check of an installed plug-in by kind and name, on everything that is installed."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from spiral import IllegalMove, SpiralError, hookimpl
from spiral.commands.main import main
from spiral.plugins.registry import Plugins
from spiral.testing import CHECKED_KINDS, check

PLUGINS = Plugins.installed()
CHECKED = [r for r in PLUGINS.registrations() if r.kind in CHECKED_KINDS and not r.members]


@pytest.mark.parametrize("plugin", CHECKED, ids=lambda r: f"{r.kind}-{r.name}")
def test_everything_installed_is_without_violations(plugin):
    assert check(PLUGINS, plugin.kind, plugin.name) == []


def test_a_plugin_that_cannot_be_made_by_itself_says_so():
    class Needy:
        @hookimpl
        def register_games(self, register):
            register("needy", lambda rounds: None)

    plugins = Plugins()
    plugins.add(Needy(), "acme")
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


class HighNumber:
    """Both numbers are called out, each player says ok, and the higher one wins; nothing says that nothing is hidden."""

    num_players, rules, zero_sum = 2, "", True

    def reset(self, rng):
        self.numbers, self.said = rng.sample(range(50), 2), 0

    def current_player(self):
        return None if self.said == 2 else self.said

    def observe(self, player):
        return f"p{player} {self.numbers} {self.said}"

    def legal_moves(self):
        return ["ok"] if self.said < 2 else []

    def play(self, move):
        if move not in self.legal_moves():
            raise IllegalMove("say ok")
        self.said += 1

    def returns(self):
        return [1.0, -1.0] if self.numbers[0] > self.numbers[1] else [-1.0, 1.0]


class SaysHidden(HighNumber):
    perfect_information = False


def test_the_command_prints_a_notice_and_exits_0(monkeypatch):
    """A game of perfect information whose author did not say so; one that says something is hidden fails."""

    class Games:
        @hookimpl
        def register_games(self, register):
            register("high_number", HighNumber)
            register("says_hidden", SaysHidden)

    plugins = Plugins()
    plugins.add(Games(), "acme")
    monkeypatch.setattr(Plugins, "installed", classmethod(lambda cls: plugins))
    silent = CliRunner().invoke(main, ["check", "high_number"])
    assert silent.exit_code == 0, silent.output
    first, notice = silent.output.splitlines()
    assert first.startswith("game high_number (acme")
    assert first.endswith(": ok")
    assert notice.startswith("  notice: in 200 deals, observe(1) always gave away observe(0), such as ")
    hiding = CliRunner().invoke(main, ["check", "says_hidden"])
    assert hiding.exit_code == 1
    assert "VIOLATED" in hiding.output
    assert "notice" not in hiding.output


class Torn(HighNumber):
    """Says that nothing is hidden, and breaks in its second move."""

    perfect_information = True

    def legal_moves(self):
        if self.said:
            raise KeyError("page 2")
        return super().legal_moves()


class Stubborn:
    """A bot that has to be told what to say."""

    def __init__(self, word: str):
        self.word = word

    def choose(self, game, player, rng):
        if not isinstance(game, HighNumber):
            raise SpiralError("another game")
        assert game.legal_moves()
        return self.word


@pytest.fixture
def local(monkeypatch):
    class Local:
        @hookimpl
        def register_games(self, register):
            register("torn", Torn)
            register("high_number", lambda numbers=2: HighNumber())

        @hookimpl
        def register_bots(self, register):
            register("stubborn", Stubborn)

    plugins = Plugins()
    plugins.add(Local(), "acme")
    monkeypatch.setattr(Plugins, "installed", classmethod(lambda cls: plugins))


def test_a_bot_is_not_blamed_for_a_broken_game(local):
    """The game is named in a notice, whether it broke by itself or as the bot asked it; the bot passes on the other."""
    done = CliRunner().invoke(main, ["check", "stubborn:word=ok"])
    assert done.exit_code == 0, done.output
    first, notice = done.stdout.splitlines()
    assert first == "bot stubborn(word=ok) (acme 0): ok"
    assert notice.startswith(
        "  notice: not tried on torn, which is broken itself: legal_moves() (seed 0, after 1 moves"
    )
    assert "KeyError: 'page 2'" in notice


def test_a_plugin_that_needs_an_argument_is_checked_with_it(local):
    """NAME:key=value, as everywhere; without it the violation names the argument."""
    missing = CliRunner().invoke(main, ["check", "stubborn"])
    assert missing.exit_code == 1
    assert "it cannot be made with its default arguments: bot 'stubborn': missing a required argument: 'word'" in (
        missing.stdout
    )
    wrong = CliRunner().invoke(main, ["check", "stubborn:word=mumble"])
    assert wrong.exit_code == 1
    assert "choose returned the illegal move 'mumble'" in wrong.stdout
    unknown = CliRunner().invoke(main, ["check", "stubborn:colour=red"])
    assert "it cannot be made: bot 'stubborn'" in unknown.stdout


def test_a_check_says_what_it_is_at(local, monkeypatch):
    """On stderr, of a bot on which game: a line now and then where there is no terminal."""
    monkeypatch.setattr("spiral.commands.check.PLAIN_EVERY_S", 0.0)
    done = CliRunner().invoke(main, ["check", "stubborn:word=ok"])
    assert done.stderr.splitlines() == [
        "checking 1 of 1: bot stubborn on high_number",
        "checking 1 of 1: bot stubborn on torn",
    ]


def test_the_checks_need_neither_pytest_nor_torch():
    code = "import sys, spiral.testing; print([m for m in ('torch', 'transformers', 'pytest') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
