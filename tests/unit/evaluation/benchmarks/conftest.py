"""A tests-only plug-in with a benchmark of sums, tiny saved models, and the command line."""

import json
from dataclasses import dataclass

import pytest
from click.testing import CliRunner

from spiral import hookimpl
from spiral.commands.main import main
from spiral.plugins.registry import Plugins
from spiral.training.session import train

TINY = {
    "steps": 2, "rollout.episodes": 8, "warm_start": {"max_steps": 0, "cache": False}, "loggers": [],
    "evaluate.every": 0, "checkpoint": {"every": 1, "keep": 2}, "model.args.context": 96,
}  # fmt: skip


@dataclass(frozen=True)
class Letters:
    """Right is a reply with an even number of characters, and a third of a grade goes to one that begins below `m`:
    a model with random weights gets some of each."""

    id: str
    prompt: str
    gold: str = "ab"

    def grade(self, reply):
        if "!" in self.prompt and reply != self.gold:
            raise ValueError("the grader does not read this")
        return 1.0 if len(reply) % 2 == 0 else (1 / 3 if reply < "m" else 0.0)


def letters(num: int = 12, salt: str = "", broken: bool = False, long: int = 0, twice: bool = False, gold: str = "ab"):
    """Questions about nothing. broken: the grader of the third fails. long: the second has so many characters."""
    prompts = [f"{salt}question {n}" for n in range(num)]
    if broken:
        prompts[2] += "!"
    if long:
        prompts[1] += "x" * long
    return [Letters(f"q{0 if twice else n}", prompt, gold) for n, prompt in enumerate(prompts)]


class Letterbox:
    @hookimpl
    def register_benchmarks(self, register):
        register("letters", letters)
        register("numbers", lambda num=5: letters(num, "number "))


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    """What is installed, and the benchmarks of this file."""
    installed = Plugins.installed

    def with_letters():
        found = installed()
        found.add(Letterbox(), "letterbox")
        return found

    monkeypatch.setattr(Plugins, "installed", with_letters)
    return with_letters()


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run of a byte model with checkpoints of steps 1 and 2."""
    path = tmp_path_factory.mktemp("benched") / "run"
    train(TINY, run_dir=path, quiet=True)
    return path


@pytest.fixture
def bench():
    """bench(*words, code=0): what the command printed, its JSON where that is asked for."""

    def call(*words, code=0):
        done = CliRunner().invoke(main, ["bench", *map(str, words)], catch_exceptions=False)
        assert done.exit_code == code, done.output
        if code:
            return done.stderr
        return json.loads(done.stdout) if "--json" in words else done.stdout

    return call
