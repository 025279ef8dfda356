"""``tunetrail --help``: every command, with an example."""

import re

import pytest

from tunetrail.__main__ import COMMANDS, main


def test_every_command_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert tuple(re.findall(r"(?m)^  tunetrail (\w+)", said)) == COMMANDS
