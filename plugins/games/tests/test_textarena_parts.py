"""The parts of the TextArena adapter that are the same for all environments: f-strings, generators, word lists."""

import ast
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest
from spiral_games.textarena import TextArenaGame, environment_ids
from spiral_games.textarena import dictionaries as words
from spiral_games.textarena.chance import Chance, stand_in
from spiral_games.textarena.fstring_backport import for_python_311

from spiral.testing import check_game

ta = pytest.importorskip("textarena")


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ("""f"{d["k"]}" """, """f\"\"\"{d["k"]}\"\"\" """),
        ("""f'{d['k']:>{w["x"]}}'""", """f'''{d['k']:>{w["x"]}}'''"""),
        ("""f"{', '.join([f"{c['r']}" for c in x])}" """, """f\"\"\"{', '.join([f"{c['r']}" for c in x])}\"\"\" """),
        ("""f"{{a}} {b}" # f"{d["k"]}\n""", """f"{{a}} {b}" # f"{d["k"]}\n"""),
        ("""'f"{' + rf"\\{x}" """, """'f"{' + rf"\\{x}" """),
        ('x = {"a": f"{b}"}', 'x = {"a": f"{b}"}'),
    ],
)
def test_only_f_strings_that_hold_their_own_quote_change(new, old):
    assert for_python_311(new) == old
    ast.parse(old)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="later versions read these files as they are")
@pytest.mark.parametrize(
    "name", ["Chess", "Checkers", "ReverseTicTacToe", "IteratedStagHunt", "UltimateTexasHoldem", "Coup"]
)
def test_environments_that_only_python_312_reads_become_readable(name):
    source = (Path(ta.__file__).parent / "envs" / name / "env.py").read_text(encoding="utf-8")
    with pytest.raises(SyntaxError):
        ast.parse(source)
    ast.parse(for_python_311(source))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_all_that_was_readable_means_the_same_after_rewriting():
    readable = 0
    for path in sorted(Path(ta.__file__).parent.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        try:
            tree = ast.dump(ast.parse(source))
        except SyntaxError:
            continue
        assert ast.dump(ast.parse(for_python_311(source))) == tree, path
        readable += 1
    assert readable > 200


def test_a_matchs_generators_are_its_own_and_nested_matches_come_back():
    import textarena.core as core

    stand_in()
    one, two = Chance(1), Chance(2)
    expected = [random.Random(1).random(), random.Random(2).random()]
    with one:
        with two:
            second = core.random.random()
        first = core.random.random()
    assert [first, second] == expected
    before = random.getstate()
    core.random.seed(7)  # outside any match: the process's own generator, as ever
    assert random.getstate() == random.Random(7).getstate()
    random.setstate(before)


def test_a_pickled_generator_goes_on_where_it_was():
    chance = Chance(3)
    chance.random.random()
    chance.numpy.rand()
    again = pickle.loads(pickle.dumps(chance))
    assert again.random.random() == chance.random.random()
    assert again.numpy.rand() == chance.numpy.rand()


def test_word_lists_are_made_once_and_a_slower_process_takes_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = words.stand_in_corpora()
    basic = (made / "corpora" / "words" / "en-basic").read_text().split()
    assert len(basic) == words.NUM_BASIC == len(set(basic))
    assert all(word.isalpha() and word.islower() for word in basic)
    mark = made / "mark"
    mark.touch()
    is_dir = Path.is_dir  # as if the other process had not finished when this one looked
    monkeypatch.setattr(Path, "is_dir", lambda path: not path.name.startswith("nltk-data") and is_dir(path))
    assert words.stand_in_corpora() == made
    assert mark.exists()
    assert [path.name for path in made.parent.iterdir()] == [made.name]


def test_word_lists_that_do_not_fit_into_the_cache_are_made_for_this_process(tmp_path, monkeypatch):
    """A full disk: nothing half written stays in the cache, and the games play."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "other").mkdir()
    monkeypatch.setattr(words.tempfile, "tempdir", str(tmp_path / "other"))
    write_text = Path.write_text

    def full(path, text, **how):
        write_text(path, text[:10], **how)
        if tmp_path / "cache" in path.parents:
            raise OSError(28, "No space left on device")
        return write_text(path, text, **how)

    monkeypatch.setattr(Path, "write_text", full)
    made = words.stand_in_corpora()
    assert made.parent == tmp_path / "other"
    assert len((made / "corpora" / "words" / "en-basic").read_text().split()) == words.NUM_BASIC
    assert [*(tmp_path / "cache" / "spiral-games").iterdir()] == []


@pytest.mark.parametrize(
    "env",
    ["TicTacToe-v0", "Snake-v0", "GameOfPureStrategy-v0", "GuessTheNumber-v0", "ThreePlayerTicTacToe-v0", "PigDice-v0"],
)
def test_the_conformance_kit_finds_nothing(env):
    assert check_game(lambda: TextArenaGame(env, max_turns=30), num_matches=4) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_conformance_kit_finds_nothing_that_the_table_does_not_say():
    from spiral_games.textarena import catalogue as table

    found = {}
    for env in environment_ids():
        row = table.rows()[env]
        if row.conformance or row.steps_s < 300:
            continue
        findings = check_game(lambda env=env: TextArenaGame(env, max_turns=20), num_matches=2)
        if findings:
            found[env] = findings
    assert found == {}


@pytest.mark.slow
def test_matches_do_not_depend_on_the_seed_of_hashes():
    code = (
        "import random; from spiral_games.textarena import TextArenaGame\n"
        "for env in ('WordChains-v0', 'SpellingBee-v0', 'Taboo-v0-full', 'Codenames-v0', 'IteratedStagHunt-v0'):\n"
        "    g, r = TextArenaGame(env), random.Random(1); g.reset(random.Random(1))\n"
        "    for _ in range(5): g.play(g.sample_move(r))\n"
        "    print([g.observe(p) for p in range(g.num_players)])\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1
