"""What each failure of a remote model's server comes to.

One that may pass is asked again, and then is Unavailable under the name of its cause. One that will not pass is a
sentence to the user. Nothing else ever comes out of `choose`, no call outlives its time, and nothing that is not a
whole reply becomes a move.
"""

import json
import random
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest
from spiral_opponents.openai_chat import bot as remote
from spiral_opponents.openai_chat.bot import Remote, back_off_s, retry_after_s

from spiral import SpiralError, Unavailable
from spiral.testing import ChatAnswer, ChatServer

MEGABYTE = 1_000_000


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(remote, "BACK_OFF_S", 0.01)


class Cards:
    """One decision: bet or check."""

    num_players, rules = 2, "Bet or check."

    def observe(self, player):
        return f"player {player}"

    def legal_moves(self):
        return ["bet", "check"]


def ask(url, game=None, **args):
    bot = Remote("tiny", url, **{"retries": 0, "timeout_s": 5.0, **args})
    return bot.choose(game or Cards(), 1, random.Random(0))


def bot_for(server, **args):
    return Remote("tiny", server.url, **{"retries": 0, "timeout_s": 5.0, **args})


def choose(bot):
    return bot.choose(Cards(), 1, random.Random(0))


BROKEN = json.dumps({"choices": [{"message": {"content": "bet"}, "finish_reason": "stop"}]}).encode()
REPLIES_THAT_ARE_NONE = {
    "html": (ChatAnswer(body=b"<html>Welcome: bet</html>"), "not json"),
    "truncated json": (ChatAnswer(body=BROKEN[:-3]), "not json"),
    "deep json": (ChatAnswer(body=b"[" * 100_000), "not json"),
    "huge number": (ChatAnswer(body=b"9" * 10_000), "not json"),
    "broken off": (ChatAnswer("bet", fault="cut"), "connection"),
    "not http": (ChatAnswer("bet", headers={"Transfer-Encoding": "chunked"}), "connection"),
    "list": (ChatAnswer(body=b"[]"), "wrong shape"),
    "no choices": (ChatAnswer(body=b'{"reply": "bet"}'), "wrong shape"),
    "odd choices": (ChatAnswer(body=b'{"choices": "bet"}'), "wrong shape"),
    "odd choice": (ChatAnswer(body=b'{"choices": ["bet"]}'), "wrong shape"),
    "odd message": (ChatAnswer(body=b'{"choices": [{"message": "bet"}]}'), "wrong shape"),
    "odd content": (ChatAnswer(body=b'{"choices": [{"message": {"content": ["bet"]}}]}'), "wrong shape"),
    "empty choices": (ChatAnswer(body=b'{"choices": []}'), "no reply"),
    "null": (ChatAnswer(None), "no reply"),
    "blank": (ChatAnswer(" \n"), "no reply"),
    "empty": (ChatAnswer(body=b""), "no reply"),
    "cut off": (ChatAnswer("bet", finish="length"), "cut off"),
    "withheld": (ChatAnswer("bet", finish="content_filter"), "withheld"),
    "1 MB": (ChatAnswer("bet " * (MEGABYTE // 4)), "too large"),
    "10 MB": (ChatAnswer("bet " * (10 * MEGABYTE // 4)), "too large"),
    "invalid UTF-8": (ChatAnswer(body=BROKEN.replace(b"bet", b"b\xff\xfet")), "not utf-8"),
    "half a character": (ChatAnswer(body=BROKEN.replace(b"bet", b"b\\ud800t")), "not utf-8"),
    "reset": (ChatAnswer(fault="reset"), "connection"),
    "hang": (ChatAnswer(fault="hang"), "timeout"),
    "dribble": (ChatAnswer("bet", pause_s=0.05), "timeout"),
    "slow error": (ChatAnswer(status=503, body=b"x" * 1000, pause_s=0.05), "timeout"),
    **{f"{s}": (ChatAnswer(status=s, body=b"busy"), f"http {s}") for s in (408, 429, 500, 502, 503, 504, 529)},
    "large error": (ChatAnswer(status=500, body=b"x" * MEGABYTE), "http 500"),
    "too long": (
        ChatAnswer(status=400, body=b'{"error": {"message": "maximum context length is 10 tokens"}}'),
        "prompt too long",
    ),
}
HOPELESS = {"cut off", "withheld", "1 MB", "10 MB", "too long"}


@pytest.mark.parametrize("kind", REPLIES_THAT_ARE_NONE)
def test_an_answer_without_a_whole_reply_is_unavailable_by_its_cause(kind):
    """Asked again where that can help, counted call by call, over when its time is; never a move, never another error."""
    answer, cause = REPLIES_THAT_ARE_NONE[kind]
    timeout_s = 0.3 if cause == "timeout" else 20.0
    num_calls = 1 if kind in HOPELESS else 2
    with ChatServer(lambda request: answer) as server:
        bot = bot_for(server, timeout_s=timeout_s, retries=1)
        start = time.monotonic()
        with pytest.raises(Unavailable) as error:
            choose(bot)
        took = time.monotonic() - start
    assert error.value.cause == cause
    assert "remote bot tiny at http://127.0.0.1:" in str(error.value)
    assert len(server.requests) == num_calls
    assert bot.spent["failures"] == {cause: num_calls}
    assert bot.spent["calls"] == num_calls
    if cause == "timeout":
        assert 2 * timeout_s <= took < 2 * timeout_s + 3


@pytest.mark.parametrize("kind", sorted(set(REPLIES_THAT_ARE_NONE) - HOPELESS))
def test_a_failure_that_passes_costs_nothing_but_a_call(kind):
    """The same failure once, and then a reply: the move is there."""
    answer, cause = REPLIES_THAT_ARE_NONE[kind]
    with ChatServer([answer, "check"]) as server:
        bot = bot_for(server, timeout_s=1.5 if cause == "timeout" else 20.0, retries=1)
        assert choose(bot) == "check"
    assert bot.spent["calls"] == 2
    assert bot.spent["failures"] == {cause: 1}


@pytest.mark.parametrize("status", [201, 301, 400, 401, 403, 404, 405, 422])
def test_a_refusal_that_will_not_pass_is_a_sentence(status):
    """Named are the bot, its address and the status; it is not asked again."""
    body = b'{"error": {"message": "The model `tiny` does\\u001b[2J not exist."}}'
    with ChatServer(lambda request: ChatAnswer(status=status, body=body)) as server:
        with pytest.raises(SpiralError, match=rf"remote bot tiny at {server.url}: .* http {status} ") as error:
            ask(server.url, retries=5)
        assert len(server.requests) == 1
    assert str(error.value).isprintable()
    if status in (404, 400, 422):
        assert "The model `tiny` does" in str(error.value)


def test_a_wrong_path_says_what_url_should_be():
    with ChatServer(["bet"]) as server, pytest.raises(SpiralError, match="before /chat/completions"):
        ask(server.url.removesuffix("/v1"))


def test_no_server_at_the_address():
    """A port at which no process listens is a connection that failed, once for each attempt."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        bot = Remote("tiny", f"http://127.0.0.1:{taken.getsockname()[1]}/v1", retries=2)
        with pytest.raises(Unavailable, match="no answer in 3 calls; ConnectionRefusedError") as error:
            choose(bot)
    assert error.value.cause == "connection"
    assert bot.spent["failures"] == {"connection": 3}


def test_a_server_that_speaks_no_tls():
    with ChatServer(["bet"]) as server, pytest.raises(Unavailable) as error:
        ask(server.url.replace("http:", "https:"))
    assert error.value.cause == "connection"


@contextmanager
def raw_server(serve):
    """A server below HTTP: `serve(connection)` once a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        listener.shutdown(socket.SHUT_RDWR)


def _take(connection):
    """Read a request to its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split()[0])
    while len(body) < length:
        body += connection.recv(65536)


def _send(data):
    def serve(connection):
        _take(connection)
        connection.sendall(data)

    return serve


def _drip(data, pause_s=0.05):
    def serve(connection):
        _take(connection)
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(pause_s)

    return serve


ENDLESS = b"HTTP/1.1 100 Continue\r\n\r\n" * 1000


@pytest.mark.parametrize(
    ("serve", "cause"),
    [
        (_drip(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200), "timeout"),
        (_drip(ENDLESS, 0.01), "timeout"),
        (_send(b"SSH-2.0-OpenSSH\r\n"), "connection"),
        (_send(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000), "connection"),
        (_send(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000), "connection"),
        (_send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nbet"), "connection"),
        (_send(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nbet"), "not json"),
        (_send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * MEGABYTE), "too large"),
        (_send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nbet"), "connection"),
        (_send(b""), "connection"),
        (lambda connection: None, "connection"),
    ],
)
def test_servers_that_speak_broken_http(serve, cause):
    """Drips of a header, interim answers without end, heads without end, lengths that lie."""
    with raw_server(serve) as url:
        start = time.monotonic()
        with pytest.raises(Unavailable) as error:
            ask(url, timeout_s=0.5 if cause == "timeout" else 20.0)
        assert error.value.cause == cause
        assert time.monotonic() - start < 5


def test_a_server_that_accepts_no_connection():
    """Connecting has a time limit too, and what was never sent costs nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as queue:
        for _ in range(4):  # no process accepts them, so the queue is full
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        bot = Remote("tiny", url, timeout_s=0.5, retries=0, reply_price=1.0)
        with pytest.raises(Unavailable) as error:
            choose(bot)
    assert error.value.cause == "timeout"
    assert bot.spent["cost"] == 0.0


def test_a_server_that_reads_slowly_holds_no_caller():
    """A request that is not taken within the time is a time-out too."""

    class Long(Cards):
        rules = "x" * 30_000_000

    with raw_server(lambda c: time.sleep(3)) as url, pytest.raises(Unavailable) as error:
        ask(url, Long(), timeout_s=0.5)
    assert error.value.cause == "timeout"


# Asking again


def test_waits_double_up_to_a_limit_and_are_drawn_from_the_seed(monkeypatch):
    """Attempt k waits between half and all of 2^k seconds, 30 at most; one seed, one series."""
    monkeypatch.setattr(remote, "BACK_OFF_S", 1.0)
    draws = random.Random(1)
    for attempt, most in enumerate([1, 2, 4, 8, 16, 30, 30]):
        waits = [back_off_s(attempt, draws) for _ in range(200)]
        assert most / 2 < min(waits) < most * 0.55
        assert most * 0.95 < max(waits) <= most
    assert [back_off_s(k, random.Random(5)) for k in range(4)] == [back_off_s(k, random.Random(5)) for k in range(4)]


def test_failures_change_no_later_chance():
    """A choice takes one draw from the match's generator, however often it had to ask."""
    after = []
    for answers in (["bet"], [ChatAnswer(status=500), ChatAnswer(status=500), "bet"]):
        with ChatServer(answers) as server:
            rng = random.Random(7)
            assert bot_for(server, retries=3).choose(Cards(), 0, rng) == "bet"
        after.append(rng.random())
    assert after[0] == after[1]


def test_retry_after_is_kept_to(monkeypatch):
    """No sooner than the server asks; a wait longer than a minute is not begun."""
    waited = []
    monkeypatch.setattr(remote.time, "sleep", waited.append)
    with ChatServer([ChatAnswer(status=503, headers={"Retry-After": "7"}), "bet"]) as server:
        assert ask(server.url, retries=1) == "bet"
    assert waited == [7.0]
    with ChatServer([ChatAnswer(status=429, headers={"Retry-After": "3600"}), "bet"]) as server:
        with pytest.raises(Unavailable, match="asks to wait 3600 s") as error:
            ask(server.url, retries=1)
        assert len(server.requests) == 1
    assert error.value.cause == "http 429"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0.0),
        ("12", 12.0),
        (" 3 ", 3.0),
        ("-5", 0.0),
        ("soon", 0.0),
        ("", 0.0),
        ("9" * 5000, 999_999_999.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 100.0),
        ("Thu, 01 Jan 1970 00:01:40 -0000", 100.0),
        ("Thu, 01 Jan 1960 00:00:00 GMT", 0.0),
        ("Thu, 99 Foo 1970 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(header, seconds):
    assert retry_after_s(header, 0.0) == seconds
