"""The files of examples/arena_host before a real `spiral arena`: pages, sockets, limits and TextArena's client over TLS.

Each proxy gets the file as it is, with ports and paths of the test's own in the place of those of a host.
"""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from spiral.arena_client import play, register
from tests.unit.arena.test_textarena import plays

FILES = Path(__file__).parents[2] / "examples" / "arena_host"
HOST = "localhost"
GAME = "textarena/TicTacToe-v0"


@dataclass
class Hosted:
    """An arena behind a proxy."""

    proxy: str
    port: int
    plain_port: int
    certificate: Path
    arena: subprocess.Popen

    @property
    def url(self):
        return f"https://{HOST}:{self.port}"

    def ask(self, path, body=None, headers=None, source="127.0.0.1"):
        """Status, headers and text of an answer, by the address of this machine that is said."""
        context = ssl.create_default_context(cafile=self.certificate)
        data = None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
        connection = http.client.HTTPSConnection(
            HOST, self.port, context=context, source_address=(source, 0), timeout=20
        )
        with contextlib.closing(connection):
            connection.request("GET" if data is None else "POST", path, data, headers or {})
            answer = connection.getresponse()
            try:
                text = answer.read()
            except http.client.IncompleteRead as cut:  # by Caddy, which closes on a body that is too long
                text = cut.partial
            return answer.status, answer.headers, text.decode()

    def socket(self, path, **options):
        context = ssl.create_default_context(cafile=self.certificate)
        return connect(f"wss://{HOST}:{self.port}{path}", ssl=context, open_timeout=60, **options)


