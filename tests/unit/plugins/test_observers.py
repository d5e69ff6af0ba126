"""What a logger raises is a warning with its name; what an observer of the core raises, or a set-up error, is not."""

import logging
from dataclasses import dataclass, field

import pytest

from spiral import SpiralError, hookimpl
from spiral.plugins.registry import Plugins


@dataclass
class Failing:
    """Raises `error` at the steps `at`; not hashable."""

    at: range
    error: Exception
    seen: list = field(default_factory=list)

    @hookimpl
    def step_finished(self, step):
        self.seen.append(step)
        if step in self.at:
            raise self.error


class Healthy:
    def __init__(self):
        self.seen = []

    @hookimpl
    def step_finished(self, step, metrics):
        self.seen.append((step, metrics))


def _steps(plugins, num):
    for step in range(num):
        plugins.hook.step_finished(step=step, metrics={"a": step}, episodes=[])


@pytest.mark.parametrize("first", [True, False])
def test_a_logger_that_raises_costs_its_own_record_only(caplog, first):
    """Whatever the order: the other loggers hear every step, and after a success the count begins anew."""
    failing, healthy, plugins = Failing(range(1, 3), ValueError("no\nnetwork")), Healthy(), Plugins()
    named = [(failing, "wandb"), (healthy, "mine")]
    for observer, name in named if first else reversed(named):
        plugins.observe_with(observer, name)
    with caplog.at_level(logging.WARNING):
        _steps(plugins, 5)
    assert failing.seen == [0, 1, 2, 3, 4]
    assert healthy.seen == [(step, {"a": step}) for step in range(5)]
    expected = "logger 'wandb' failed in step_finished: ValueError: no network; the run goes on"
    assert [record.getMessage() for record in caplog.records] == [expected] * 2


def test_a_logger_that_keeps_raising_is_called_no_more(caplog):
    """Each call may take a time-out: three in a row are enough."""
    failing, plugins = Failing(range(1, 99), OSError("down")), Plugins()
    plugins.observe_with(failing, "mlflow")
    with caplog.at_level(logging.WARNING):
        _steps(plugins, 9)
    assert failing.seen == [0, 1, 2, 3]
    assert [r.getMessage().endswith("it is called no more, and the run goes on") for r in caplog.records] == [0, 0, 1]


def test_a_set_up_error_of_a_logger_stops_the_run():
    plugins = Plugins()
    plugins.observe_with(Failing(range(9), SpiralError("no space is left")), "tensorboard")
    with pytest.raises(SpiralError, match="no space"):
        _steps(plugins, 1)


def test_an_observer_that_no_config_names_keeps_its_traceback():
    """An error of the core is not hidden."""
    plugins = Plugins()
    plugins.observe_with(Failing(range(9), ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        _steps(plugins, 1)
