"""The pool: which snapshots stay, who plays what, and that all of it survives a restart."""

import itertools
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spiral import hookimpl
from spiral.api.errors import RunError
from spiral.api.records import LEARNER, learner_id
from spiral.plugins.registry import Plugins
from spiral.policies.pool import Pool, snapshot_id, snapshot_step
from spiral.policies.retention import retained
from spiral.runs import snapshots
from spiral.testing import ScriptedBot, make_episode


@pytest.mark.parametrize(
    ("rule", "size", "expected"),
    [
        ("last", 3, [30, 40, 50]),
        ("last", 1, [50]),
        ("spaced", 1, [50]),
        ("spaced", 2, [0, 50]),
        ("spaced", 3, [0, 20, 50]),
        ("spaced", 9, [0, 10, 20, 30, 40, 50]),
        ("best", 3, [10, 20, 50]),
        ("best", 1, [50]),
    ],
)
def test_which_snapshots_stay(rule, size, expected):
    """By hand, for steps 0 to 50 with 20 and 10 the best; the newest always stays."""
    worth = {0: 1.0, 10: 8.0, 20: 9.0, 30: 2.0, 40: 3.0, 50: 0.0}
    assert retained([0, 10, 20, 30, 40, 50], size, rule, worth) == expected


@given(st.integers(1, 10), st.integers(1, 60))
def test_spaced_snapshots_cover_the_run(size, num):
    """Taken one by one, the first and the newest stay and no gap is more than twice what an even spread would need."""
    steps: list[int] = []
    for step in range(num):
        steps = retained([*steps, step], size, "spaced", {})
    assert steps[-1] == num - 1
    assert len(steps) == min(size, num)
    if size > 2 and num > size:
        assert steps[0] == 0
        gaps = [b - a for a, b in itertools.pairwise(steps)]
        assert max(gaps) <= 2 * (num - 1) / (size - 1) + 1


def _pool(*members):
    pool = Pool(Plugins())
    for name, games in members:
        pool.add_bot(name, ScriptedBot([]))
        pool.add_member(name, games)
    return pool


def test_members_play_the_games_they_are_named_for():
    """No games named: all games. The snapshots come first, oldest first."""
    pool = _pool(("bot:a", []), ("bot:b", ["chess"]))
    for step in (0, 10):
        pool.add_snapshot(step, 8, "last")
    assert pool.view().opponents("go") == ["snapshot:0", "snapshot:10", "bot:a"]
    assert pool.view().opponents("chess") == ["snapshot:0", "snapshot:10", "bot:a", "bot:b"]


def test_a_snapshot_that_had_to_go_is_nobody_any_more():
    """It leaves the pool and the ratings, and its id is told so that the engine can drop its weights."""
    pool = _pool()
    pool.add_snapshot(0, 2, "last")
    pool.results.record([make_episode((1, -1), policies=[LEARNER, "snapshot:0"])])
    assert pool.add_snapshot(10, 2, "last") == []
    assert pool.add_snapshot(20, 2, "last") == ["snapshot:0"]
    assert "snapshot:0" not in pool
    assert "snapshot:0" not in pool.results.rated("game")
    assert pool.snapshots() == ["snapshot:10", "snapshot:20"]


def test_the_best_are_those_with_the_highest_rating():
    """The snapshot that lost everything goes, not the oldest."""
    pool = _pool()
    pool.add_snapshot(0, 3, "best")
    pool.add_snapshot(10, 3, "best")
    for _ in range(20):
        pool.results.record([make_episode((1, -1), policies=["snapshot:0", "snapshot:10"])])
    pool.add_snapshot(20, 3, "best")
    assert pool.add_snapshot(30, 3, "best") == ["snapshot:10"]


def test_a_snapshot_taken_twice_is_one():
    """A resumed run may take the snapshot again that it took before it was killed."""
    pool = _pool()
    pool.add_snapshot(10, 3, "last")
    pool.add_snapshot(10, 3, "last")
    assert pool.snapshots() == ["snapshot:10"]


def test_the_state_survives_a_restart():
    """Snapshots, results and what the bots remember, through JSON; what a fresh pool had is replaced."""
    pool = _pool(("bot:a", []))
    pool.bot_of("bot:a").state = {"calls": 7}
    pool.add_snapshot(0, 3, "last")
    pool.results.record([make_episode((1, -1), policies=[LEARNER, "bot:a"])])
    saved = json.loads(json.dumps(pool.state))
    fresh = _pool(("bot:a", []))
    fresh.bot_of("bot:a").state = {"calls": 0}
    fresh.add_snapshot(5, 3, "last")
    fresh.state = saved
    assert fresh.state == pool.state
    assert fresh.snapshots() == ["snapshot:0"]
    assert "snapshot:5" not in fresh
    assert "snapshot:0" in fresh


