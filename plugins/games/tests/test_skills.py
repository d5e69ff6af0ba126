"""The skills that the first-party games ask for: data, which has to name games that there are."""

from spiral_games import skills
from spiral_games.textarena import TextArenaGame, environment_ids

from spiral.api.skills import skills_of, skills_problem
from spiral.plugins.registry import Plugins

NAMES = {one.partition("-v")[0] for one in environment_ids()}


def test_each_line_names_a_game_and_skills_with_a_reason():
    """No game is there twice, none is misspelt, and every native game and playable environment has a line."""
    lines = [line.split("\t") for line in _text().splitlines()[1:]]
    games = [line[0] for line in lines]
    assert len(set(games)) == len(games)
    native = {
        r.name for r in Plugins.installed().registrations() if r.kind == "game" and r.distribution == "spiral-games"
    }
    assert set(games) == (native - {"textarena", "openspiel"}) | {f"textarena/{name}" for name in NAMES}
    for game, declared, reason in lines:
        assert skills_problem(skills.skills_of(game)) is None, (game, declared)
        assert skills.skills_of(game), game
        assert reason.endswith("."), game


def test_games_declare_what_the_file_says():
    """Each native game its own line, and an environment that of its name, whatever its variant."""
    plugins = Plugins.installed()
    for name in skills.rows():
        if "/" not in name:
            assert skills_of(plugins.make("game", name)) == skills.skills_of(name), name
    assert TextArenaGame("KuhnPoker-v0-short").skills == skills.skills_of("textarena/KuhnPoker")
    assert TextArenaGame("Poker-v0").skills["bluffing"] == 3


def _text():
    from importlib import resources

    return resources.files("spiral_games").joinpath(skills.FILE).read_text(encoding="utf-8")
