"""The stranger's door: what is installed is found by name, and every error says asked, installed and remedy.

The distributions here are real ones for importlib.metadata: a module and a dist-info folder on sys.path.
"""

import importlib
import sys

import pytest
from click.testing import CliRunner

from spiral.api.errors import PluginError
from spiral.api.hooks import hookimpl
from spiral.api.policies import is_external, tried_on
from spiral.commands.main import main
from spiral.plugins.registry import FailedDistribution, Plugins, label


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(distribution, version, source): a distribution whose entry point is a module with that source."""
    monkeypatch.syspath_prepend(tmp_path)
    modules = []

    def make(distribution, version, source):
        module = f"fake_{distribution.replace('-', '_')}"
        modules.append(module)
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[spiral]\nplugin = {module}\n")
        importlib.invalidate_caches()

    yield make
    for module in modules:
        sys.modules.pop(module, None)


GAME = """
from spiral import hookimpl

def {name}(rounds: int = 1, *, deck: str = "JQK"):
    '''A game called {name}.

    More about it.
    '''
    return ("{name}", rounds, deck)

@hookimpl
def register_games(register):
    register("{name}", {name})
"""


class Door:
    """A plug-in as an object: registers what it is given."""

    def __init__(self, **kinds):
        self.kinds = kinds

    @hookimpl
    def register_games(self, register):
        for name, factory in self.kinds.get("games", {}).items():
            register(name, factory)

    @hookimpl
    def register_bots(self, register):
        for name, factory in self.kinds.get("bots", {}).items():
            register(name, factory)


def _make(size: int, shape: str = "round"):
    """Makes a thing.

    With a second paragraph.
    """
    return size, shape


def _plugins(**kinds):
    plugins = Plugins()
    plugins.add(Door(**kinds), "some-things", "1.5")
    return plugins


# Found


def test_an_installed_distribution_is_found_and_made(install):
    """pip install and it is there: listed with distribution, version and docstring, and made with its arguments."""
    install("chess-for-spiral", "2.1", GAME.format(name="chess"))
    plugins = Plugins.installed()
    row = plugins.find("game", "chess")
    assert (row.kind, row.name, row.distribution, row.version) == ("game", "chess", "chess-for-spiral", "2.1")
    assert row.doc == "A game called chess."
    assert plugins.distributions["chess-for-spiral"] == "2.1"
    assert "chess" in plugins.names("game")
    assert plugins.make("game", "chess", rounds=3) == ("chess", 3, "JQK")


def test_first_party_plugins_use_the_same_door():
    """The four first-party distributions and the core itself are found as everybody's are."""
    plugins = Plugins.installed()
    assert plugins.failed == []
    by_name = {(r.kind, r.name): r.distribution for r in plugins.registrations()}
    assert by_name["game", "kuhn_poker"] == "spiral-games"
    assert by_name["opponents", "mirror"] == "spiral-opponents"
    assert by_name["advantage", "rae"] == "spiral-advantages"
    assert by_name["model", "byte-0.1m"] == "spiral-models"
    assert by_name["engine", "torch"] == "spiral-selfplay"
    assert all(r.doc for r in plugins.registrations()), "spiral plugins would list it without a word"


def test_only_the_named_distributions_load(install, monkeypatch):
    """SPIRAL_PLUGINS=a,b loads those two and nothing else, not even something broken."""
    install("chess-for-spiral", "2.1", GAME.format(name="chess"))
    install("broken-one", "0.1", "raise RuntimeError('never imported')")
    monkeypatch.setenv("SPIRAL_PLUGINS", "chess-for-spiral,spiral-games")
    plugins = Plugins.installed()
    assert set(plugins.distributions) == {"chess-for-spiral", "spiral-games"}
    assert plugins.failed == []
    assert plugins.names("engine") == []


def test_registrations_are_in_order():
    """By kind in the order of the hooks, then by name."""
    plugins = _plugins(games={"b": _make, "a": _make}, bots={"c": _make})
    assert [(r.kind, r.name) for r in plugins.registrations()] == [("game", "a"), ("game", "b"), ("bot", "c")]


def test_a_member_of_a_family_of_bots_keeps_its_optional_members():
    """Who asks a person is `external` under each of its names, and is tried on the games that it plays."""

    class Chats:
        external, tried_on = True, ("kuhn_poker",)

        def __init__(self, name: str, warmth: float = 1.0):
            self.name, self.warmth = name, warmth

    class Family:
        @hookimpl
        def register_bots(self, register):
            register("chat", Chats, lambda: ["ada"])

    plugins = Plugins()
    plugins.add(Family(), "acme")
    factory = plugins.find("bot", "chat/ada").factory
    assert is_external(factory)
    assert tried_on(factory) == ("kuhn_poker",)
    assert plugins.make("bot", "chat/ada", warmth=0.5).warmth == 0.5
    assert plugins.problem("bot", "chat/ada", {"cold": 1})


