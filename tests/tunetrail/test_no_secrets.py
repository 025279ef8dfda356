"""Secrets are planted in every place, and every byte that was written is searched."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Server
from toys import ROOT, run_here

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:warned:UserWarning")]

# Each has another shape or place, and its own number.
MARKERS = [f"Pl4nted{number:02d}Secret" for number in range(13)]
(
    IN_SECRET_VARIABLE, IN_PLAIN_VARIABLE, AS_HUB_TOKEN, AS_PASSWORD, IN_URI, IN_DATABASE_URL,
    IN_REMOTE, IN_TRACKED_FILE, IN_DOT_ENV, SAID_BY_JOB, UNQUOTED, IN_CONFIG_FILE, IN_DATA_URL,
) = MARKERS  # fmt: skip
ENVIRONMENT = {"SERVICE_PASSWORD": IN_SECRET_VARIABLE, "PLAIN_VARIABLE": IN_PLAIN_VARIABLE}


def token(marker: str) -> str:
    return "hf_" + marker + "AbCdEfGhIjKl"


# A method that says secrets in all ways that a job has, and fails at its second call.
METHOD = f"""
import logging, os, sys, warnings

from tunetrail.models.methods.full import Full

calls = []

class Planted(Full):
    def prepare(self, model, **kwargs):
        calls.append(model)
        said = "hf_" + "{SAID_BY_JOB[:6]}" + "{SAID_BY_JOB[6:]}" + "AbCdEfGhIjKl "
        said += os.environ["SERVICE_PASSWORD"]
        print("printed", said, flush=True)
        os.write(2, f"written {{said}}\\n".encode())
        logging.getLogger("planted").info("logged %s", said)
        warnings.warn("warned " + said)
        if len(calls) == 2 or "FAIL_AT_ONCE" in os.environ:
            raise RuntimeError("raised " + said)
        return model
"""


# Changed and untracked files as people write them, each with a secret that has no quotes.
FILES = {
    "deploy.yaml": f"db:\n  user: me\n  password: {UNQUOTED}\n",
    "smtp.ini": f"[smtp]\npass = {UNQUOTED}\n",
    "run.sh": f"export API_TOKEN={UNQUOTED}\ncurl -u me:{UNQUOTED} https://h\n",
    "Dockerfile": f"FROM x\nENV DB_PASSWORD={UNQUOTED}\n",
    "src/notes.py": f"# the password is {UNQUOTED}\n",
    "notes.md": f"- token: {UNQUOTED}\n",
    "conf/experiment/planted.yaml": f"# @package _global_\nlogin2:\n  db_pass: {IN_CONFIG_FILE}\n",
}


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
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / ".env").write_text(f"ANYTHING={IN_DOT_ENV}\n")
    (folder / "src" / "planted_method.py").write_text(METHOD)
    return folder


@pytest.fixture
def run_planted(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """``python train.py …`` in this process, with secrets in its environment."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "planted_method.py").write_text(METHOD)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "planted_method", raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return lambda *overrides: run_here(monkeypatch, *overrides)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, timeout=30)


@pytest.fixture
def start(checkout: Path, workspace: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """``python train.py …`` of the checkout, in the workspace, with secrets in the environment."""

    def run(*overrides: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, str(checkout / "train.py"), *overrides],
            cwd=workspace,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(checkout / "src")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
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
        f"+hub_token={AS_HUB_TOKEN}",
        f"+login={{user: me, password: {AS_PASSWORD}, tokens: [{token(AS_PASSWORD)}]}}",
        f"+note={token(AS_PASSWORD)}",
        f"+mail.smtp_pass={AS_PASSWORD}",
        "method._target_=planted_method.Planted",
    ]


def find(workspace: Path) -> dict[str, set[str]]:
    """Search every file and its name for every marker."""
    found: dict[str, set[str]] = {}
    files = [path for path in workspace.rglob("*") if path.is_file()]
    assert len(files) >= 5
    for path in files:
        content = str(path.relative_to(workspace)).encode() + path.read_bytes()
        for marker in MARKERS:
            if re.search(re.escape(marker).encode(), content, re.IGNORECASE):
                found.setdefault(str(path.relative_to(workspace)), set()).add(marker)
    return found


