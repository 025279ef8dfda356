"""The environment is read completely, even if threads of libraries change it meanwhile."""

import os
import threading
import time

import pytest

from tunetrail.config.environment import read_environment
from tunetrail.config.secrets import redact


def test_what_is_set_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNETRAIL_TEST", "x")
    assert read_environment() == dict(os.environ)
    assert read_environment()["TUNETRAIL_TEST"] == "x"


def test_a_variable_that_another_thread_removes_is_no_error() -> None:
    """MLflow's telemetry does so while a run begins."""
    over = threading.Event()

    def flicker() -> None:
        while not over.is_set():
            for number in range(50):
                os.environ[f"TUNETRAIL_TEST_{number}"] = "x"
            for number in range(50):
                os.environ.pop(f"TUNETRAIL_TEST_{number}")

    thread = threading.Thread(target=flicker)
    thread.start()
    try:
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            assert "PATH" in read_environment()
            assert redact("a text") == "a text"
    finally:
        over.set()
        thread.join()
    assert not any(name.startswith("TUNETRAIL_TEST_") for name in os.environ)
