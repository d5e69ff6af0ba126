"""Texts that name benchmarks, the questions behind them, and suites."""

import re

import pytest

from spiral.api.errors import SpiralError
from spiral.config.loading import parse_plugin
from spiral.config.schema import PluginConfig
from spiral.evaluation.benchmarks.benchmark import Asking, Chosen, check_chosen, load_benchmark, parse_chosen
from spiral.evaluation.benchmarks.suites import Suite, SuiteGame, chosen_of, suite_named


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["math500"], [("math500", {}, 1)]),
        (
            ["math500,aime24@32,reasoning_gym/chain_sum"],
            [("math500", {}, 1), ("aime24", {}, 32), ("reasoning_gym/chain_sum", {}, 1)],
        ),
        (["a:x=1,y=two@4,b", "c"], [("a", {"x": 1, "y": "two"}, 4), ("b", {}, 1), ("c", {}, 1)]),
        (['a:path="my, file=1@2.jsonl",n=3'], [("a", {"path": "my, file=1@2.jsonl", "n": 3}, 1)]),
        (["a:path=x@home/b.jsonl"], [("a", {"path": "x@home/b.jsonl"}, 1)]),
        (["a, b@2 "], [("a", {}, 1), ("b", {}, 2)]),
    ],
)
def test_benchmarks_are_named_as_other_plug_ins(texts, found):
    """NAME or NAME:key=value,key=value, and @k for k replies to a question."""
    chosen = parse_chosen(texts, Asking())
    assert [(one.plugin.name, one.plugin.args, one.asking.samples) for one in chosen] == found


@pytest.mark.parametrize(
    ("text", "temperature", "reason"),
    [
        ("", None, "no benchmark is named; give --tasks"),
        ("a@0", None, "a@0 asks for no reply; give @1 or more"),
        ("a@4", 0.0, "at temperature 0 they would all be alike"),
        ("a,b,a", None, "benchmark a is named twice"),
    ],
)
def test_what_cannot_be_asked_is_told(text, temperature, reason):
    with pytest.raises(SpiralError, match=re.escape(reason)):
        parse_chosen([text], Asking(temperature=temperature))


def test_an_unknown_benchmark_is_told_with_what_there_is(plugins):
    with pytest.raises(SpiralError, match=r"no benchmark named 'leters' .*did you mean 'letters'"):
        check_chosen([Chosen(PluginConfig("leters"))], plugins)
    with pytest.raises(SpiralError, match="its arguments are: num, salt, broken, long, twice, gold"):
        check_chosen([Chosen(PluginConfig("letters", {"nums": 2}))], plugins)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"num": 0}, "benchmark letters(num=0) holds no question"),
        ({"twice": True}, "has two questions of the id 'q0'"),
        ({"gold": ""}, "question 'q0' has no gold answer"),
    ],
)
def test_questions_that_cannot_be_asked_are_told(plugins, args, reason):
    with pytest.raises(SpiralError, match=re.escape(reason)):
        load_benchmark(Chosen(PluginConfig("letters", args)), plugins)


def test_the_content_is_that_of_the_questions_asked(plugins):
    """Equal for equal questions, another for other words, and for fewer."""

    def content(limit=None, **args):
        return load_benchmark(Chosen(PluginConfig("letters", args), Asking(limit=limit)), plugins).content

    assert content(num=4) == content(num=6, limit=4) == content(num=4)
    assert len({content(num=4), content(num=5), content(num=4, salt="a "), content(num=4, gold="cd")}) == 4


def test_the_papers_suite():
    """Eight benchmarks with 32 replies to each question of AIME and AMC, at temperature 0.6 and top-p 0.95, and three
    held-out games, each with the command that plays it."""
    suite = suite_named("spiral-paper")
    chosen = chosen_of([], suite)
    assert [one.asking.samples for one in chosen] == [1, 32, 32, 1, 32, 1, 1, 1]
    assert {(one.asking.temperature, one.asking.top_p) for one in chosen} == {(0.6, 0.95)}
    assert sum(game.held_out for game in suite.games) == 3
    assert suite.games[0].command("runs/a").startswith("spiral eval runs/a --game ")
    with pytest.raises(SpiralError, match=r"no suite 'paper' \(there are: spiral-paper\)"):
        suite_named("paper")


def test_what_is_asked_beside_a_suite_takes_the_place_of_its_own():
    """A benchmark of the suite's name keeps its number of replies, since only its file is told so; others come after;
    sampling that the command line gives holds for all."""
    suite = Suite("mine", "", ["a@4", "b"], Asking(temperature=0.6, top_p=0.95), [SuiteGame("g", "random", 8)])
    chosen = chosen_of(["c", "a:path=x"], suite, temperature=None, limit=3, top_p=1.0)
    assert [(one.label, one.asking.samples) for one in chosen] == [("a(path=x)", 4), ("b", 1), ("c", 1)]
    assert {(one.asking.temperature, one.asking.top_p, one.asking.limit) for one in chosen} == {(0.6, 1.0, 3)}


def test_the_games_of_a_suite_are_there(plugins):
    """Each can be made as `spiral eval` would, but for the opponent's address, which is the user's."""
    for game in suite_named("spiral-paper").games:
        named = parse_plugin(game.game)
        assert plugins.problem("game", named.name, named.args) is None
        assert plugins.problem("bot", **vars(parse_plugin(game.opponent))) is None
