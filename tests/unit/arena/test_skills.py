"""Leaderboards by skill: the weighted mean of ratings in the games that ask for one, where enough matches were played."""

import json
import math
from html import unescape

import pytest
from click.testing import CliRunner

from spiral.api.errors import SpiralError
from spiral.api.skills import MAX_SKILLS, SKILLS, skills_of, skills_problem
from spiral.arena import match_log
from spiral.arena import skills as skills_module
from spiral.arena.history import PROVISIONAL
from spiral.arena.lobby import GameInfo
from spiral.arena.skills import Skills, with_skills
from spiral.commands.main import main
from spiral.testing import check_game
from tests.unit.arena.conftest import running
from tests.unit.testing.test_games import Race

GAMES = [
    GameInfo("kuhn_poker", 2, "", {"bluffing": 3.0, "theory_of_mind": 1.0}),
    GameInfo("kuhn_poker(rounds=5)", 2, "", {"bluffing": 1.0}),
    GameInfo("tic_tac_toe", 2, "", {"spatial_thinking": 2.0}),
]


def play(store, players, game, matches):
    for number in range(matches):
        match = store.now(match_log.start_match, game, number, [one.id for one in players])
        store.now(match_log.finish_match, match, [1.0, -1.0], "finished")


@pytest.fixture
def two(store):
    """ann beats bob in ten matches of one game and in twelve of another, and in nine of a third."""
    ann, bob = (store.add_player(name, "model")[0] for name in ("ann", "bob"))
    for game, matches in (("kuhn_poker", 10), ("kuhn_poker(rounds=5)", 12), ("tic_tac_toe", PROVISIONAL - 1)):
        play(store, (ann, bob), game, matches)
    return ann, bob


def test_a_skill_is_the_weighted_mean_of_ratings(store, two):
    """By hand: 3 and 1 parts of the two ratings, and the error of such a mean."""
    ann, bob = two
    one, other = store.rating(ann.id, "kuhn_poker"), store.rating(ann.id, "kuhn_poker(rounds=5)")
    first, second = Skills(store, GAMES).leaderboard("bluffing")
    assert (first.player.name, second.player.name) == ("ann", "bob")
    assert (first.games, first.matches) == (2, 22)
    assert first.rating.mu == pytest.approx((3 * one.mu + other.mu) / 4)
    assert first.rating.sigma == pytest.approx(math.hypot(3 * one.sigma, other.sigma) / 4)
    assert second.rating.low < first.rating.low
    (minded,) = [row for row in Skills(store, GAMES).of(ann) if row.skill == "theory_of_mind"]
    assert minded.rating == one


def test_a_game_with_too_few_matches_counts_for_no_skill(store, two, monkeypatch):
    """Nine are too few; the tenth counts."""
    monkeypatch.setattr(skills_module, "KEPT_S", 0.0)
    skills = Skills(store, GAMES)
    assert skills.leaderboard("spatial_thinking") == []
    assert {row.skill for row in skills.of(two[0])} == {"bluffing", "theory_of_mind"}
    play(store, two, "tic_tac_toe", 1)
    assert [row.player.name for row in skills.leaderboard("spatial_thinking")] == ["ann", "bob"]


def test_a_game_that_is_not_played_here_any_more_counts_for_no_skill(store, two):
    """Its ratings stay in the database."""
    (row, _) = Skills(store, GAMES[:1]).leaderboard("bluffing")
    assert row.games == 1


def test_guests_are_one_entry_and_who_was_banned_has_none(store, database, monkeypatch):
    """As on the other leaderboards."""
    from spiral.arena.administration import ban

    ann, (guest, _) = store.add_player("ann", "model")[0], store.add_player("Guest 1", "guest")
    play(store, (guest, ann), "kuhn_poker", PROVISIONAL)
    skills = Skills(store, GAMES)
    assert [row.player.name for row in skills.leaderboard("bluffing")] == ["Humanity", "ann"]
    monkeypatch.setattr(skills_module, "KEPT_S", 0.0)
    assert [row.player.name for row in skills.of(guest)] == ["Humanity"] * 2
    ban(database, "ann")
    assert [row.player.name for row in skills.leaderboard("bluffing")] == ["Humanity"]


