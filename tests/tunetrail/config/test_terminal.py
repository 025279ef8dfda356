"""Names, errors and reports may come from anywhere: none of them steers the terminal."""

import logging
import os
import pty
import sys

import pytest

from hydra_plugins.optuna_study._console.report import format_value
from hydra_plugins.optuna_study._errors import SweepError
from tunetrail.__main__ import main
from tunetrail.commands.predict import _Terminal
from tunetrail.config.secrets import RedactingFormatter
from tunetrail.config.terminal import clean, say
from tunetrail.errors import printable
from tunetrail.runs.differences import show
from tunetrail.templates import caption, render

STEERS = {
    "a colour": ("\x1b[31mred", r"\x1b[31mred"),
    "a link": ("\x1b]8;;http://h\x07x", r"\x1b]8;;http://h\x07x"),
    "the clipboard": ("\x1b]52;c;aGk=\x1b\\", "\\x1b]52;c;aGk=\\x1b\\"),
    "a control character of eight bits": ("\x9b2J", r"\x9b2J"),
    "the start of the line": ("safe\rnot", r"safe\rnot"),
    "a step back": ("no\x08\x08yes", r"no\x08\x08yes"),
    "the direction": ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
    "a tag": ("a\U000e0041", r"a\U000e0041"),
    "a byte that is no text": ("\udcff.csv", r"\udcff.csv"),
}


@pytest.mark.parametrize(("text", "shown"), STEERS.values(), ids=STEERS)
def test_what_steers_a_terminal_is_shown_as_an_escape(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = logging.LogRecord("x", logging.INFO, "f", 1, "%s", (text,), None)
    assert RedactingFormatter("%(message)s").format(record) == shown
    assert str(SweepError(f"x={text}")) == f"x={shown}"
    assert format_value(text) == shown
    # A carriage return is white space where a text becomes one line.
    one_line = shown.replace(r"\r", " ")
    assert caption(text) == one_line
    assert show(text) == one_line
    assert is_calm(render("run_card", **card(text)))
    say(text)
    assert capsys.readouterr().out == f"{shown}\n"
    assert main(["lineage", "0a1b2c3d", f"--uri=sqlite:///none{text}.db"]) == 1
    assert is_calm(capsys.readouterr().err)


def is_calm(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def card(name: str) -> dict[str, str]:
    return {"name": name, "origin": name, "run_id": "0", "calibration": name}


def test_text_of_any_language_is_left_as_it_is() -> None:
    text = "größe, 日本語, עברית, e\u0301, 👩\u200d👩, a\tb\nc\r\n"
    assert printable(text) == clean(text) == text
    assert format_value("a\nb") == r"a\nb"


def test_a_table_of_answers_is_written_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as screen:
        monkeypatch.setattr(sys, "stdout", screen)
        _Terminal().write("text,label\r\n\x1b[31mred,\u202eb\r\n")
    seen = os.read(ours, 1000).decode()
    os.close(ours)
    assert seen.split() == ["text,label", r"\x1b[31mred,\u202eb"]


@pytest.mark.parametrize(
    "typed",
    [
        ["rerun", "0a1b2c3d", "--hub-token=Pl4ntedSecret"],
        ["rerun", "0a1b2c3d", "--threads", "https://me:Pl4ntedSecret@host"],
        ["predict", "x", "--no-such=hf_Pl4ntedSecretAbCdEfGhIjKl"],
    ],
    ids=" ".join,
)
def test_what_a_command_does_not_know_is_said_without_secrets(
    typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(typed)
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert "***" in said
    assert "Pl4nted" not in said
