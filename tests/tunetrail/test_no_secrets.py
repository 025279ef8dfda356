"""Secrets planted in every place they could come from; every byte that was written is searched."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from toys import ROOT

pytestmark = pytest.mark.slow

# Each of another shape or from another place, told apart by its number.
MARKERS = [f"Pl4nted{number:02d}Secret" for number in range(10)]
(
    IN_SECRET_VARIABLE, IN_PLAIN_VARIABLE, AS_HUB_TOKEN, AS_PASSWORD, IN_URI, IN_DATABASE_URL,
    IN_REMOTE, IN_TRACKED_FILE, IN_DOT_ENV, SAID_BY_JOB,
) = MARKERS  # fmt: skip
ENVIRONMENT = {"SERVICE_PASSWORD": IN_SECRET_VARIABLE, "PLAIN_VARIABLE": IN_PLAIN_VARIABLE}


def token(marker: str) -> str:
    return "hf_" + marker + "AbCdEfGhIjKl"


# A method that says secrets in all ways that a job has, and fails at its second call.
METHOD = f"""
import logging, os, sys, warnings

calls = []

def apply(model):
    calls.append(model)
    said = "hf_" + "{SAID_BY_JOB[:6]}" + "{SAID_BY_JOB[6:]}" + "AbCdEfGhIjKl "
    said += os.environ["SERVICE_PASSWORD"]
    print("printed", said, flush=True)
    os.write(2, f"written {{said}}\\n".encode())
    logging.getLogger("planted").info("logged %s", said)
    warnings.warn("warned " + said)
    if len(calls) == 2:
        raise RuntimeError("raised " + said)
    return model