# Not found


def test_an_unknown_name_says_what_is_there():
    """Asked, installed, remedy: a near miss is suggested, otherwise pip install."""
    plugins = _plugins(games={"kuhn": _make, "chess": _make})
    with pytest.raises(PluginError, match=r"no game named 'kuhm' \(installed: chess, kuhn\); did you mean 'kuhn'\?"):
        plugins.make("game", "kuhm")
    long = _plugins(games={"kuhn_poker_variant": _make, "kuhn_poker": _make})
    with pytest.raises(PluginError, match=r"no game named 'kuhn' .* did you mean 'kuhn_poker'\?"):
        long.make("game", "kuhn")
    with pytest.raises(PluginError, match=r"no game named 'zzzz' .*pip install"):
        plugins.find("game", "zzzz")
    with pytest.raises(PluginError, match=r"no bot named 'kuhn' \(installed: none\)"):
        plugins.find("bot", "kuhn")


def test_where_nothing_of_a_kind_is_installed_the_remedy_is_the_first_party_extra(monkeypatch):
    """A bare spiral-selfplay has no game: the error names the extra. Not where a game is installed, where one may have
    been lost in a distribution that failed to load, or where SPIRAL_PLUGINS left it out."""
    bare = Plugins()
    sentence = r"""^no game named 'kuhn_poker' \(installed: none\); pip install "spiral-selfplay\[all\]" brings"""
    with pytest.raises(PluginError, match=sentence):
        bare.find("game", "kuhn_poker")
    with pytest.raises(PluginError) as one_is_there:
        _plugins(games={"chess": _make}).find("game", "kuhn_poker")
    monkeypatch.setenv("SPIRAL_PLUGINS", "spiral-opponents")
    with pytest.raises(PluginError, match=r"only SPIRAL_PLUGINS=spiral-opponents was loaded") as left_out:
        bare.find("game", "kuhn_poker")
    monkeypatch.delenv("SPIRAL_PLUGINS")
    bare.failed.append(FailedDistribution("spiral-games", "0.2.0", "spiral_games", "ImportError: it is broken"))
    with pytest.raises(PluginError, match=r"spiral-games 0\.2\.0 failed to load: ImportError") as lost:
        bare.find("game", "kuhn_poker")
    for error in (one_is_there, left_out, lost):
        assert "pip install a distribution that provides it" in str(error.value)
        assert "[all]" not in str(error.value)


# Clashes


def test_a_clash_names_both_distributions(install):
    """Two distributions that give one name: who asks for it reads of both with their versions, and how to go on. All
    other names are there, and the list has both."""
    install("a-chess", "1.0", GAME.format(name="chess"))
    install("b-chess", "2.0", GAME.format(name="chess"))
    plugins = Plugins.installed()
    with pytest.raises(PluginError, match=r"game 'chess' .*a-chess 1\.0 .*b-chess 2\.0.*SPIRAL_PLUGINS") as clash:
        plugins.find("game", "chess")
    assert plugins.problem("game", "chess", {}) == str(clash.value)
    assert plugins.find("game", "kuhn_poker").distribution == "spiral-games"
    assert [r.distribution for r in plugins.named("chess")] == ["a-chess", "b-chess"]
    shown = CliRunner().invoke(main, ["plugins"])
    assert shown.exit_code == 0
    assert f"failed: {clash.value}" in shown.stderr
    checked = CliRunner().invoke(main, ["check", "chess", "rae"])
    assert checked.exit_code == 1
    assert str(clash.value) in checked.stdout
    assert checked.stdout.splitlines()[-1].endswith(": ok")


def test_a_clash_with_a_name_of_ones_own_keeps_the_distribution_out(install):
    """One distribution that takes a name twice is broken; the others load."""
    install("twice", "1.0", GAME.format(name="chess") + "    register('chess', chess)\n")
    plugins = Plugins.installed()
    assert [f.reason for f in plugins.failed] == ["game 'chess' is registered twice; give each its own name"]
    assert "chess" not in plugins.names("game")


def test_one_name_for_two_kinds_is_no_clash():
    """A game and a bot may share a name."""
    plugins = _plugins(games={"random": _make}, bots={"random": _make})
    assert plugins.find("game", "random").kind == "game"
    assert plugins.find("bot", "random").kind == "bot"


def test_one_plugin_that_registers_a_name_twice():
    """Even within one distribution a name is taken once."""

    class Twice:
        @hookimpl
        def register_games(self, register):
            register("a", _make)
            register("a", _make)

    with pytest.raises(PluginError, match="registered twice"):
        Plugins().add(Twice(), "twice")


