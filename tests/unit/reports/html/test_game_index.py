"""The index of a run's games: names once, players in order, and only what is a game."""

from spiral.reports.html.game_index import game_index
from spiral.runs.metric_names import match, nash_conv, of_game, rating


def names(configured=(), metrics=(), others=()):
    return [game["name"] for game in game_index(configured, metrics, others)]


def test_a_game_with_arguments_is_known_by_what_was_measured_of_it():
    measured = [of_game("play", "nim(piles=3)", "games"), nash_conv("kuhn_poker")]
    assert names(["nim", "kuhn_poker", "later"], measured) == ["kuhn_poker", "later", "nim(piles=3)"]


def test_games_come_from_every_file_and_once():
    assert names(["a"], [rating("b"), match("c", "a", 0, "win")], ["b", "d", "a"]) == ["a", "b", "c", "d"]


def test_an_evaluation_of_something_else_makes_no_game():
    assert names(["a"], ["eval/some_benchmark/accuracy", "play/illegal_rate", "learner/kl"]) == ["a"]


def test_a_group_has_quantities_of_the_game_and_of_its_players_in_order():
    metrics = [of_game("play", "g", q) for q in ("games", "return_p10", "return_p2", "return_p0")]
    [game] = game_index([], metrics, [])
    assert game["play"]["whole"] == {"games": "play/g/games"}
    assert [row["player"] for row in game["play"]["by_player"]["return"]] == [0, 2, 10]
    assert game["exact"] == game["health"] == game["pool"] == {"whole": {}, "by_player": {}}


def test_each_opponent_has_one_match_with_its_quantities():
    metrics = [match("g", o, p, q) for q in ("win", "draw") for p in (1, 0) for o in ("a/b", "a")]
    [game] = game_index([], metrics, [])
    assert [m["opponent"] for m in game["matches"]] == ["a/b", "a"]
    assert game["matches"][0]["by_player"]["draw"] == [
        {"player": 0, "name": "eval/g/vs/a/b/p0/draw"},
        {"player": 1, "name": "eval/g/vs/a/b/p1/draw"},
    ]
