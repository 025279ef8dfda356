"""``tunetrail ui``: the real server on a real study, looked at in a real browser."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import needs_browser, open_browser
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from toys import fill_workspace, run_here, tiny_overrides

from tunetrail.__main__ import main
from tunetrail.runs import server
from tunetrail.runs.pages import find_page
from tunetrail.tracking.store import connect

TITLES = [
    "train/loss vs validation/loss",
    "train/accuracy vs validation/accuracy",
    "Parallel Coordinates",
    "best/gap/accuracy vs. best/validation/accuracy",
    "speed/seconds vs. best/validation/accuracy",
    "train/step_loss",
]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_what_cannot_be_shown_is_refused_in_a_line(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiments = ["--uri", "sqlite:///mlruns/mlflow.db"]
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        connect("sqlite:///mlruns/mlflow.db").create_run("0", run_name="r")
        wanted = {
            (*experiments, f"--port={port}"): f"error: --port={port}: cannot listen there",
            (*experiments, "--host=no.such.host.invalid"): "error: --host=no.such.host.invalid: ",
            (*experiments, "--host=203.0.113.7"): "error: --host=203.0.113.7: no port from",
            (*experiments, "s"): "error: no study and no run s in",
            ("--uri", "sqlite:///none.db"): "error: no store in ",
            ("--uri", f"http://127.0.0.1:{free_port()}"): "no MLflow server answers there",
            ("--uri", "mlruns"): "MLflow has no plain-file stores any more",
        }
        for arguments, message in wanted.items():
            assert main(["ui", "--no-browser", *arguments]) == 1, arguments
            said = capsys.readouterr()
            assert message in said.err
            assert said.err.count("\n") == 1
            assert not said.out
    for port_text in ("0", "65536", "-1", "5000.5", "http", ""):
        with pytest.raises(SystemExit):
            main(["ui", f"--port={port_text}"])
        assert "from 1 to 65535" in capsys.readouterr().err


def test_without_a_port_the_next_free_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        monkeypatch.setattr(server, "DEFAULT_PORT", port)
        assert port < server.find_port("127.0.0.1", None) < port + 20


def test_an_address_is_one_that_a_browser_takes() -> None:
    hosts = ("127.0.0.1", "0.0.0.0", "::1", "::", "box")
    assert [server.address_of(host, 80) for host in hosts] == [
        "http://127.0.0.1:80", "http://127.0.0.1:80", "http://[::1]:80", "http://127.0.0.1:80",
        "http://box:80",
    ]  # fmt: skip


@pytest.mark.parametrize(("environment", "opened"), [({"BROWSER": "touch"}, True), ({}, False)])
def test_a_browser_is_opened_only_where_there_is_a_display(
    tmp_path: Path, environment: dict[str, str], opened: bool
) -> None:
    without = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    code = "import sys; from tunetrail.runs.browser import open_browser; open_browser(sys.argv[1])"
    # Stands for a browser: a program that leaves a file of the address behind.
    subprocess.run(
        [sys.executable, "-c", code, "page"], cwd=tmp_path, env={**without, **environment},
        check=True,
    )  # fmt: skip
    until = time.monotonic() + 5
    while opened and not list(tmp_path.iterdir()) and time.monotonic() < until:
        time.sleep(0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["page"] * opened


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, tiny_gpt2: Path) -> Path:
    """A workspace with a study: trials that completed, one pruned, one that seems to run."""
    folder = tmp_path_factory.mktemp("studied")
    fill_workspace(folder, empty_store)
    kept = ("trainer.learning_rate=", "trainer.num_train_epochs=")
    overrides = [text for text in tiny_overrides(tiny_gpt2) if not text.startswith(kept)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_here(
            patch, "-m", *overrides, "study=mine", "sweep.num_trials=3", "sweep.final_seeds=0",
            "trainer.num_train_epochs=2", "trainer.learning_rate=tag(log,interval(1e-9,1e-2))",
            "pruner.n_startup_trials=1",
            "sweep.enqueue=[{trainer.learning_rate: 3e-3},{trainer.learning_rate: 1e-9}]",
            "diagnostics={forgetting:false,baselines:false,calibration:false,summary:false}",
        )  # fmt: skip
        client = connect("sqlite:///mlruns/mlflow.db")
        (other,) = client.search_runs(["1"], "tags.`tunetrail.trial` = '0'")
        tags = {key: other.data.tags[key] for key in ("mlflow.parentRunId", "tunetrail.study")}
        client.create_run("1", run_name="running", tags={**tags, "tunetrail.trial": "3"})
    return folder


@dataclass
class Ui:
    """``tunetrail ui`` at work, and what it has printed."""

    process: "subprocess.Popen[str]"
    address: str
    said: str

    def list_processes(self) -> list[str]:
        """The commands of all processes that it has started."""
        found = []
        children: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        ahead = children.get(self.process.pid, [])
        while ahead:
            pid = ahead.pop()
            ahead += children.get(pid, [])
            found.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
        return found


@pytest.fixture(scope="module")
def ui(studied: Path) -> Iterator[Ui]:
    command = [sys.executable, "-m", "tunetrail", "ui", "--no-browser", f"--port={free_port()}"]
    with subprocess.Popen(
        # Whoever runs the tests in the background ignores Ctrl-C, and so would their children.
        ["env", "--default-signal=INT", *command],
        cwd=studied, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # A browser would open if --no-browser were not heeded.
        env={**os.environ, "BROWSER": "touch opened-%s", "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            said = ""
            while "Ctrl-C" not in said:
                line = process.stdout.readline()
                assert line, said
                said += line
            (address,) = re.findall(r"http://\S+", said)
            yield Ui(process, address, said)
        finally:
            process.kill()


CARD = "[data-testid='experiment-view-compare-runs-card']"


def wait_for(browser: WebDriver, selector: str, number: int = 1) -> list[WebElement]:
    """Wait until there are so many elements."""

    def find(browser: WebDriver) -> list[WebElement] | None:
        found = browser.find_elements(By.CSS_SELECTOR, selector)
        return found if len(found) >= number else None

    return WebDriverWait(browser, 60).until(find, f"fewer than {number} of {selector}")


@pytest.mark.slow
@needs_browser
def test_the_browser_shows_the_charts_of_the_newest_study(ui: Ui, studied: Path) -> None:
    assert "study mine\n" in ui.said
    with open_browser() as browser:
        browser.get(ui.address)
        titles = wait_for(browser, f"{CARD} h4", len(TITLES))
        assert [title.get_attribute("title") for title in titles] == TITLES
        # Every card has drawn something: curves, points or, of the parallel one, a canvas.
        drawn = f"{CARD} :is(.scatterlayer path, canvas)"
        assert len(wait_for(browser, drawn, len(TITLES))) > 20
        [view] = wait_for(browser, "[data-testid='saved-views-trigger']")
        assert view.text == "mine"
        page = browser.find_element(By.TAG_NAME, "body").text
        assert "4 matching runs" in page
        groups = re.findall(r"Group: (\w+)|(Additional runs)|^(running)$", page, re.MULTILINE)
        assert {name for group in groups for name in group if name} == {
            "COMPLETE", "PRUNED", "Additional runs", "running",
        }  # fmt: skip
        require_model_training(browser)
        # The page loads nothing from elsewhere, such as a counter of visits.
        loaded = browser.execute_script(
            "return performance.getEntriesByType('resource').map(one => one.name)"
        )
        server = "/".join(ui.address.split("/")[:3])
        assert [url for url in loaded if not url.startswith((server, "data:", "blob:"))] == []
        # Of a run: its own page.
        browser.get("about:blank")
        browser.get(f"{server}{find_page('running', uri=server).path}")
        assert [title.text for title in wait_for(browser, "h2")][:1] == ["running"]
        require_model_training(browser)
    assert not list(studied.glob("opened-*"))
    assert not [text for text in ui.list_processes() if "job" in text or "huey" in text]


def require_model_training(browser: WebDriver) -> None:
    """Check that runs are shown, not traces, and that the toggle stands on model training."""
    [chosen] = wait_for(browser, "nav li a[aria-current=page]")
    assert chosen.text == "Runs"
    pages = [one.text for one in browser.find_elements(By.CSS_SELECTOR, "nav li a")]
    assert pages[pages.index("Runs") :][:3] == ["Runs", "Models", "Traces"]
    assert "Judges" not in pages


@pytest.mark.slow
def test_a_store_on_a_server_needs_no_second_one(
    ui: Ui, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = "/".join(ui.address.split("/")[:3])
    assert main(["ui", "mine", "--no-browser", "--uri", f"{uri}/"]) == 0
    said = capsys.readouterr().out
    assert ui.address in said
    assert "Ctrl-C" not in said


@pytest.mark.slow
def test_ctrl_c_ends_the_server_with_all_its_processes(ui: Ui) -> None:
    started = ui.list_processes()
    assert any("uvicorn" in text for text in started)
    before = time.monotonic()
    ui.process.send_signal(signal.SIGINT)
    assert ui.process.wait(timeout=30) == 0
    assert time.monotonic() - before < 20
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", int(ui.address.split("/")[2].partition(":")[2])))
