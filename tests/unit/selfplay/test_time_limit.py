"""Time limits in the main thread, by an alarm, and in any other, by a thread that watches it."""

import threading
import time

import pytest

from spiral.selfplay.time_limit import TimeLimit, limited


def _in_thread(run):
    found = []

    def target():
        try:
            found.append(run())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join(30)
    return found[0]


def _here(run):
    try:
        return run()
    except BaseException as error:
        return error


WHERE = pytest.mark.parametrize("where", [_here, _in_thread], ids=["main thread", "another thread"])


def _spin(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


@WHERE
def test_a_block_that_does_not_end_is_interrupted(where):
    def run():
        with limited(0.2):
            _spin(20)

    begun = time.monotonic()
    error = where(run)
    assert isinstance(error, TimeoutError)
    assert (type(error).__name__, str(error)) == ("TimeoutError", "no end after 0.2 s")
    assert time.monotonic() - begun < 10


@WHERE
def test_each_block_has_the_whole_time(where):
    """Many short blocks under one limit, which together take far longer than it."""

    def run():
        limit, num = TimeLimit(2.0), 0
        limit.start()
        try:
            for _ in range(20):
                with limit:
                    _spin(0.15)
                num += 1
        finally:
            limit.close()
        return num

    assert where(run) == 20


@WHERE
def test_nothing_is_interrupted_between_blocks_and_after_the_end(where):
    def run():
        limit = TimeLimit(0.1)
        limit.start()
        with limit:
            pass
        _spin(0.5)
        limit.close()
        _spin(0.3)
        return "went on"

    assert where(run) == "went on"


def test_blocks_that_end_as_their_time_does_interrupt_nothing_else():
    """An error that was thrown and has not arrived when its block ends is taken back: it comes in the block, or not."""

    def run():
        limit, late = TimeLimit(0.02), 0
        limit.start()
        for n in range(120):
            try:
                with limit:
                    _spin(0.01 + 0.0002 * n)
            except TimeoutError:
                late += 1
            sum(range(200))
        limit.close()
        return late

    late = _in_thread(run)
    assert isinstance(late, int), late
    assert late > 0


def test_other_threads_are_left_alone():
    seen = []

    def other():
        _spin(0.6)
        seen.append("done")

    def run():
        thread = threading.Thread(target=other)
        thread.start()
        with pytest.raises(TimeoutError), limited(0.2):
            _spin(20)
        thread.join()
        return "went on"

    assert _in_thread(run) == "went on"
    assert seen == ["done"]
