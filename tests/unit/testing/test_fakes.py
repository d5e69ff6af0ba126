"""The public fakes answer as scripted, and raise what the real ones raise."""

import random

import pytest

from spiral import LEARNER, Request, SpiralError
from spiral.api.records import Sampling
from spiral.plugins.registry import Plugins
from spiral.policies.pool import Pool
from spiral.testing import ScriptedBot, ScriptedEngine, make_episode, make_trajectory

PLUGINS = Plugins.installed()


def request(number, policy=LEARNER, prompt=(1, 2), max_new_tokens=8):
    return Request(number, policy, prompt, Sampling(max_new_tokens, (9,)), seed=0)


def test_the_scripted_engine_answers_and_remembers():
    engine = ScriptedEngine(lambda request: [*request.prompt, 9], logprob=-0.25)
    requests = [request(0), request(1, prompt=(3,))]
    for each in requests:
        engine.submit(each)
    done = engine.step()
    assert [(c.request_id, c.ids, c.finish, c.version) for c in done] == [
        (0, (1, 2, 9), "stop", 0),
        (1, (3, 9), "stop", 0),
    ]
    assert done[0].logprobs == (-0.25, -0.25, -0.25)
    assert engine.requests == requests
    assert engine.step() == []


def test_the_scripted_engine_can_be_late_and_cuts_long_replies():
    engine = ScriptedEngine({(1, 2): [5, 6, 9]}, delay=2)
    engine.submit(request(0, max_new_tokens=2))
    assert engine.step() == []
    assert engine.step() == []
    (done,) = engine.step()
    assert (done.ids, done.finish) == ((5, 6), "length")


def test_the_scripted_engine_raises_what_an_engine_raises():
    engine = ScriptedEngine(lambda request: [9])
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


def test_made_episodes_can_be_recorded():
    pool = Pool(PLUGINS)
    pool.results.record([make_episode((1.0, -1.0), policies=[LEARNER, "bot:random"])])
    assert pool.results.score("game", "bot:random") > 0.5
    assert pool.results.num_recent("game", "bot:random") == 1.0
    assert make_trajectory(2.0, num_turns=3).reward == 2.0