def read_all(workspace: Path, pattern: str) -> str:
    return "\n".join(path.read_text() for path in sorted(workspace.rglob(pattern)))


@pytest.fixture
def server(workspace: Path) -> Iterator[str]:
    """An address with a password, which the server does not ask for."""
    running = Server(workspace)
    running.start()
    yield running.uri.replace("//", f"//me:{IN_URI}@")
    running.stop()


def test_a_single_run_writes_no_secret_while_it_trains_nor_at_its_end(
    start: Callable[..., "subprocess.Popen[str]"], planted: list[str], workspace: Path, server: str
) -> None:
    """Into a server whose address has a password; checkpoints, for one, hold pickled arguments."""
    process = start(
        *planted, f"tracking.uri={server}", "trainer.num_train_epochs=20", "experiment=planted"
    )
    try:
        until = time.monotonic() + 120
        while not list(workspace.rglob("checkpoint-*/trainer_state.json")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.001)
        process.send_signal(signal.SIGSTOP)
        assert list(workspace.rglob("training_args.bin"))
        assert find(workspace) == {}
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert IN_URI not in out + err
    assert find(workspace) == {}
    # it is there, by its name
    config = read_all(workspace, "artifacts/**/config.yaml")
    assert "inside: a-${oc.env:PLAIN_VARIABLE}-b" in config
    assert "through: a-${oc.env:PLAIN_VARIABLE}-b" in config
    assert "hub_token: '***'" in config
    assert "hub_token: '***'" in read_all(workspace, ".hydra/config.yaml")
    assert "+hub_token=***" in read_all(workspace, ".hydra/overrides.yaml")
    assert "logged ***" in read_all(workspace, "train.log")
    code = read_all(workspace, "code.json")
    assert "src/planted_method.py" in code
    assert ".env" in code
    assert {name for name in FILES if name not in code} == set()
    assert "db_pass: '***'" in config


def test_a_run_that_fails_writes_no_secret(
    run_planted: Callable[..., Any], planted: list[str], workspace: Path
) -> None:
    with pytest.raises(SystemExit, match=r"error: data\.train=no-\*{3}-\*{3}\.csv: no such file"):
        run_planted(*planted, f"data.train=no-{IN_SECRET_VARIABLE}-{token(SAID_BY_JOB)}.csv")
    said = r"error: data\.train=\$\{oc\.env:PLAIN_VARIABLE\}\.csv: no such file"
    with pytest.raises(SystemExit, match=said):
        run_planted(*planted, "data.train=${oc.env:PLAIN_VARIABLE}.csv")
    with pytest.raises(SystemExit) as caught:
        run_planted(*planted, f"data.train=https://me:{IN_DATA_URL}@127.0.0.1:1/x.csv")
    assert "data.train=https://***@127.0.0.1:1/x.csv" in str(caught.value)
    with pytest.raises(SystemExit, match=r"studies/x-\*\*\*: holds what looks like a secret"):
        run_planted("-m", *planted, f"study=x-{token(AS_PASSWORD)}")
    with pytest.raises(SystemExit, match=r"login\.password is searched, and what is searched"):
        run_planted("-m", *planted, f"login.password={AS_PASSWORD},{SAID_BY_JOB}")
    for name in ("tracking.experiment", "registry.name"):
        with pytest.raises(SystemExit, match=rf"{name}=x-\*\*\*: holds what looks like a secret"):
            run_planted(*planted, f"{name}=x-{token(AS_PASSWORD)}")
    assert find(workspace) == {}


@pytest.fixture
def sweep(planted: list[str]) -> list[str]:
    """Three trials, one of which fails with a secret in its error."""
    fixed = [text for text in planted if not text.startswith("trainer.learning_rate=")]
    return [
        "-m",
        *fixed,
        "trainer.learning_rate=1e-3,3e-3,4e-3,5e-3,6e-3",
        "sampler=grid",
        "study=s",
        "sweep.num_trials=3",
        "sweep.max_failure_rate=1",
    ]