# Broken ones


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("import a_module_that_is_not_there", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        (
            "from spiral import hookimpl\n@hookimpl\ndef register_games(register):\n    raise KeyError('deck')\n",
            "KeyError: 'deck'",
        ),
        ("from spiral import hookimpl\n@hookimpl\ndef register_gamez(register): pass\n", "register_gamez"),
        ("from spiral import hookimpl\n@hookimpl\ndef register_games(registre): pass\n", "registre"),
        ("def register_games(register): pass\n", "register_games lacks the marker @spiral.hookimpl"),
        ("def a_game(): pass\n", "no function in it has the marker @spiral.hookimpl"),
        ("import sys\nsys.exit('no licence')\n", "SystemExit: no licence"),
    ],
    ids=[
        "raises",
        "imports",
        "syntax",
        "hook raises",
        "misspelt hook",
        "unknown argument",
        "unmarked",
        "none",
        "exits",
    ],
)
def test_a_broken_plugin_stops_only_who_asks_for_it(install, source, reason):
    """It is reported by name, version and reason; others still load; who asks for what it would give reads of it."""
    install("broken-one", "0.3", source)
    install("chess-for-spiral", "2.1", GAME.format(name="chess"))
    plugins = Plugins.installed()
    [broken] = plugins.failed
    assert (broken.distribution, broken.version, broken.value) == ("broken-one", "0.3", "fake_broken_one")
    assert reason in broken.reason
    assert plugins.make("game", "chess")[0] == "chess"
    assert "broken-one" not in plugins.distributions
    with pytest.raises(PluginError, match=r"no game named 'checkers' .*broken-one 0\.3 failed to load"):
        plugins.find("game", "checkers")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import sys\n\nraise RuntimeError('no licence')", 3),
        ("import json\nimport a_module_that_is_not_there", 2),
        ("\n\ndef broken(:", 3),
        ("from spiral import hookimpl\n@hookimpl\ndef register_games(register):\n    raise KeyError('deck')\n", 4),
    ],
)
def test_a_broken_plugin_is_told_with_file_and_line(install, source, line):
    """Wherever it is told: the list, with or without a name, the checks, and the error that a name is missing."""
    install("broken-one", "0.3", source)
    place = f"fake_broken_one.py, line {line})"
    plugins = Plugins.installed()
    assert plugins.failed[0].reason.endswith(place)
    with pytest.raises(PluginError, match=f"fake_broken_one.py, line {line}"):
        plugins.find("game", "checkers")
    for words in (["plugins"], ["plugins", "checkers"], ["check", "checkers"], ["check", "rae"]):
        assert place in CliRunner().invoke(main, words).stderr
    assert CliRunner().invoke(main, ["check", "rae"]).exit_code == 0


@pytest.mark.parametrize("fault", ["registers", "misspelt", "argument"])
def test_nothing_stays_of_a_plugin_that_fails(fault):
    """Neither its names nor its observers: a broken plug-in does not watch the run."""
    seen = []

    class Broken:
        @hookimpl
        def checkpoint_saved(self, step, path):
            seen.append(step)

        @hookimpl
        def register_bots(self, register):
            register("bot", _make)

    if fault == "registers":

        def register_games(self, register):
            raise KeyError("deck")

        Broken.register_games = hookimpl(register_games)
    elif fault == "misspelt":
        Broken.register_gamez = hookimpl(lambda self, register: None)
    else:
        Broken.step_finished = hookimpl(lambda self, step, metric: None)
    plugins = Plugins()
    with pytest.raises(Exception, match="deck|register_gamez|metric"):
        plugins.add(Broken(), "broken-one")
    assert plugins.registrations() == []
    assert plugins.distributions == {}
    plugins.hook.checkpoint_saved(step=1, path=None)
    assert seen == []
    plugins.add(Door(games={"chess": _make}), "fine")  # and the next one is not blamed for it
    assert plugins.names("game") == ["chess"]


def test_observers_hear_the_run():
    """An observer gets the arguments that it names, in any number."""
    heard = []

    class Logger:
        @hookimpl
        def step_finished(self, step, metrics):
            heard.append((step, metrics))

        @hookimpl
        def run_finished(self):
            heard.append("end")

    plugins = Plugins()
    plugins.observe_with(Logger())
    plugins.hook.step_finished(step=3, metrics={"a": 1.0}, episodes=[])
    plugins.hook.run_finished(step=4)
    assert heard == [(3, {"a": 1.0}), "end"]


def test_a_misspelt_observer_is_not_ignored():
    """A logger whose hook does not exist would be silent for a whole run."""

    class Logger:
        @hookimpl
        def step_finishd(self, step):
            pass

    with pytest.raises(Exception, match="step_finishd"):
        Plugins().observe_with(Logger())


