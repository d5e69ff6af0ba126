"""`spiral patterns` on the command line: tables, JSON, a page, and one sentence for whatever cannot be done."""

import json
import re
import shutil
import subprocess

import pytest
from click.testing import CliRunner

from spiral.commands.main import main


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        return CliRunner().invoke(main, ["patterns", *map(str, words)])

    return run


def embedded(page):
    """The data that a page draws itself from."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_a_url_and_a_model_are_enough(make_run, make_bench, judge, command, tmp_path, said):
    """The tables name what was judged, and the page holds each trace with its verdicts and reasons."""
    texts = [said.cases if step > 5 else said.plain for step in range(12)]
    run = make_run("mine", [(step, "kuhn_poker", text) for step, text in enumerate(texts)])
    bench = make_bench("b", {f"{run}@12": 12}, [(f"{run}@12", "math500", "q1", said.value, 1.0)])
    server = judge()
    done = command(run, bench, "--judge", server.url, "--judge-model", "any", "--stages", "2")
    assert done.exit_code == 0, done.output
    assert {request["model"] for request in server.requests} == {"any"}
    assert {request["temperature"] for request in server.requests} == {0}
    for words in ("case by case analysis", "kuhn_poker", "math500", "Cohen's kappa", "games against tasks", "100% ["):
        assert words in done.output
    [page] = (tmp_path / "patterns").rglob("report.html")
    assert page.parent.name == "mine+b"
    data = embedded(page.read_text())
    assert {trace["text"] for trace in data["shown"]} == {said.plain, said.cases, said.value}
    assert all(len(verdict["reasons"]) == 3 for trace in data["shown"] for verdict in trace["verdicts"])
    assert "://" not in re.sub(r"http://(www\.w3\.org|127\.0\.0\.1)", "", page.read_text())


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


def dumped(path, profile):
    """The elements of a page as a browser drew them, without the data and the scripts."""
    asked = [str(BROWSER), *QUIET, f"--user-data-dir={profile}", "--dump-dom", path.as_uri()]
    return subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True).stdout.split('id="data"')[0]


@pytest.mark.skipif(BROWSER is None, reason="no chromium to draw the page in")
def test_a_browser_draws_the_page(make_run, make_bench, judge, command, tmp_path, said):
    """Every section is there, hostile text is in no element of its own, a trace without verdicts says why; and a page is
    drawn where no trace has any."""
    hostile = f"{said.cases} <img src=x onerror=alert(1)>"
    run = make_run("mine", [(step, "kuhn", f"{hostile} {step}") for step in range(4)])
    bench = make_bench("b", {f"{run}@3": 3}, [(f"{run}@3", "math500", "q1", said.value, 1.0)])
    # No verdict on the first trace, which is the one that the page opens.
    server = judge(lambda request: "no" if f"{hostile} 0" in said.text_of(request) else said.by_words(request))
    command(run, bench, "--judge", server.url, "--judge-model", "any", "--stages", "2", "--out", "out")
    dom = dumped(tmp_path / "out" / "report.html", tmp_path / "profile")
    for part in ("shares", "transfer", "changes", "agreement", "traces", "rubric"):
        assert f'id="{part}"' in dom, part
    assert "Not every trace has a verdict" in dom
    assert "nonsense" in dom
    assert "<img" not in dom
    command(run, bench, "--judge", f"remote:model=b,url={server.url},max_calls=0", "--out", "out")
    dom = dumped(tmp_path / "out" / "report.html", tmp_path / "profile")
    assert "Ended early" in dom
    assert 'id="traces"' in dom


def test_json_is_the_record(make_run, judge, command):
    done = command(make_run("a", [(0, "kuhn", "x")]), "--judge", judge().url, "--judge-model", "any", "--json")
    assert json.loads(done.stdout)["judged"] == 1


def test_a_partial_result_is_shown_and_ends_with_the_reason_and_exit_code_2(make_run, judge, command):
    """What was paid for is told before the sentence that says why there is no more."""
    run = make_run("a", [(0, "kuhn", str(n)) for n in range(5)])
    server = judge()
    text = f"remote:model=any,url={server.url},max_calls=3,max_concurrent=1"
    done = command(run, "--judge", text)
    assert done.exit_code == 2
    assert "1 of 5" in done.stdout
    assert "note: partial result, 1 of 5 traces" in done.stdout
    assert re.search(r"spiral: .*budget of 3 calls.*the same command goes on there", done.stderr)
    assert "Traceback" not in done.output
    assert command(run, "--judge", text.replace("=3", "=30")).exit_code == 0
    assert len(server.requests) == 10


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["RUN", "--judge", "http://127.0.0.1:1/v1"], "names a server and no model; give --judge-model"),
        (["RUN", "--judge", "no_such_bot"], "no_such_bot"),
        (["RUN", "--judge", "remote:model=any,url=nowhere"], "not of the form"),
        (["RUN", "--judge", "random"], "answers no chat"),
        (["none", "--judge", "remote:model=any,url=http://127.0.0.1:1/v1"], "none is neither a run nor a bench"),
        (["RUN", "--rubric", "none.yaml", "--judge", "random"], "none.yaml cannot be read"),
        (["RUN", "--own-only", "--judge", "random"], "no pattern to look for"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(make_run, command, words, says, tmp_path):
    run = make_run("a", [(0, "kuhn", "x")])
    done = command(*[run if word == "RUN" else word for word in words])
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("spiral: ")
    assert says in done.stderr
    assert not (tmp_path / "patterns").exists()
