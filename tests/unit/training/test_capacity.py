"""An engine that holds few policies is compared with the run before anything is trained."""

import pytest

from spiral.api.errors import RunError
from spiral.config.loading import load
from spiral.testing import ScriptedEngine
from spiral.training.components import check_capacity


def test_a_run_of_more_policies_than_the_engine_holds_is_refused_at_its_start():
    """The learner, its average where it is evaluated, and the snapshots: counted, with the setting that would do."""
    engine = ScriptedEngine(lambda request: [1])
    config = load(None, [{"pool": {"every": 10, "size": 3}, "opponents": "uniform_past", "evaluate": {"every": 5}}])
    check_capacity(config, engine)
    engine.capacity = 5
    check_capacity(config, engine)
    engine.capacity = 4
    with pytest.raises(RunError, match=r"holds 4 policies .* and this run has 5: .* set engine.args.capacity=5 where"):
        check_capacity(config, engine)
    check_capacity(load(None, [{"evaluate": {"every": 0}}]), engine)
