"""``tunetrail predict`` in this process, and what it reads from stdin."""

import io
import sys

import pytest

from tunetrail.__main__ import main


def predict(*arguments: object) -> int:
    return main(["predict", *map(str, arguments)])


def give_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