def test_a_hosts_file_replaces_what_games_declare(tmp_path):
    """A label before a name, which holds for all arguments; a game that is not in it keeps its own."""
    path = tmp_path / "skills.yaml"
    path.write_text("kuhn_poker: {persuasion: 2}\nkuhn_poker(rounds=5): {}\n")
    assert [game.skills for game in with_skills(path, GAMES)] == [{"persuasion": 2}, {}, {"spatial_thinking": 2.0}]
    path.write_text("kuhn_poker: {persuasion: 2}\n")
    assert [game.skills for game in with_skills(path, GAMES)][:2] == [{"persuasion": 2}] * 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("chess: {bluffing: 1}", "names the game 'chess', which is not played here; there are: kuhn_poker,"),
        ("kuhn_poker: {blufing: 1}", "name 'blufing', which is none; did you mean 'bluffing'?"),
        ("kuhn_poker: {luck: 1}", "name 'luck', which is none; there are: strategic_planning,"),
        ("kuhn_poker: {bluffing: 0}", "give 'bluffing' the weight 0; make it a number above 0"),
        ("kuhn_poker: {bluffing: .inf}", "the weight inf"),
        ("kuhn_poker: {bluffing: true}", "the weight True"),
        ("kuhn_poker: [bluffing]", "write a mapping such as"),
        ("- kuhn_poker", "holds a list; write a mapping"),
        ("kuhn_poker: {", "is no YAML"),
        ("", "holds a NoneType; write a mapping"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, text, told):
    """With what to write."""
    path = tmp_path / "skills.yaml"
    path.write_text(text)
    with pytest.raises(SpiralError, match="--skills") as error:
        with_skills(path, GAMES)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_the_command_says_so_before_it_serves(tmp_path):
    """Exit code 2."""
    path = tmp_path / "skills.yaml"
    path.write_text("kuhn: {bluffing: 1}")
    words = [
        "arena",
        "--games",
        "kuhn_poker",
        "--house",
        "random",
        "--skills",
        str(path),
        "--db",
        f"sqlite:///{tmp_path}/a.db",
    ]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "names the game 'kuhn', which is not played here" in result.output


def test_pages_and_interface_have_a_leaderboard_a_skill(url, host, monkeypatch):
    """The rule is on the page; a player's page has its skills, and a game's page those that it asks for."""
    with running(url, host, monkeypatch) as arena:
        lobby = arena.lobby
        lobby.games.update({game.name: game for game in GAMES})
        ann, bob = (arena.store.add_player(name, "model")[0] for name in ("<ann>", "bob"))
        play(arena.store, (ann, bob), "kuhn_poker", PROVISIONAL)
        page = arena.ask("/leaderboard?skill=bluffing")
        assert page[0] == 404  # the skills are those of the games with which the arena was opened
    games = {game.name: game for game in GAMES}
    monkeypatch.setattr(
        "tests.unit.arena.conftest.GameInfo", lambda name, num, rules: games.get(name) or GameInfo(name, num, rules)
    )
    with running(url, host, monkeypatch) as arena:
        status, page = arena.ask("/leaderboard?skill=bluffing")
        assert status == 200
        assert "&lt;ann&gt;" in page
        assert f"once the player has played {PROVISIONAL} rated matches of it" in unescape(page)
        assert 'href="/leaderboard?skill=spatial_thinking"' in page
        rows = json.loads(arena.ask("/api/leaderboard?skill=bluffing")[1])
        assert [(row["name"], row["games"], row["matches"]) for row in rows] == [("<ann>", 1, 10), ("bob", 1, 10)]
        assert "No player has" in arena.ask("/leaderboard?skill=spatial_thinking")[1]
        assert "Theory of mind" in arena.ask("/players/bob")[1]
        assert "Spatial thinking" in arena.ask("/games/tic_tac_toe")[1]
        assert {game["name"]: game["skills"] for game in json.loads(arena.ask("/api/games")[1])}["tic_tac_toe"] == {
            "spatial_thinking": 2.0
        }
        for path in ("/leaderboard?skill=luck", "/api/leaderboard?skill=luck"):
            assert arena.ask(path)[0] == 404
        assert "there are: " in arena.ask("/api/leaderboard?skill=luck")[1]


def test_a_game_declares_its_skills():
    """The kit says what is wrong with them; a game that says nothing asks for none."""

    class Skilled(Race):
        skills = {"luck": 1}  # noqa: RUF012

    assert skills_of(Race()) == {}
    assert check_game(Race, num_matches=2) == []
    (violation,) = check_game(Skilled, num_matches=2)
    assert "its skills name 'luck'" in violation
    with pytest.raises(SpiralError, match="the skills of Skilled name 'luck'"):
        skills_of(Skilled())
    assert "name the 5 that matter most" in skills_problem(dict.fromkeys(SKILLS[: MAX_SKILLS + 1], 1))