# Arguments


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"size": 1, "colour": "red"}, "colour.*its arguments are: size, shape"),
        ({}, "size.*its arguments are: size, shape"),
        ({"size": "big"}, "argument size is 'big', not a whole number"),
        ({"size": True}, "argument size is True, not a whole number"),
        ({"size": 1.5}, "argument size is 1.5, not a whole number"),
        ({"size": 1, "shape": 3}, "argument shape is 3, not text"),
    ],
)
def test_arguments_are_checked_before_anything_is_made(args, reason):
    """The factory's signature and annotations are the schema; a fault is one sentence and the factory is not called."""
    made = []

    def factory(size: int, shape: str = "round"):
        made.append(size)

    plugins = _plugins(games={"thing": factory})
    with pytest.raises(PluginError, match=f"game 'thing': .*{reason}"):
        plugins.make("game", "thing", **args)
    assert made == []
    assert plugins.problem("game", "thing", {"size": 1}) is None


def test_what_the_core_fills_is_not_an_argument():
    """A prompt's tokenizer and an engine's model come from the core: the config may not give them, nor need it."""

    class Prompts:
        @hookimpl
        def register_prompts(self, register):
            register("p", lambda tokenizer, rules=False: (tokenizer, rules))

    plugins = Plugins()
    plugins.add(Prompts(), "prompts")
    assert plugins.problem("prompt", "p", {}) is None
    assert plugins.make("prompt", "p", "tok", rules=True) == ("tok", True)
    assert "its arguments are: rules" in plugins.problem("prompt", "p", {"tokenizer": "x"})
    assert "its arguments are: rules" in plugins.problem("prompt", "p", {"colour": "x"})


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (float, [1, 0.5], ["1", True, None]),
        (bool, [True], [1, "true"]),
        (int | None, [None, 3], ["3", 0.5]),
        (list[str], [["a"], []], ["a", {"a": 1}]),
        (dict, [{}], [[]]),
    ],
)
def test_annotations_admit_what_they_say(hint, good, bad):
    """Whole numbers pass for numbers; flags do not pass for numbers; null only where it may stand."""

    def factory(x):
        return x

    factory.__annotations__["x"] = hint
    plugins = _plugins(games={"thing": factory})
    assert [plugins.problem("game", "thing", {"x": v}) for v in good] == [None] * len(good)
    assert all("argument x is" in plugins.problem("game", "thing", {"x": v}) for v in bad)


def test_classes_are_factories():
    """Registering a class checks its __init__ and makes an object."""

    class Thing:
        def __init__(self, size: int = 1):
            self.size = size

    plugins = _plugins(games={"thing": Thing})
    assert plugins.make("game", "thing", size=4).size == 4
    assert "not a whole number" in plugins.problem("game", "thing", {"size": "x"})


def test_labels():
    """How a plug-in with arguments is called in records: sorted, so that one thing has one name."""
    assert label("kuhn_poker", {}) == "kuhn_poker"
    assert label("kuhn_poker", {"rounds": 5}) == "kuhn_poker(rounds=5)"
    assert label("x", {"b": 1, "a": "y"}) == label("x", {"a": "y", "b": 1}) == "x(a=y,b=1)"
    assert label("x", {"url": "http://a.b:1/v1", "text": "two words"}) == 'x(text="two words",url=http://a.b:1/v1)'


def test_other_arguments_are_another_label():
    """A text that looks like a number, or like more arguments than one, is quoted."""
    different = [
        {"a": "1,b=2"}, {"a": 1, "b": 2}, {"a": "1", "b": 2}, {"a": 1, "b": "2"}, {"a": 1.0, "b": 2}, {"a": "1.0", "b": 2},
        {"a": True}, {"a": "True"}, {"a": None}, {"a": "None"}, {"a": [1, 2]}, {"a": "[1, 2]"}, {"a": ["1", 2]},
        {"a": {"b": 2}}, {"a": "{'b': 2}"}, {"a": ""}, {}, {"a": '"1"'}, {"a": "1)"}, {"a": float("inf")}, {"a": "inf"},
        {"a": 1e-07}, {"a": "1e-07"},
    ]  # fmt: skip
    assert len({label("x", args) for args in different}) == len(different)
    assert label("x", {"a": "1,b=2"}) == 'x(a="1,b=2")'


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("textarena/Debate-v0", "TextArena's 'Debate-v0' cannot be played: it asks language models"),
        ("textarena/TicTacTo-v0", "near are TicTacToe-v0"),
        ("openspiel/kuhn_pokr", "near are kuhn_poker"),
        ("kuhn_pokr", "nothing to check is called kuhn_pokr; give --all or some of: "),
    ],
)
def test_a_name_that_cannot_be_checked_is_one_sentence(name, said):
    """Of a family's member the family itself says why, not that no plug-in has such a name."""
    result = CliRunner().invoke(main, ["check", name])
    assert result.exit_code == 2
    assert said in result.output
    assert len(result.output.splitlines()) == 1
