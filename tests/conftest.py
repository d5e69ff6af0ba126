"""Fixtures that tests of several folders share."""

import signal

import pytest

from spiral.learning.stop_signals import NUMBERS


@pytest.fixture
def foreground_signals():
    """The handlers of a shell's foreground job, whatever pytest was started by; put back afterwards."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
