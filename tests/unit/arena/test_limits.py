"""Limits by address: how much at once, how much in the long run, and what one address is."""

import pytest

from spiral.arena import limits
from spiral.arena.limits import Bucket, Counters, Limits, Rate, address


class Clock:
    def __init__(self):
        self.s = 0.0

    def __call__(self):
        return self.s


def test_a_burst_is_allowed_and_then_the_rate():
    """Refused requests do not count, so that an impatient caller is not shut out for longer."""
    clock = Clock()
    counters = Counters(Rate(3, 0.5), clock)
    assert [counters.too_early_s("a") for _ in range(3)] == [0.0, 0.0, 0.0]
    assert [counters.too_early_s("a") for _ in range(3)] == [2.0, 2.0, 2.0]
    assert counters.too_early_s("b") == 0.0
    clock.s = 2.0
    assert counters.too_early_s("a") == 0.0
    assert counters.too_early_s("a") == 2.0


def test_a_connection_is_read_at_its_rate():
    """Each message beyond the burst waits a little longer than the one before, as long as none is waited for."""
    clock = Clock()
    bucket = Bucket(Rate(2, 10.0), clock)
    assert [bucket.take() for _ in range(2)] == [0.0, 0.0]
    for _ in range(20):
        wait_s = bucket.take()
        assert wait_s == pytest.approx(0.1)
        clock.s += wait_s


def test_an_address_opens_sockets_in_proportion_to_those_it_may_have():
    """As the table of the page says for 64; a school of 640 behind one address connects within as long."""
    assert Limits.by_connections(64) == Limits()
    assert Limits.by_connections(640).openings == Rate(1280, 40.0)


def test_the_counters_are_bounded(monkeypatch):
    """An attack from many addresses fills no memory."""
    monkeypatch.setattr(limits, "MAX_KEYS", 10)
    counters = Counters(Rate(1, 1.0), Clock())
    for n in range(100):
        counters.too_early_s(str(n))
    assert len(counters._buckets) == 10


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (("10.0.0.7", 1), "10.0.0.7"),
        (("::ffff:10.0.0.7", 1), "10.0.0.7"),
        (("2001:db8:1:2:3::4", 1), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::9", 2), "2001:db8:1:2::/64"),
        (("unix", 0), "unix"),
        (None, ""),
    ],
)
def test_an_address_is_what_one_person_has(client, expected):
    """Of version 6 a connection is given 64 bits, so that counting the whole would count nothing."""
    assert address(client) == expected
