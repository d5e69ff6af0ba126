"""Runs, benches and scripted judges, made small and by hand; no test here asks a network or the user's own cache."""

import json
from types import SimpleNamespace

import pytest
from spiral_opponents.openai_chat import bot as remote

from spiral.config.loading import dump, load
from spiral.evaluation.patterns.record import Analysis, run_analysis
from spiral.plugins.registry import Plugins
from spiral.testing import ChatServer


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIRAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "BACK_OFF_S", 0.01)


@pytest.fixture(scope="session")
def plugins():
    return Plugins.installed()


@pytest.fixture(scope="session")
def config_text():
    return dump(load())


def episode(step, replies, game="kuhn_poker", policies=("learner", "bot:random"), deal=0):
    """A line of episodes.jsonl in which the policies reply in turn."""
    written = [policies[n % len(policies)].startswith(("learner", "snapshot")) for n in range(len(replies))]
    turns = [
        {"player": n % len(policies), "observation": "kuhn p0 J", "reply": text, "move": "bet", "logprob": logprob}
        for n, (text, logprob) in enumerate(zip(replies, [-1.0 if w else None for w in written], strict=True))
    ]
    return {"step": step, "game": game, "deal": deal, "policies": list(policies), "turns": turns}


@pytest.fixture
def make_run(tmp_path, config_text):
    """make_run(name, [(step, game, reply), ...]) -> the run's directory; a mapping stands for a line of its own."""

    def make(name, episodes):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(config_text)
        rows = [
            one if isinstance(one, dict) else episode(one[0], [one[2], "check"], game=one[1], deal=n)
            for n, one in enumerate(episodes)
        ]
        (folder / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    return make


@pytest.fixture
def make_bench(tmp_path):
    """make_bench(name, {model: step}, [(model, benchmark, task, text, grade), ...]) -> the path of bench.json."""

    def make(name, models, replies):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        listed = [{"name": model, "kind": "run", "step": step} for model, step in models.items()]
        (folder / "bench.json").write_text(json.dumps({"models": listed}))
        rows = [
            {"model": m, "benchmark": b, "task": t, "sample": 0, "finish": "stop", "text": text, "grade": grade}
            for m, b, t, text, grade in replies
        ]
        (folder / "replies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder / "bench.json"

    return make


def text_of(request):
    """The trace in a judge's request, without the marks around it."""
    return "\n".join(request["messages"][1]["content"].splitlines()[2:-1])


def patterns_of(request):
    """The keys of a request's patterns, with what is said of each."""
    lines = request["messages"][0]["content"].splitlines()
    return dict(line.split(". ", 1) for line in lines if line.startswith("P") and line[1:2].isdigit())


def by_words(request):
    """A judge that finds a case by `If`, a value by `expected value`, a regularity by `pattern`, in either wording."""
    text, said = text_of(request), {}
    marks = {"case": "If ", "likely": "expected value", "regular": "pattern"}
    for key, asked in patterns_of(request).items():
        word = next((word for sign, word in marks.items() if sign in asked), "never")
        said[key] = {"reason": f"looked for {word!r}", "shown": word in text}
    return json.dumps(said)


@pytest.fixture
def judge():
    """judge(answers) -> a running chat server; by itself one that judges by words."""
    servers = []

    def make(answers=by_words):
        servers.append(ChatServer(answers))
        return servers[-1].__enter__()

    yield make
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture
def analyse(tmp_path, plugins):
    """analyse(server, *sources, args=",max_calls=3", ...) -> the record and its traces."""

    def run(server, *sources, args="", **asked):
        judges = asked.pop("judges", None) or [f"remote:model=any,url={server.url},retries=0,timeout_s=5{args}"]
        out = asked.pop("out", tmp_path / "out")
        return run_analysis(Analysis([str(s) for s in sources], judges, out, **asked), plugins)

    return run


@pytest.fixture(scope="session")
def said():
    """What tests need of this file beside its other fixtures."""
    return SimpleNamespace(
        cases="If the other one holds a king, betting loses. If it holds a jack, betting wins. So I bet.",
        value="I win 1 with chance 2/3 and lose 2 with chance 1/3: the expected value is 0.",
        plain="I bet.",
        paper=["case by case analysis", "expected value calculation", "pattern recognition"],
        episode=episode,
        by_words=by_words,
        text_of=text_of,
        patterns_of=patterns_of,
    )
