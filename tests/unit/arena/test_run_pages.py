"""`spiral watch`: pages of runs while they train, made of what the runs write, and changing nothing of it."""

import json
import re
import urllib.request

import pytest
from click.testing import CliRunner

from spiral.arena import guard, run_pages
from spiral.arena.run_pages import application, duration, find_runs, stamp, summary
from spiral.commands.main import main
from tests.unit.arena.conftest import running
from tests.unit.arena.test_one_match import served

CONFIG = "games:\n- name: kuhn_poker\n  args: {}\nmodel:\n  name: byte-0.1m\nsteps: 40\n"


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run(tmp_path):
    """A run of 40 steps of two seconds each, ten of them done, whose last line is in the writing."""
    made = tmp_path / "runs" / "first"
    made.mkdir(parents=True)
    (made / "config.yaml").write_text(CONFIG)
    rows = [{"step": n, "time/step_s": 2.0, "learner/entropy": 0.5} for n in range(10)]
    rows[5] |= {"eval/kuhn_poker/nash_conv": 0.25}
    write(made / "metrics.jsonl", rows)
    with (made / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "time')
    turns = [
        {"player": n % 2, "move": move, "observation": "K", "reply": move} for n, move in enumerate(["bet", "call"])
    ]
    write(made / "episodes.jsonl", [{"step": 9, "game": "kuhn_poker", "turns": turns, "returns": [2.0, -2.0]}])
    write(made / "events.jsonl", [{"step": 8, "kind": "x", "sentence": "Entropy <b>fell</b>."}])
    return made


class Lobbyless:
    """What `served` asks of a lobby."""

    store = None


def pages(folder, monkeypatch):
    monkeypatch.setattr("tests.unit.arena.test_one_match.application", lambda lobby: application(folder))
    return served(Lobbyless())


def test_a_run_is_summed_up_from_what_it_wrote(run):
    """Half a line counts for nothing; the time left follows from the steps so far."""
    one = summary("first", run)
    assert (one.games, one.model, one.done, one.steps, one.left_s) == ("kuhn_poker", "byte-0.1m", 10, 40, 60.0)
    assert one.figures == (("NashConv kuhn_poker", "0.25"),)
    assert one.last_game == "kuhn_poker: bet call (2.0, -2.0)"
    assert one.health == "Entropy <b>fell</b>."


def test_a_run_that_has_just_begun_or_whose_files_are_damaged_is_shown_too(run):
    """Nothing is known of its end then."""
    for name in ("metrics.jsonl", "episodes.jsonl", "events.jsonl"):
        (run / name).write_bytes(b"\xff{[\n" * 3)
    assert (summary("a", run).done, summary("a", run).left_s, summary("a", run).last_game) == (0, None, "")
    (run / "metrics.jsonl").unlink()
    (run / "config.yaml").write_text("")
    assert (summary("a", run).done, summary("a", run).steps) == (0, None)


def test_the_table_has_all_runs_and_refreshes_by_itself(run, monkeypatch):
    """Text of a run is text, and each line leads to the run's page."""
    other = run.parent / "group" / "second"
    other.mkdir(parents=True)
    (other / "config.yaml").write_text(CONFIG)
    with pages(run.parent, monkeypatch) as page:
        status, text = page.ask("/")
        assert status == 200
        assert 'http-equiv="refresh"' in text
        assert "10 of 40" in text
        assert "1 min" in text
        assert "&lt;b&gt;fell" in text
        assert {"/runs/first", "/runs/group/second"} <= set(re.findall(r'href="([^"]+)"', text))
        assert page.ask("/runs/group/second")[0] == 200
        assert page.ask("/runs.css")[0] == 200
        assert page.ask("/runs/none")[0] == page.ask("/runs/..%2F..%2Fetc")[0] == 404


def test_a_runs_page_is_its_report_and_asks_for_more(run, monkeypatch):
    """Of this server alone; what a run wrote meanwhile is in the next answer."""
    with pages(run, monkeypatch) as page:  # the folder may be the run itself
        text = page.ask("/runs/first")[1]
        assert "connect-src 'self'" in text
        assert "default-src 'none'" in text
        told = json.loads(page.ask("/runs/first/state")[1])
        assert (told["done"], told["steps"], told["left_s"]) == (10, 40, 60.0)
        assert told["stamp"] == stamp(run)
        assert told["stamp"] in text
        write(run / "metrics.jsonl", [{"step": n, "time/step_s": 2.0} for n in range(12)])
        assert json.loads(page.ask("/runs/first/state")[1])["stamp"] != told["stamp"]
        assert told["stamp"] not in page.ask("/runs/first")[1]


def test_a_report_that_is_a_file_asks_nothing(run):
    """It is read without a server."""
    from spiral.reports.html.document import render
    from spiral.reports.html.records import collect

    assert "connect-src" not in render(collect(run))


def test_watching_changes_nothing(run, monkeypatch):
    """No file is made, and none is written."""
    before = {path: path.stat().st_mtime_ns for path in run.parent.rglob("*")}
    with pages(run.parent, monkeypatch) as page:
        for path in ("/", "/runs/first", "/runs/first/state"):
            assert page.ask(path)[0] == 200
    assert {path: path.stat().st_mtime_ns for path in run.parent.rglob("*")} == before


def test_a_folder_without_runs_is_watched_until_one_comes(tmp_path, monkeypatch):
    """Such as one in which a training is about to begin."""
    with pages(tmp_path, monkeypatch) as page:
        assert "No run is here yet" in page.ask("/")[1]
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "config.yaml").write_text(CONFIG)
        assert "/runs/a" in page.ask("/")[1]
    assert list(find_runs(tmp_path)) == ["a"]


