"""A remote model's budget is that of the whole run: of all its processes, over every kill, resume and rollback."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from spiral_opponents.openai_chat.bot import Remote
from spiral_opponents.openai_chat.budget import Account

from spiral import SpiralError
from spiral.config import loading as config
from spiral.plugins.registry import Plugins
from spiral.policies.pool import Pool
from spiral.runs.directory import RunDir
from spiral.selfplay.validation import check
from spiral.testing import ChatServer
from spiral.training.health.detector import Collapse
from spiral.training.loop import train

SMALL = [
    "steps=6", "rollout.episodes=4", "warm_start.max_steps=2", "warm_start.cache=false", "warm_start.batch=8",
    "evaluate.every=0", "checkpoint.every=2", "loggers=[]", "opponents={name: mixture, args: {weights: {members: 1}}}",
]  # fmt: skip


def account(path, **limits):
    made = Account("model", limits.get("max_calls"), limits.get("max_cost"), 1e6, 0.0)
    made.keep_in(path)
    return made


def spend(made, tokens=2):
    with made.call((10, 0)) as call:
        call.usage = (tokens, 0)


def test_a_budget_is_the_same_for_all_that_keep_it(tmp_path):
    """Two processes' accounts in one file, by turns: five calls are five calls, whoever makes them."""
    one, two = (account(tmp_path / "a.json", max_calls=5) for _ in range(2))
    for made in (one, two, one, two, one):
        spend(made)
    assert one.spent == two.spent
    assert (one.spent["calls"], one.spent["cost"], one.spent["reserved"]) == (5, 10.0, 0.0)
    with pytest.raises(SpiralError, match="budget of 5 calls"):
        spend(two)
    assert account(tmp_path / "a.json", max_calls=6).spent["calls"] == 5


WORKER = """
import sys, threading
from pathlib import Path
from spiral import SpiralError
from spiral_opponents.openai_chat.budget import Account
account = Account("model", 60, None, 0.0, 0.0)
account.keep_in(Path(sys.argv[1]))
made = []
def work():
    try:
        while True:
            with account.call((1, 1)) as call:
                call.usage = (1, 1)
            made.append(1)
    except SpiralError:
        pass
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(made))
"""


def test_processes_and_threads_together_make_as_many_calls_as_the_budget_has(tmp_path):
    """Three processes of four threads, all at once: 60 calls in all, none lost and none too many."""
    command = [sys.executable, "-c", WORKER, str(tmp_path / "a.json")]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    made = [int(worker.communicate(timeout=60)[0]) for worker in workers]
    assert sum(made) == 60
    spent = account(tmp_path / "a.json").spent
    assert (spent["calls"], spent["prompt_tokens"]) == (60, 60)


def test_a_call_in_flight_when_the_process_is_killed_stays_counted_at_its_most(tmp_path):
    """The server may have answered, and charged for it."""
    killed = os.fork()
    if not killed:
        with account(tmp_path / "a.json").call((10, 0)):
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(killed, 0)[1] == signal.SIGKILL
    made = account(tmp_path / "a.json", max_cost=25.0)
    assert (made.spent["calls"], made.spent["cost"], made.spent["reserved"]) == (1, 0.0, 10.0)
    spend(made, tokens=6)
    with pytest.raises(SpiralError, match=r"budget of 25 \(16 spent, and a call may cost 10\)"):
        spend(made)


def test_a_process_waits_for_what_the_calls_of_others_come_to(tmp_path):
    """A call in flight may cost less than its most: a budget is not used up before that is known, in whatever process."""
    one, two = (account(tmp_path / "a.json", max_cost=15.0) for _ in range(2))
    with one.call((10, 0)) as call:
        waiting = threading.Thread(target=spend, args=(two,))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert two.spent["calls"] == 1
        call.usage = (3, 0)
    waiting.join(10)
    assert (two.spent["calls"], two.spent["cost"], two.spent["reserved"]) == (2, 5.0, 0.0)
    spend(one)
    with pytest.raises(SpiralError, match=r"budget of 15 \(7 spent, and a call may cost 10\)"):
        spend(two)


def test_a_raised_budget_goes_on_and_another_model_begins_anew(tmp_path):
    with ChatServer(lambda request: "bet") as server:
        bots = {}
        for name, args in {"a": {"max_calls": 3}, "b": {"max_calls": 9}, "c": {"model": "other"}}.items():
            bots[name] = Remote(**{"model": "tiny", "url": server.url, **args})
            bots[name].keep_in(tmp_path)
        bots["a"]._call([{"role": "user", "content": "?"}])
    assert [bot.spent["calls"] for bot in bots.values()] == [1, 1, 0]