def test_a_bot_that_is_made_after_the_restart_has_its_state_too():
    """A sampler may make a bot when it first seats it; until then a checkpoint keeps what an earlier one said of it."""

    class Counter:
        def __init__(self):
            self.state = {"calls": 0}

    class Bots:
        @hookimpl
        def register_bots(self, register):
            register("counter", Counter)

    plugins = Plugins()
    plugins.add(Bots(), "counters")
    pool = Pool(plugins)
    pool.bot_of(pool.bot("counter")).state = {"calls": 7}
    fresh = Pool(plugins)
    fresh.state = json.loads(json.dumps(pool.state))
    assert fresh.state == pool.state
    assert fresh.bot_of(fresh.bot("counter")).state == {"calls": 7}
    assert fresh.state == pool.state


def test_the_learners_rating_is_a_metric_once_it_met_somebody():
    """None for mirror games; mu and mu - 3 sigma afterwards, up with a win."""
    pool = _pool(("bot:a", []))
    pool.results.record([make_episode((1, -1))])
    assert pool.metrics() == {}
    pool.results.record([make_episode((1, -1), policies=[LEARNER, "bot:a"])])
    rating = pool.results.rating("game", LEARNER)
    assert pool.metrics() == {"pool/game/rating": rating.mu, "pool/game/rating_low": rating.mu - 3 * rating.sigma}
    assert rating.mu > 25


# On disk


def test_weights_come_back_as_they_were(tmp_path):
    """Bits, names and shapes."""
    weights = {"a.b": torch.randn(3, 4), "c": torch.arange(5.0).view(5, 1).T}
    snapshots.write(tmp_path / "s", 120, weights)
    back = snapshots.read(tmp_path / "s", 120)
    assert {*back} == {*weights}
    assert all(torch.equal(back[name], weights[name]) for name in weights)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_a_damaged_snapshot_is_one_sentence(tmp_path, damage):
    """Which file, and what to do."""
    snapshots.write(tmp_path, 1, {"a": torch.ones(1000)})
    [path] = tmp_path.iterdir()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else 500])
    with pytest.raises(RunError, match=r"snapshot .*step-000001.* cannot be read .*put it back"):
        snapshots.read(tmp_path, 1)


def test_only_what_nobody_needs_is_deleted(tmp_path):
    """Wanted by the pool, wanted by a checkpoint that is still there, wanted by nobody."""
    for step in (0, 10, 20, 30):
        snapshots.write(tmp_path / "snapshots", step, {"a": torch.ones(1)})
    checkpoint = tmp_path / "step-000020"
    checkpoint.mkdir()
    (checkpoint / "state.json").write_text(json.dumps({"plugins": {"pool": {"snapshots": {LEARNER: [10, 20]}}}}))
    snapshots.prune(tmp_path / "snapshots", LEARNER, [20, 30], [checkpoint])
    assert sorted(p.stem for p in (tmp_path / "snapshots").iterdir()) == ["step-000010", "step-000020", "step-000030"]


def test_ids_of_snapshots():
    """As records and tables show them."""
    assert snapshot_id(120) == "snapshot:120"
    assert snapshot_id(120, learner_id("second")) == "snapshot:second:120"
    assert snapshot_step("snapshot:120") == 120
    assert snapshot_step("snapshot:second:120", learner_id("second")) == 120
    others = [
        ("snapshot:second:120", LEARNER),
        ("snapshot:120", learner_id("second")),
        (LEARNER, LEARNER),
        ("bot:7", LEARNER),
    ]
    assert [snapshot_step(policy, learner) for policy, learner in others] == [None] * 4


def test_games_are_played_for_learners_by_their_shares():
    """Shares 1, 2 and 1/2: of each 7 groups 2, 4 and 1, as near as can be at every length; the first is the main one's
    or that of the largest share."""
    shares = {LEARNER: 1.0, learner_id("a"): 2.0, learner_id("b"): 0.5}
    pool = Pool(Plugins(), learners=shares)
    assert [Pool(Plugins()).learner_of(group) for group in (0, 5)] == [LEARNER, LEARNER]
    played = [pool.learner_of(group) for group in range(70)]
    for num in range(1, 71):
        for learner, share in shares.items():
            assert abs(played[:num].count(learner) - num * share / 3.5) < 1
    assert [played.count(learner) for learner in shares] == [20, 40, 10]
    assert pool.learner_of(3) == played[3]


def test_each_learner_has_its_own_past_and_scores():
    """A win of one over the other is a loss of the other; snapshots leave by their own learner's number."""
    second = learner_id("second")
    pool = Pool(Plugins(), learners={LEARNER: 1.0, second: 1.0})
    for step in (0, 10):
        pool.add_snapshot(step, 2, "last", second)
    pool.add_snapshot(0, 2, "last")
    assert pool.add_snapshot(20, 2, "last", second) == ["snapshot:second:0"]
    assert (pool.snapshots(second), pool.snapshots()) == (["snapshot:second:10", "snapshot:second:20"], ["snapshot:0"])
    pool.results.record([make_episode((1, -1), policies=[LEARNER, second])])
    assert pool.view().results.score("game", second) == pytest.approx(2 / 3)
    assert pool.view(second).results.score("game", LEARNER) == pytest.approx(1 / 3)
    fresh = Pool(Plugins(), learners={LEARNER: 1.0, second: 1.0})
    fresh.state = json.loads(json.dumps(pool.state))
    assert fresh.state == pool.state
    assert fresh.snapshots(second) == pool.snapshots(second)
