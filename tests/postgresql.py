"""A PostgreSQL server of the tests' own, in a temporary folder, at a free port and a socket in the folder."""

import contextlib
import getpass
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg


def programs():
    """The folder of PostgreSQL's programs; None where there are none."""
    found = shutil.which("postgres")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").is_file()), None)


class PostgresServer:
    """Started when it is made; its databases are made by `database`. It does not run as root, so there another user
    runs it: `postgres` where there is one."""

    def __init__(self, *settings):
        self._bin, self._count = programs(), itertools.count()
        self._user = _other_user() if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="spiral-pg-"))
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._settings = [*settings, f"port={self.port}", "listen_addresses=127.0.0.1"]
        password = self.folder / "password"
        password.write_text("secret\n", encoding="utf-8")
        self._run(
            "initdb", "--pgdata", self.folder / "data", "--username", "arena", "--pwfile", password, "--no-sync",
            "--auth-host", "scram-sha-256", "--auth-local", "trust", "--encoding", "UTF8", "--locale", "C",
        )  # fmt: skip
        self._process = self._emptied = None
        self.start()

    def start(self):
        """Until it answers."""
        settings = [word for one in self._settings for word in ("-c", one)]
        command = [self._bin / "postgres", "-D", self.folder / "data", "-k", self.folder, *settings]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user=self._user, start_new_session=True)
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(psycopg.OperationalError), self._connected():
                return
            assert self._process.poll() is None, (self.folder / "log").read_text(encoding="utf-8")
            assert time.monotonic() < end, "PostgreSQL does not answer"
            time.sleep(0.05)

    def stop(self, how=signal.SIGINT):
        """SIGINT ends all connections; SIGQUIT ends it as a crash does, without a checkpoint."""
        self._process.send_signal(how)
        self._process.wait(60)

    def close(self):
        """End it, and delete its folder."""
        if self._process.poll() is None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def database(self, options=""):
        """The address of a new database, over TCP and with a password."""
        name = f"arena{next(self._count)}"
        self.execute(f"CREATE DATABASE {name} {options}")
        return f"postgresql://arena:secret@127.0.0.1:{self.port}/{name}"

    def emptied(self):
        """The address of one database, whose tables and connections of before are gone: three hundred files less to
        write and to delete than for a new one."""
        if self._emptied is None:
            self._emptied = self.database()
        name = self._emptied.rpartition("/")[2]
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        self.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public", name)
        return self._emptied

    def execute(self, statement, database="postgres"):
        """As an administrator; the first row where there is one."""
        with self._connected(database) as connection:
            done = connection.execute(statement)
            return done.fetchone() if done.description else None

    def program(self, name):
        """The path of one of PostgreSQL's programs."""
        return str(self._bin / name)

    def _connected(self, database="postgres"):
        address = {"host": str(self.folder), "port": self.port, "user": "arena", "dbname": database}
        return psycopg.connect(**address, autocommit=True, connect_timeout=5)

    def _run(self, program, *words):
        subprocess.run([self._bin / program, *words], check=True, capture_output=True, user=self._user, cwd=self.folder)


def _other_user():
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres").pw_name
    return next(one.pw_name for one in pwd.getpwall() if one.pw_name not in ("root", getpass.getuser()))