def free_ports(num):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(num)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def answers(port, *processes):
    end = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert all(one.poll() is None for one in processes), "it ended"
            assert time.monotonic() < end, "it does not listen"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Of a host named localhost, by no authority but itself."""
    folder = tmp_path_factory.mktemp("tls")
    made = folder / "fullchain.pem", folder / "privkey.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", made[1], "-out", made[0],
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    """The real command, and its port; what the proxy's port will be is chosen before."""
    folder, (port, tls_port, proxied) = tmp_path_factory.mktemp("arena"), free_ports(3)
    pytest.importorskip("textarena")
    command = [
        sys.executable, "-m", "spiral", "arena", "--games", "tic_tac_toe", "--games", GAME, "--house", "random",
        "--db", f"sqlite:///{folder / 'arena.db'}", "--port", str(port), "--tls-port", str(tls_port),
        "--tls-address", f"{HOST}:{proxied}",
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    answers(port, process)
    yield port, proxied, process
    if process.poll() is None:
        process.kill()
        process.wait()


def nginx(folder, arena, ports, certificate):
    """The command of nginx with the file between what a distribution puts around it."""
    text = (FILES / "nginx.conf").read_text(encoding="utf-8")
    for old, new in {
        "listen 80;": f"listen 127.0.0.1:{ports[1]};",
        "listen 443 ssl;": f"listen 127.0.0.1:{ports[0]} ssl;",
        "server_name arena.example.org;": f"server_name {HOST};",
        "127.0.0.1:8000;": f" 127.0.0.1:{arena};",
        "/etc/letsencrypt/live/arena.example.org": str(certificate[0].parent),
        "/var/log/nginx": str(folder),
        "https://$host$": f"https://$host:{ports[0]}$",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    text = re.sub(r"\n *listen \[::\][^\n]*", "", text)
    (folder / "site.conf").write_text(text, encoding="utf-8")
    paths = "".join(
        f"{name}_temp_path {folder / name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root; " if os.geteuid() == 0 else ""  # its own user may not look into the tests' folders
    (folder / "nginx.conf").write_text(
        f"{user}pid {folder / 'pid'}; daemon off; error_log {folder / 'error.log'};\n"
        f"events {{ worker_connections 256; }}\nhttp {{ access_log off; {paths} include {folder / 'site.conf'}; }}\n",
        encoding="utf-8",
    )
    return [shutil.which("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


def caddy(folder, arena, ports, certificate):
    """The command of Caddy; without its own authority, which asks the world for a certificate."""
    text = (FILES / "Caddyfile").read_text(encoding="utf-8")
    for old, new in {
        "arena.example.org {": f"{HOST}:{ports[0]} {{\n\ttls {certificate[0]} {certificate[1]}\n\tbind 127.0.0.1",
        "127.0.0.1:8000": f"127.0.0.1:{arena}",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    options = f"{{\n\tadmin off\n\thttp_port {ports[1]}\n\thttps_port {ports[0]}\n}}\n"
    (folder / "Caddyfile").write_text(options + text, encoding="utf-8")
    return [shutil.which("caddy"), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@pytest.fixture(scope="module", params=[nginx, pytest.param(caddy, marks=pytest.mark.slow)], ids=["nginx", "caddy"])
def hosted(request, tmp_path_factory, arena, certificate):
    proxy = request.param
    if shutil.which(proxy.__name__) is None:
        pytest.skip(f"{proxy.__name__} is not installed")
    port, proxied, process = arena
    folder, plain = tmp_path_factory.mktemp("proxy"), free_ports(1)[0]
    folder.chmod(0o755)
    with (folder / "log").open("wb") as log:
        command = proxy(folder, port, (proxied, plain), certificate)
        env = {**os.environ, "HOME": str(folder)}
        running = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        answers(proxied, running, process)
        yield Hosted(proxy.__name__, proxied, plain, certificate[0], process)
    finally:
        running.terminate()
        running.wait(20)


def test_pages_answer_over_tls_and_only_there(hosted):
    """With the arena's own headers and the proxy's; plain HTTP leads to it."""
    status, headers, text = hosted.ask("/")
    assert (status, "tic_tac_toe" in text) == (200, True)
    assert headers["strict-transport-security"] == "max-age=31536000"
    assert "default-src 'self'" in headers["content-security-policy"]
    assert hosted.ask("/static/play.js")[0] == 200
    with socket.create_connection(("127.0.0.1", hosted.plain_port)) as plain:
        plain.sendall(f"GET /play HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        answer = plain.makefile("rb").read().decode()
    assert re.match(r"HTTP/1.1 30[18] ", answer)
    assert f"https://{HOST}" in answer


def test_a_program_plays_over_tls(hosted, monkeypatch):
    """The client needs no argument for an authority that the machine does not know: OpenSSL's own variable names it."""
    with monkeypatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(hosted.certificate))
        (ended,) = play(hosted.url, f"ann {hosted.plain_port}", ["tic_tac_toe"], lambda turn: turn.legal_moves[0], 1)
    assert (ended.ending, f"ann {hosted.plain_port}" in ended.players) == ("finished", True)
    assert json.loads(hosted.ask(f"/api/matches/{ended.match}")[2])["ending"] == "finished"


def test_a_socket_is_for_pages_of_this_host(hosted):
    """The host arrives as the browser said it, with its port."""
    with hosted.socket("/api/play", origin=hosted.url) as own:
        own.send(json.dumps({"kind": "hello", "token": "x"}))
        assert "no player has this token" in own.recv(timeout=10)
    for origin in ("https://elsewhere.example", f"https://{HOST}"):
        with pytest.raises(InvalidStatus, match="403"), hosted.socket("/api/play", origin=origin):
            pass


def test_limits_count_the_address_that_called_the_proxy(hosted):
    """And not the proxy's, which is the same for all, nor one that the caller made up."""
    source, forged = {"nginx": "127.0.1.1", "caddy": "127.0.1.2"}[hosted.proxy], {"x-forwarded-for": "192.0.2.7"}
    nameless = {"name": "<b>", "kind": "model"}  # refused after it was counted
    statuses = [hosted.ask("/api/players", nameless, source=source)[0] for _ in range(41)]
    assert statuses == [400] * 40 + [429]
    assert hosted.ask("/api/players", nameless, forged, source=source)[0] == 429
    assert hosted.ask("/api/players", nameless)[0] == 400


def test_a_body_is_cut_before_the_arena_reads_it(hosted):
    """As one that is too long for the arena itself, but for Caddy before 2.7, which says that its arena was at fault."""
    assert hosted.ask("/api/players", b"x" * 12_000)[0] == 413
    assert hosted.ask("/api/players", b"x" * 50_000)[0] in ((413,) if hosted.proxy == "nginx" else (413, 502))


def test_textarenas_client_plays_through_the_proxy(hosted, monkeypatch):
    """Registration, queue and match over one port, which `--tls-address` names."""
    from textarena import api

    name, results = f"bob {hosted.plain_port}", []
    with monkeypatch.context() as patch:
        patch.setattr(api, "MATCHMAKING_WS_URI", f"wss://{HOST}:{hosted.port}/ws")
        patch.setattr(api, "MATCHMAKING_HTTP_URI", hosted.url)
        patch.setenv("SSL_CERT_FILE", str(hosted.certificate))
        patch.setenv("REQUESTS_CA_BUNDLE", str(hosted.certificate))
        thread = threading.Thread(target=plays, args=(name, "TicTacToe-v0", results), daemon=True)
        thread.start()
        thread.join(90)
    ((_, rewards, infos),) = results
    assert {one["outcome"] for one in infos.values()} <= {"win", "draw", "loss"}
    assert len(rewards) == 1


@pytest.mark.slow
def test_a_socket_that_is_silent_for_a_minute_stays(hosted):
    """Longer than a proxy waits for a page: a client of TextArena in a match hears nothing while its opponent thinks,
    and answers no ping while it does itself; the arena's own clients are asked for a ping."""
    token = f"00000000-0000-4000-8000-{hosted.plain_port:012d}"
    name = f"eve {hosted.plain_port}"
    told = {"model_name": name, "model_token": token, "description": "", "email": "eve@example.org"}
    assert hosted.ask("/register_model", told)[0] == 200
    with hosted.socket(f"/ws?model_name={name.replace(' ', '%20')}&model_token={token}") as queue:
        queue.send(json.dumps({"command": "queue", "environments": [35]}))
        while (found := json.loads(queue.recv(timeout=30)))["command"] != "match_found":
            pass
    assert found["game_url"] == f"{HOST}:{hosted.port}"
    with hosted.socket(f"/ws?token={token}", ping_interval=None) as match:
        while json.loads(match.recv(timeout=30))["command"] != "observation":
            pass
        end = time.monotonic() + 75
        with pytest.raises(TimeoutError):
            match.recv(timeout=75)
        assert time.monotonic() >= end
        match.send(json.dumps({"command": "ping"}))
        assert json.loads(match.recv(timeout=10)) == {"command": "pong"}


def test_a_service_is_stopped_with_a_word_to_its_connections(tmp_path):
    """SIGTERM: connections are closed with the code for a server that ends, the exit code is 143, and what was written is
    in the file itself."""
    port = free_ports(1)[0]
    command = [
        sys.executable, "-m", "spiral", "arena", "--games", "tic_tac_toe", "--house", "random",
        "--db", f"sqlite:///{tmp_path / 'arena.db'}", "--port", str(port),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        answers(port, process)
        token = register(f"http://127.0.0.1:{port}", "ann")
        with connect(f"ws://127.0.0.1:{port}/api/play") as ann:
            ann.send(json.dumps({"kind": "hello", "token": token}))
            assert json.loads(ann.recv(timeout=20))["kind"] == "welcome"
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                ann.recv(timeout=20)
        assert closed.value.rcvd.code == 1012
        assert process.wait(20) == 143
        assert process.stderr.read() == "opening random\n"
        assert [path.name for path in tmp_path.iterdir() if "wal" in path.name] == []
    finally:
        process.kill()
        process.stderr.close()
