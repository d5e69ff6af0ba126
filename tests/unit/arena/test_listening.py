"""How the arena listens: who answers no ping is gone, but for a client of TextArena that thinks about its move."""

import base64
import contextlib
import http.client
import socket
import threading
import time

import pytest
import uvicorn

from spiral.arena.listening import configured


async def accepts(scope, receive, send):
    """An application that opens every socket, and waits."""
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def says_who_calls(scope, receive, send):
    """An application that answers with the caller's address."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["client"][0].encode()})


@contextlib.contextmanager
def served(application, **options):
    """The port at which it listens."""
    server = uvicorn.Server(configured(application, "127.0.0.1", 0, lifespan="off", **options))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)


@pytest.mark.parametrize(
    ("path", "stays"), [("/api/play", False), ("/ws?model_name=a&model_token=b", False), ("/ws?token=b", True)]
)
def test_only_a_textarena_client_in_a_match_may_answer_no_ping(path, stays):
    """It does not read while its model thinks; in the queue it does."""
    with (
        served(accepts, ws_ping_interval=0.1, ws_ping_timeout=0.1) as port,
        socket.create_connection(("127.0.0.1", port)) as silent,
    ):
        key = base64.b64encode(bytes(16)).decode()
        asked = f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        silent.sendall(f"{asked}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        silent.settimeout(1.0)
        heard = b""
        try:
            while part := silent.recv(4096):
                heard += part
        except TimeoutError:
            pass
        head, _, frames = heard.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert (frames == b"", b"keepalive ping timeout" in frames) == (stays, not stays)


@pytest.mark.parametrize(("proxy", "believed"), [(None, "127.0.0.1"), ("127.0.0.2", "127.0.0.2")])
def test_the_address_that_a_proxy_tells_is_believed_where_it_is_known(monkeypatch, proxy, believed):
    """Of a proxy on the same machine, or of the one that is named; any other caller could tell what it likes."""
    if proxy is not None:
        monkeypatch.setenv("FORWARDED_ALLOW_IPS", proxy)
    with served(says_who_calls) as port:
        for source in ("127.0.0.1", "127.0.0.2"):
            connection = http.client.HTTPConnection("127.0.0.1", port, source_address=(source, 0), timeout=10)
            connection.request("GET", "/", headers={"x-forwarded-for": "192.0.2.7"})
            heard = connection.getresponse().read().decode()
            connection.close()
            assert heard == ("192.0.2.7" if source == believed else source)
