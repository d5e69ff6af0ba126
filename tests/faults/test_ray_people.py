"""A person at the page of a run on a local Ray cluster. `make ray` runs it."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.faults.ray_kills import lines, processes, start
from tests.unit.arena.conftest import RunningArena

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WORDS = [
    "rollout.episodes=64", "warm_start.max_steps=50", "warm_start.batch=64", "evaluate.opponents=[]",
    "evaluate.every=0", "checkpoint.episodes=64", "loggers=[]", "steps=4000", "opponents={name: mixture}",
]  # fmt: skip


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _page(port, process):
    """The page, once it is served."""
    page, deadline = RunningArena(port, None, None, None, None), time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0][-3000:]
        try:
            assert page.ask("/play")[0] == 200
            return page
        except OSError:
            time.sleep(0.2)
    raise AssertionError("no page")


def _people(path):
    """The matches that a person played, as the learner had them: in others it lost by its first move, and no one else
    was asked."""
    seated = [
        row for row in lines(path, "episodes.jsonl") if any(name.startswith("bot:web") for name in row["policies"])
    ]
    return [row for row in seated if row["policies"][0] != "learner" or row["turns"][0]["legal"]]


def _counted(path, num):
    """Until so many of them were trained on."""
    deadline = time.monotonic() + 60
    while len(_people(path)) < num and time.monotonic() < deadline:
        time.sleep(0.2)


def test_a_person_plays_in_a_run_whose_games_are_played_elsewhere(tmp_path):
    """Two workers and one engine: one of them has the page, whose address the command tells. The person's matches are
    trained on; the process that has the page is killed, another one serves it, and the person plays on."""
    path, port = tmp_path / "r", _free_port()
    cluster = "cluster={name: ray, args: {engines: 1, workers: 2}}"
    process = start(path, *WORDS, cluster, f"pool.members=['web:port={port},clock=20', random]")
    try:
        page = _page(port, process)
        token, returns = page.register("ann", "person"), []
        for killed in (False, True):
            if killed:
                _counted(path, 2)
                [host] = [pid for pid in processes(path.name) if _listens(pid, port)]
                os.kill(host, signal.SIGKILL)
                _page(port, process)
            for _ in range(2):
                with page.connection(token, origin=f"http://127.0.0.1:{port}") as ann:
                    ann.send(kind="queue", games=["kuhn_poker"])
                    returns.append(ann.play()["returns"])
        _counted(path, 4)
    finally:
        process.send_signal(signal.SIGTERM)
        printed = process.communicate(timeout=120)[0]
    assert sorted(row["returns"] for row in _people(path)) == sorted(returns)
    assert len(returns) == 4
    assert any(turn["advantage"] for row in _people(path) for turn in row["turns"])
    assert printed.count(f"bot web: people play at http://127.0.0.1:{port}/play") == 2


def _listens(pid, port):
    """Whether a process has the port open for connections."""
    wanted = f":{port:04X} 00000000:0000 0A"
    table = Path(f"/proc/{pid}/net/tcp").read_text(encoding="utf-8").splitlines()
    inodes = {line.split()[9] for line in table if wanted in line}
    for link in os.listdir(f"/proc/{pid}/fd"):
        try:
            if any(os.readlink(f"/proc/{pid}/fd/{link}") == f"socket:[{inode}]" for inode in inodes):
                return True
        except OSError:
            continue
    return False
