"""Signals that ask a run to stop, sent to this very process."""

import os
import signal
import threading
from contextlib import suppress

import pytest

from spiral.learning.stop_signals import NUMBERS, StopRequested, StopSignals

pytestmark = pytest.mark.usefixtures("foreground_signals")


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_ends_a_block_that_can_be_given_up(number):
    told = []
    with StopSignals(told.append) as stop:
        stop.takes_s = 2.5
        with pytest.raises(StopRequested) as caught, stop.interrupted():
            send(number)
    assert caught.value.number == number
    assert told == [2.5]


def test_elsewhere_the_first_signal_waits_for_the_next_block():
    with StopSignals() as stop:
        with stop.interrupted():
            pass
        send(signal.SIGTERM)
        with pytest.raises(StopRequested), stop.interrupted():
            raise AssertionError("the block began")


def test_the_second_signal_ends_everything_and_is_announced_no_more():
    told = []
    with StopSignals(told.append):
        send(signal.SIGINT)
        with pytest.raises(StopRequested) as caught:
            send(signal.SIGTERM)
    assert caught.value.number == signal.SIGTERM
    assert told == [None]


def test_the_handlers_of_before_are_put_back():
    before = [signal.getsignal(number) for number in NUMBERS]
    found = []
    with suppress(ZeroDivisionError), StopSignals():
        found = [signal.getsignal(number) for number in NUMBERS]
        raise ZeroDivisionError
    assert found != before
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_a_signal_that_is_ignored_stays_ignored():
    """As SIGINT is in a background job of a script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopSignals() as stop, stop.interrupted():
        send(signal.SIGINT)
        assert stop.num_received == 0


def test_a_thread_leaves_signals_alone():
    """Python lets the main thread alone set handlers."""
    before, found = [signal.getsignal(number) for number in NUMBERS], []

    def work():
        with StopSignals() as stop, stop.interrupted():
            found.append([signal.getsignal(number) for number in NUMBERS])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]
