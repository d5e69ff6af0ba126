"""Games that processes without an engine play: they ask those that have one."""

import time

import pytest

from spiral.api.records import LEARNER
from spiral.cluster.orders import Ticket
from tests.unit.cluster.played import config_of_games, moves


def _ready(games, num):
    assert games.fleet.wait(lambda: len(games.fleet.facts()) == num, 60.0)


@pytest.mark.parametrize(("engines", "workers"), [(1, 1), (1, 2), (2, 1)])
def test_workers_play_what_one_process_plays(made, engines, workers):
    """The same games with the same replies, for any number of either; engines are given no game, workers no weights."""
    games = made(config_of_games(), num=engines, workers=workers)
    _ready(games, engines + workers)
    for step in range(3):
        games.load(step)
        played = games.games.of_step(step)
        assert moves(played) == moves(games.alone(step))
        assert {turn.version for e in played for t in e.trajectories for turn in t.turns} == {step}
    given = {name.partition("-")[0] for name, orders in games.crew.ordered if orders.tickets}
    assert given == {"worker"}
    asked = {name for name, orders in games.crew.ordered if orders.requests}
    assert asked == {f"player-{n}" for n in range(engines)}


def test_a_worker_makes_no_model(made, monkeypatch):
    """Its prompts are written by the tokenizer that an engine's process gave it."""
    games = made(config_of_games(), num=1, workers=1)
    _ready(games, 2)
    monkeypatch.setattr("spiral.policies.loading.make_model", lambda *args: pytest.fail("a model was made"))
    monkeypatch.setattr("spiral.selfplay.setup.make_model", lambda *args: pytest.fail("a model was made"))
    games.crew.join("worker-1")
    _ready(games, 3)


@pytest.mark.parametrize("kind", ["player", "worker"])
def test_whoever_is_lost_the_games_are_the_same(made, kind):
    """Each third order of one kind kills the process that has it."""
    counts = {"player": 0, "worker": 0}

    def dies(name, order):
        mine = name.partition("-")[0]
        counts[mine] += 1
        return mine == kind and counts[mine] % (3 if kind == "worker" else 40) == 2

    games = made(config_of_games(), num=2, workers=2, dies=dies)
    for step in range(3):
        games.load(step)
        played = games.games.of_step(step)
        assert moves(played) == moves(games.alone(step))
        assert {turn.version for e in played for t in e.trajectories for turn in t.turns} == {step}
    assert games.crew.num_lost > 1


def test_snapshots_are_loaded_by_the_engines_when_a_worker_needs_them(made):
    """A policy that no game has is not loaded."""
    games = made(config_of_games(), num=1, workers=1)
    _ready(games, 2)
    for policy in ("snapshot:1", "snapshot:2"):
        games.engine.load_weights(policy, games.weights, 0)
        games.setup.completer.engine.load_weights(policy, games.weights, 0)
    games.load(0)
    draw = games.draws.draw(5, 0)
    line_up = type(draw)(**{**{f: getattr(draw, f) for f in draw.__slots__}, "policies": (LEARNER, "snapshot:2")})
    games.fleet.play([Ticket(0, line_up)])
    assert games.fleet.wait(lambda: games.fleet.results.num_done([(0, 0)]) == 1, 60.0)
    loaded = {load.policy for name, orders in games.crew.ordered if name == "player-0" for load in orders.loads}
    assert loaded == {LEARNER, "snapshot:2"}


def test_thoughts_of_limited_length_are_closed_by_the_worker(made):
    """A prompt format that puts ids into replies does so where the games are."""
    prompt = {"name": "chat", "args": {"thought_tokens": 4, "rules": False}}
    config = config_of_games(**{"prompt": prompt, "rollout.max_new_tokens": 30, "rollout.episodes": 8})
    games = made(config, num=1, workers=1)
    games.load(0)
    played = games.games.of_step(0)
    assert moves(played) == moves(games.alone(0))
    assert any(turn.forced for e in played for t in e.trajectories for turn in t.turns)


def test_games_go_on_while_new_weights_come(made):
    """Asynchronous by two: no reply is older than the bound, and each tells its version."""
    games = made(config_of_games(steps=6), staleness=2, num=2, workers=2)
    for step in range(5):
        games.load(step)
        played = games.games.of_step(step)
        versions = {turn.oldest_version for e in played for t in e.trajectories for turn in t.turns}
        assert len(played) == 24
        assert versions <= {*range(max(0, step - 2), step + 1)}


def test_waits_and_engines_are_drawn(made):
    """A worker's lane has what it played and where it waited; an engine's what it answered."""
    games = made(config_of_games(), num=1, workers=1)
    games.load(0)
    games.games.of_step(0)
    time.sleep(0.2)
    seen = {(span.lane, span.what) for span in games.games.take_spans()}
    assert seen >= {("worker-0", "playing"), ("worker-0", "waiting"), ("player-0", "answering")}
    assert {lane for lane, _ in seen} == {"worker-0", "player-0"}