"""


@pytest.fixture
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkout of this package with changes that hold secrets."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("src", "conf"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "train.py", folder)
    (folder / "settings.ini").write_text("a = 1\n")
    (folder / ".gitignore").write_text("__pycache__/\n")
    git(folder, "init", "-q")
    git(folder, "remote", "add", "origin", f"https://me:{IN_REMOTE}@example.org/x.git")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "one")
    (folder / "settings.ini").write_text(f"a = 1\nlogin = {token(IN_TRACKED_FILE)}\n")
    (folder / ".env").write_text(f"ANYTHING={IN_DOT_ENV}\n")
    (folder / "src" / "planted_method.py").write_text(METHOD)
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, timeout=30)


Start = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def start(checkout: Path, workspace: Path) -> Start:
    """``python train.py …`` of the checkout, in the workspace, with secrets in the environment."""

    def run(*overrides: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, str(checkout / "train.py"), *overrides],
            cwd=workspace,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(checkout / "src")},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run


@pytest.fixture
def planted(tiny: list[str]) -> list[str]:
    return [
        *tiny,
        "+secret_variable=${oc.env:SERVICE_PASSWORD}",
        f"+typed_value_of_variable={IN_SECRET_VARIABLE}",
        "+plain={direct: '${oc.env:PLAIN_VARIABLE}', inside: 'a-${oc.env:PLAIN_VARIABLE}-b'}",
        "+through=${plain.inside}",
        "tracking.run_name=run-${oc.env:PLAIN_VARIABLE}",
        f"+trainer.hub_token={AS_HUB_TOKEN}",
        f"+login={{user: me, password: {AS_PASSWORD}, tokens: [{token(AS_PASSWORD)}]}}",
        f"+note={token(AS_PASSWORD)}",
        "method.apply._target_=planted_method.apply",
    ]


def find(workspace: Path) -> dict[str, set[str]]:
    """Search every file for every marker."""
    found: dict[str, set[str]] = {}
    files = [path for path in workspace.rglob("*") if path.is_file()]
    assert len(files) >= 5
    for path in files:
        content = path.read_bytes()
        for marker in MARKERS:
            if re.search(re.escape(marker).encode(), content, re.IGNORECASE):
                found.setdefault(str(path.relative_to(workspace)), set()).add(marker)
    return found


def read_all(workspace: Path, pattern: str) -> str:
    return "\n".join(path.read_text() for path in sorted((workspace / "mlruns").rglob(pattern)))


def test_a_single_run_writes_no_secret(start: Start, planted: list[str], workspace: Path) -> None:
    done = start(*planted)
    assert done.returncode == 0, done.stderr
    assert find(workspace) == {}
    # it is there, by its name
    config = read_all(workspace, "artifacts/*/artifacts/config.yaml")
    assert "inside: a-${oc.env:PLAIN_VARIABLE}-b" in config
    assert "through: a-${oc.env:PLAIN_VARIABLE}-b" in config
    assert "hub_token: '***'" in config
    assert "hub_token: '***'" in read_all(workspace, ".hydra/config.yaml")
    assert "+trainer.hub_token=***" in read_all(workspace, ".hydra/overrides.yaml")
    assert "logged ***" in read_all(workspace, "train.log")
    code = read_all(workspace, "code.json")
    assert "src/planted_method.py" in code
    assert ".env" in code
    assert "settings.ini" in code


def test_an_interrupted_run_keeps_no_secret_in_its_checkpoints(
    start: Start, planted: list[str], workspace: Path, checkout: Path
) -> None:
    """Whose arguments are pickled."""
    process = subprocess.Popen(
        [sys.executable, str(checkout / "train.py"), *planted, "trainer.num_train_epochs=500"],
        cwd=workspace,
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(checkout / "src")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 120
        while not list(workspace.rglob("checkpoint-*/trainer_state.json")):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)
    finally:
        process.kill()
        process.wait()
    assert list(workspace.rglob("training_args.bin"))
    assert find(workspace) == {}


def test_a_run_that_fails_writes_no_secret(
    start: Start, planted: list[str], workspace: Path
) -> None:
    done = start(*planted, f"data.train=no-{IN_SECRET_VARIABLE}-{token(SAID_BY_JOB)}.csv")
    assert "error: data.train=no-***-***.csv: no such file" in done.stderr
    done = start(*planted, "data.train=${oc.env:PLAIN_VARIABLE}.csv")
    assert "error: data.train=${oc.env:PLAIN_VARIABLE}.csv: no such file" in done.stderr
    assert find(workspace) == {}


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_sweep_writes_no_secret(
    start: Start, planted: list[str], workspace: Path, num_workers: int
) -> None:
    """One of its trials fails with a secret in its error; what jobs print goes to a file."""
    fixed = [text for text in planted if not text.startswith("trainer.learning_rate=")]
    arguments = [
        "-m",
        *fixed,
        "trainer.learning_rate=1e-3,3e-3,4e-3,5e-3,6e-3",
        "sampler=grid",
        "study=s",
        "sweep.num_trials=3",
        f"hydra.sweeper.num_workers={num_workers}",
        "sweep.max_failure_rate=1",
    ]
    done = start(*arguments)
    assert done.returncode == 0, done.stderr
    assert "1 fail" in done.stdout
    assert find(workspace) == {}
    assert "RuntimeError: raised *** ***" in read_all(workspace, "trial-*/train.log")
    assert "raised ***" in read_all(workspace, "report.md")
    if num_workers > 1:
        printed = read_all(workspace, "console.log")
        assert "printed ***" in printed
        assert "written ***" in printed
        return
    # the same question is asked when it goes on, and what is hidden is no change
    arguments = [text.replace(AS_HUB_TOKEN, AS_PASSWORD) for text in arguments]
    done = start(*arguments, "sweep.num_trials=3")
    assert "was started with another" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert find(workspace) == {}


def test_a_database_that_cannot_be_reached_is_named_without_its_password(
    start: Start, planted: list[str], workspace: Path
) -> None:
    url = f"postgresql://me:{IN_DATABASE_URL}@127.0.0.1:1/none"
    searched = "trainer.weight_decay=0,0.1"
    done = start("-m", *planted, searched, f"hydra.sweeper.storage={url}", "study=s")
    assert done.returncode != 0
    assert "postgresql://***@127.0.0.1:1/none" in done.stdout + done.stderr
    assert IN_DATABASE_URL not in done.stdout + done.stderr
    assert find(workspace) == {}


@pytest.fixture
def server(workspace: Path) -> Iterator[str]:
    """``mlflow server`` on loopback; its address has a password, which it does not ask for."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}",
         "--workers=1", f"--backend-store-uri=sqlite:///{workspace}/mlruns/mlflow.db",
         f"--artifacts-destination={workspace}/mlruns/artifacts"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while True:
            assert time.monotonic() < until
            try:
                if requests.get(f"http://127.0.0.1:{port}/health", timeout=1).ok:
                    break
            except requests.RequestException:
                time.sleep(0.2)
        yield f"http://me:{IN_URI}@127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def test_the_password_of_a_server_stays_out_of_its_runs(
    start: Start, planted: list[str], workspace: Path, server: str
) -> None:
    done = start(*planted, f"tracking.uri={server}")
    assert done.returncode == 0, done.stderr
    assert find(workspace) == {}
    assert IN_URI not in done.stdout
