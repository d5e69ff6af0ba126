"""An engine that holds few policies is compared with the run before anything is trained, by the count that a plan of its
memory takes too."""

from types import SimpleNamespace

import pytest

from spiral.api.errors import RunError
from spiral.config.loading import load
from spiral.plugins.registry import Plugins
from spiral.policies.pool import Pool
from spiral.testing import ScriptedEngine
from spiral.training.components import check_capacity
from spiral.training.memory.settings import HeldPolicies, settings_of

PAST = {"pool": {"every": 10, "size": 3}, "opponents": "uniform_past", "evaluate": {"every": 5}}


def _completer(engine=None):
    return SimpleNamespace(engine=engine or ScriptedEngine(lambda request: [1]))


def test_a_run_of_more_policies_than_the_engine_holds_is_refused_at_its_start():
    """The learner, its average where one is kept and evaluated, the snapshots, and other runs in the same engine:
    counted, with the setting that would do. A model with an engine of its own takes no place."""
    completer = _completer()
    pool, engine, config = Pool(Plugins(), completer), completer.engine, load(None, [PAST])
    check_capacity(config, engine, pool)
    engine.capacity = 5
    check_capacity(config, engine, pool)
    pool.add_weights("model:elsewhere", _completer())
    check_capacity(config, engine, pool)
    engine.capacity = 4
    with pytest.raises(RunError, match=r"holds 4 policies .* and this run has 5: .* set engine.args.capacity=5 where"):
        check_capacity(config, engine, pool)
    check_capacity(load(None, [PAST, "learner.ema=0"]), engine, pool)
    check_capacity(load(None, [PAST, "evaluate.every=0"]), engine, pool)
    pool.add_weights("run:other@5")
    with pytest.raises(RunError, match=r"this run has 5: .* 0 average .*, 3 snapshots, 1 other runs' of the same"):
        check_capacity(load(None, [PAST, "learner.ema=0"]), engine, pool)


@pytest.mark.parametrize(
    ("changed", "num"),
    [
        ([], 5),
        (["learner.ema=0"], 4),
        (["evaluate.every=0"], 4),
        (["pool.every=0"], 2),
        (["pool.members=[{policy: 'run:a@5'}, {policy: 'model:b'}, {policy: random}]", "opponents=members"], 7),
    ],
)
def test_a_plan_counts_the_same_policies(changed, num):
    """Each once, and no bot."""
    config = load(None, [PAST, *changed])
    assert HeldPolicies.of(config).num == num
    _, engine = settings_of(config, 100, None, 10, on_gpu=False)
    assert engine.num_policies == num