def test_a_pool_tells_bots_where_to_keep_it_whenever_they_are_made(tmp_path):
    pool, args = Pool(Plugins.installed()), {"url": "http://127.0.0.1:1/v1"}
    early = pool.bot("remote", model="early", **args)
    pool.keep_in(tmp_path)
    late = pool.bot("remote", model="late", **args)
    paths = {pool.bot_of(policy)._account._path for policy in (early, late)}
    assert {path.parent for path in paths} == {tmp_path}
    assert len(paths) == 2
    assert pool.state["bots"] == {}


class CollapseAtThree:
    """Finds a collapse at step 3, and that step 1 was the last healthy one."""

    state: dict = {}  # noqa: RUF012

    def __init__(self, *_):
        pass

    def observe(self, step, metrics):
        return Collapse(3, "test", "kuhn_poker", "It fell over.", "collapse", 2) if step == 3 else None

    def last_healthy(self, step):
        return min(step, 1)


def _train(path, *words):
    plugins = Plugins.installed()
    asked = config.load(None, [*SMALL, *words])
    check(asked, plugins)
    resume = (path / "config.yaml").exists()
    opened = RunDir.open(path)[0] if resume else RunDir.create(path, asked, plugins.distributions)
    train(asked, opened, plugins, lambda *_: None, resume)


def _spent(path: Path, server):
    bot = Remote("tiny", server.url)
    bot.keep_in(path / "bots")
    return bot.spent["calls"]


@pytest.mark.parametrize("what", ["kill", "rollback"])
def test_neither_a_kill_nor_a_rollback_gives_money_back(tmp_path, monkeypatch, what):
    """Neither a kill nor a rollback gives back what a remote player cost.

    Steps that are played again ask again, and every call that reached the server is counted.
    """
    words = []
    if what == "rollback":
        monkeypatch.setattr("spiral.training.health.monitor.Detector", CollapseAtThree)
        words = ["health={action: rollback, fallback: uniform_past, max_rollbacks: 1}", "pool.every=1"]
    with ChatServer(lambda request: "pass") as server:
        words.append(f"pool.members=['remote:model=tiny,url={server.url}']")
        if what == "kill":
            with monkeypatch.context() as patch:
                patch.setattr("spiral.training.experience.advantages_of", _killed_at_call(4))
                with pytest.raises(KeyboardInterrupt):
                    _train(tmp_path / "r", *words)
            before = len(server.requests)
            assert _spent(tmp_path / "r", server) == before > 0
        _train(tmp_path / "r", *words)
        assert _spent(tmp_path / "r", server) == len(server.requests)
        if what == "kill":
            assert len(server.requests) > before


def _killed_at_call(number):
    from spiral.learning.credit import advantages_of

    calls = []

    def killed(*args):
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return advantages_of(*args)

    return killed


RUN = """
import sys
import threading
from pathlib import Path
from accelerate import PartialState
from spiral.training import launch
launch.launch(None, sys.argv[2:], Path(sys.argv[1]), False, quiet=True)
print(PartialState().num_processes)
"""


def _processes(num, *words):
    """How many processes there were, by what each of `num` says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "ACCELERATE_USE_CPU": "true", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    group = {"WORLD_SIZE": str(num), "LOCAL_WORLD_SIZE": str(num)} if num > 1 else {}
    started = []
    for rank in range(num):
        env = {**shared, **group, **({"RANK": str(rank), "LOCAL_RANK": str(rank)} if num > 1 else {})}
        command = [sys.executable, "-c", RUN, *map(str, words)]
        started.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
    return [int(process.communicate(timeout=150)[0]) for process in started]


@pytest.mark.slow
def test_two_processes_spend_what_one_would(tmp_path):
    """Two processes spend what one would on a remote player, and its budget is that of the whole run.

    Games of training are shared among the processes, and the matches of an evaluation are played once: as many calls
    reach the server as from one process, and all are in the one count that both have.
    """
    words = ["steps=1", "evaluate.every=1", "evaluate.matches=3", "evaluate.exploitability=false", "rollout.episodes=6"]
    calls = {}
    for num in (1, 2):
        with ChatServer(lambda request: "bet") as server:
            remote = f"remote:model=tiny,url={server.url},max_calls=500"
            named = [f"pool.members=['{remote}']", f"evaluate.opponents=['{remote}']"]
            assert _processes(num, tmp_path / str(num), *SMALL, *words, *named) == [num] * num
            calls[num] = len(server.requests)
            assert _spent(tmp_path / str(num), server) == calls[num] > 0
    assert calls[1] == calls[2]
