"""The conformance kit on whatever is installed, and its public fakes."""

import random
import subprocess
import sys

import pytest

from spiral import LEARNER, Request, SpiralError
from spiral.api.records import Sampling
from spiral.plugins.registry import Plugins
from spiral.policies.pool import Pool
from spiral.testing import (
    CHECKED_KINDS,
    ScriptedBot,
    ScriptedEngine,
    check,
    make_episode,
    make_trajectory,
)

PLUGINS = Plugins.installed()
WITH_A_KIT = [r for r in PLUGINS.registrations() if r.kind in CHECKED_KINDS and not r.members]


@pytest.mark.parametrize("plugin", WITH_A_KIT, ids=lambda r: f"{r.kind}-{r.name}")
def test_everything_installed_keeps_its_promises(plugin):
    assert check(PLUGINS, plugin.kind, plugin.name) == []


def test_a_plugin_that_cannot_be_made_by_itself_says_so():
    plugins = Plugins()
    plugins._table["game", "needy"] = PLUGINS.find("game", "kuhn_poker").__class__(
        "game", "needy", lambda rounds: None, "acme", "1"
    )
    (fault,) = check(plugins, "game", "needy")
    assert "default arguments" in fault
    assert "rounds" in fault


def test_an_unknown_name_is_the_users_fault():
    with pytest.raises(SpiralError, match="no bot named 'nobody'"):
        check(PLUGINS, "bot", "nobody")


# The fakes.


def request(number, policy=LEARNER, prompt=(1, 2), max_new_tokens=8):
    return Request(number, policy, prompt, Sampling(max_new_tokens, (9,)), seed=0)


def test_the_scripted_engine_answers_and_remembers():
    engine = ScriptedEngine(lambda asked: [*asked.prompt, 9], logprob=-0.25)
    asked = [request(0), request(1, prompt=(3,))]
    for one in asked:
        engine.submit(one)
    done = engine.step()
    assert [(c.request_id, c.ids, c.finish, c.version) for c in done] == [
        (0, (1, 2, 9), "stop", 0),
        (1, (3, 9), "stop", 0),
    ]
    assert done[0].logprobs == (-0.25, -0.25, -0.25)
    assert engine.requests == asked
    assert engine.step() == []


def test_the_scripted_engine_can_be_late_and_cuts_long_replies():
    engine = ScriptedEngine({(1, 2): [5, 6, 9]}, delay=2)
    engine.submit(request(0, max_new_tokens=2))
    assert engine.step() == []
    assert engine.step() == []
    (done,) = engine.step()
    assert (done.ids, done.finish) == ((5, 6), "length")


def test_the_scripted_engine_keeps_the_promises_of_an_engine():
    engine = ScriptedEngine(lambda asked: [9])
    with pytest.raises(SpiralError, match="no weights for 'snapshot:1'"):
        engine.submit(request(0, policy="snapshot:1"))
    engine.load_weights("snapshot:1", {}, version=7)
    engine.submit(request(0, policy="snapshot:1"))
    with pytest.raises(SpiralError, match="in flight"):
        engine.load_weights("snapshot:1", {}, version=8)
    with pytest.raises(ValueError, match="already in flight"):
        engine.submit(request(0))
    assert engine.step()[0].version == 7
    assert engine.loaded == [("snapshot:1", 7)]


def test_the_scripted_bot():
    game, bot = PLUGINS.make("game", "kuhn_poker"), ScriptedBot(["check"])
    game.reset_to(("KJ",))
    assert bot.choose(game, 0, random.Random(0)) == "check"
    assert bot.asked == [(0, "kuhn p0 K")]
    with pytest.raises(SpiralError, match="asked for move 2 and has only 1"):
        bot.choose(game, 0, random.Random(0))


def test_made_episodes_fit_the_pool():
    pool = Pool(PLUGINS)
    pool.results.record([make_episode((1.0, -1.0), policies=[LEARNER, "bot:random"])])
    assert pool.results.tally("game", LEARNER, ["bot:random"], 0) == (1, 0, 0)
    assert make_trajectory(2.0, num_turns=3).reward == 2.0


def test_the_kit_needs_neither_pytest_nor_torch():
    code = "import sys, spiral.testing; print([m for m in ('torch', 'transformers', 'pytest') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