def require_no_secrets_in(workspace: Path) -> None:
    assert find(workspace) == {}
    assert "RuntimeError: raised *** ***" in read_all(workspace, "trial-*/train.log")
    assert "raised ***" in read_all(workspace, "report.md")


def test_a_sweep_writes_no_secret_and_continues_with_another(
    run_planted: Callable[..., Any],
    sweep: list[str],
    workspace: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run_planted(*sweep)
    assert "1 fail" in capfd.readouterr().out
    require_no_secrets_in(workspace)
    # the study is continued with the same config, and what is hidden is no change
    run_planted(*(text.replace(AS_HUB_TOKEN, AS_PASSWORD) for text in sweep))
    assert "was started with another" not in capfd.readouterr().err
    assert find(workspace) == {}


def test_a_fault_in_code_ends_with_a_traceback_without_secrets(
    start: Callable[..., "subprocess.Popen[str]"],
    planted: list[str],
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hydra prints what was typed before it."""
    monkeypatch.setenv("FAIL_AT_ONCE", "1")
    process = start(*planted)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 1
    said = err[err.index("Error executing job with overrides") :]
    assert "'+hub_token=***'" in said
    assert "RuntimeError: raised *** ***" in said
    assert [marker for marker in MARKERS if marker in said] == []
    assert find(workspace) == {}


def test_a_rerun_writes_no_secret_and_shows_none_in_the_list_of_processes(
    checkout: Path, start: Callable[..., "subprocess.Popen[str]"], tiny: list[str],
    workspace: Path, server: str,
) -> None:  # fmt: skip
    """The run is of code that holds secrets, in a server whose address holds one."""
    _, err = (process := start(*tiny, f"tracking.uri={server}")).communicate(timeout=600)
    assert process.returncode == 0, err
    (run_id,) = re.findall(r"^run +([0-9a-f]{32})$", _, re.MULTILINE)
    command = [sys.executable, "-m", "tunetrail", "rerun", run_id, f"--uri={server}"]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(checkout / "src")}
    shown = set()
    with (
        tempfile.TemporaryFile("w+") as file,
        subprocess.Popen(
            command, cwd=workspace, env=environment, stdout=file, stderr=file
        ) as process,
    ):
        while process.poll() is None:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    # Its own address was typed; processes of other tests are elsewhere.
                    is_here = path.with_name("cwd").resolve() == workspace.resolve()
                    if is_here and path.parent.name != str(process.pid):
                        shown.add(path.read_text())
            time.sleep(0.05)
        file.seek(0)
        said = file.read()
    assert process.returncode == 0, said
    assert any("rerun" in line and "--config-path" in line for line in shown)
    assert [m for m in MARKERS if m in said or any(m in line for line in shown)] == []
    assert find(workspace) == {}


def test_what_workers_print_is_written_without_secrets(
    start: Callable[..., "subprocess.Popen[str]"], sweep: list[str], workspace: Path
) -> None:
    process = start(*sweep, "hydra.sweeper.num_workers=2")
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    # How many fail before the budget is reached is chance with two workers.
    assert "| fail | RuntimeError: raised ***" in out
    require_no_secrets_in(workspace)
    printed = read_all(workspace, "console.log")
    assert "printed ***" in printed
    assert "written ***" in printed


def test_a_database_that_cannot_be_reached_is_named_without_its_password(
    run_planted: Callable[..., Any],
    planted: list[str],
    workspace: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    url = f"postgresql://me:{IN_DATABASE_URL}@127.0.0.1:1/none"
    searched = "trainer.weight_decay=0,0.1"
    with pytest.raises(SystemExit) as caught:
        run_planted("-m", *planted, searched, f"hydra.sweeper.storage={url}", "study=s")
    captured = capfd.readouterr()
    said = f"{caught.value}{captured.out}{captured.err}"
    assert "postgresql://***@127.0.0.1:1/none" in said
    assert IN_DATABASE_URL not in said
    assert find(workspace) == {}