def test_a_folder_that_is_not_there_is_told(tmp_path):
    """In a sentence, before anything is served."""
    result = CliRunner().invoke(main, ["watch", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "give a run, or the folder that holds runs" in result.output


@pytest.mark.parametrize(("seconds", "told"), [(None, "?"), (12.4, "12 s"), (600, "10 min"), (9000, "2.5 h")])
def test_times_are_said_as_a_reader_says_them(seconds, told):
    """In the largest unit that says enough."""
    assert duration(seconds) == told


def test_an_arena_shows_runs_among_its_own_pages(run, url, host, monkeypatch):
    """In the navigation of every page; a report keeps its own policy alone, since the arena's lets no script run that
    stands in the page, and all other pages keep the arena's."""
    with running(url, host, monkeypatch, runs=run.parent) as arena:
        for path in ("/", "/leaderboard", "/runs"):
            assert 'href="/runs"' in arena.ask(path)[1], path
        assert 'href="/runs/first"' in arena.ask("/runs")[1]
        told = json.loads(arena.ask("/runs/first/state")[1])
        assert (told["done"], told["steps"]) == (10, 40)
        assert '"all":"/runs"' in arena.ask("/runs/first")[1]
        for path, policy in (
            ("/runs/first", "frame-ancestors 'none'"),
            ("/", guard.HEADERS["content-security-policy"]),
        ):
            with urllib.request.urlopen(f"http://127.0.0.1:{arena.port}{path}", timeout=20) as answer:
                assert answer.headers.get_all("content-security-policy") == [policy]
                assert "nosniff" in answer.headers["x-content-type-options"]


def test_an_arena_without_runs_has_no_such_page(arena):
    """And no link to one."""
    assert arena.ask("/runs")[0] == 404
    assert "/runs" not in arena.ask("/")[1]


def test_an_arena_tells_of_a_folder_that_is_not_there(tmp_path):
    """Before it serves."""
    words = ["arena", "--games", "kuhn_poker", "--house", "random", "--db", f"sqlite:///{tmp_path}/a.db"]
    result = CliRunner().invoke(main, [*words, "--runs", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "give a run, or the folder that holds runs" in result.output


def test_what_a_run_wrote_is_read_once_for_all_who_look(run, monkeypatch):
    """Until it writes more."""
    read = []
    monkeypatch.setattr(run_pages, "summary", lambda name, path: read.append(name) or summary(name, path))
    with pages(run.parent, monkeypatch) as page:
        for _ in range(3):
            assert "10 of 40" in page.ask("/")[1]
        assert read == ["first"]
        write(run / "metrics.jsonl", [{"step": n, "time/step_s": 2.0} for n in range(12)])
        assert "12 of 40" in page.ask("/")[1]
    assert read == ["first", "first"]
