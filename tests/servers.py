"""A real MLflow server and a real PostgreSQL, on loopback."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

import psycopg
import requests
from warm import Warm


class Server:
    """``mlflow server`` on loopback, on one port whenever it is started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        store = f"sqlite:///{self.folder}/mlruns/mlflow.db"
        self.process = Warm(
            [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={self.port}",
             "--workers=1", f"--backend-store-uri={store}",
             f"--artifacts-destination={self.folder}/artifacts"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{self.uri}/health", timeout=1).ok:
                    return
            time.sleep(0.2)
        raise AssertionError("the server did not start")

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class Database:
    """A real PostgreSQL on loopback, for anyone on this machine; it forgets all at its end."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self._num_created = 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @staticmethod
    def folder_of_programs() -> Path | None:
        """Where its programs are, which few systems have on the path; None: they are not."""
        places = [shutil.which("initdb"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
        return next((Path(place).resolve().parent for place in places if place), None)

    def __enter__(self) -> Self:
        data = f"--pgdata={self.folder}/data"
        self._run("initdb", data, "--auth=trust", "--username=tester", "--no-sync")
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", f"--pgdata={self.folder}/data", "--wait", f"--options={options}",
                  f"--log={self.folder}/log", "start")  # fmt: skip

    def stop(self) -> None:
        self._run("pg_ctl", f"--pgdata={self.folder}/data", "--mode=immediate", "stop")

    def create(self) -> str:
        """Create an empty database and return its URL."""
        self._num_created += 1
        server, name = f"postgresql://tester@127.0.0.1:{self.port}", f"study_{self._num_created}"
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"{server}/{name}".replace("://", "+psycopg://")

    def _run(self, program: str, *arguments: str) -> None:
        # The server refuses to run as root.
        user = {"user": "nobody"} if os.getuid() == 0 else {}
        if user:
            shutil.chown(self.folder, "nobody")
        folder = self.folder_of_programs()
        assert folder is not None
        subprocess.run([folder / program, *arguments], check=True, cwd=self.folder, **user,
                       stdout=subprocess.DEVNULL)  # fmt: skip
