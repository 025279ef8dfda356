"""The command ``tunetrail``: work with the runs and models in the store."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from tunetrail.config.store_key import store_named
from tunetrail.config.terminal import clean, clean_tracebacks, say, say_error
from tunetrail.errors import InputError

# Each is a module of tunetrail.commands: HELP, add_arguments(parser), run(arguments) -> exit code.
# Heavy libraries are imported when a command runs, so that --help answers at once.
_INTERRUPTED = 130
COMMANDS: tuple[str, ...] = (
    "ui",
    "rerun",
    "compare",
    "labels",
    "lineage",
    "predict",
    "export",
    "repair",
    "study",
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Leave with a line that repeats what was typed, without secrets."""
        super().error(clean(message))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error is one line, and the code 1."""
    clean_tracebacks()
    try:
        return _run(arguments)
    except InputError as error:
        if "HYDRA_FULL_ERROR" in os.environ:
            raise
        say_error(error)
        return 1
    except KeyboardInterrupt:
        say("interrupted", file=sys.stderr)
        return _INTERRUPTED


def _run(arguments: Sequence[str] | None) -> int:
    parser = _Parser(prog="tunetrail", description=__doc__)
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    modules = {name: importlib.import_module(f"tunetrail.commands.{name}") for name in COMMANDS}
    for name, module in modules.items():
        command = parsers.add_parser(name, help=module.HELP, description=module.__doc__)
        module.add_arguments(command)
    asked, rest = parser.parse_known_args(arguments)
    # argparse ends a list of KEY=VALUE at the first option; what comes after belongs to it, too.
    if not hasattr(asked, "overrides") or any(text.startswith("-") for text in rest):
        parser.parse_args(arguments)  # prints what it does not know, and exits
    else:
        asked.overrides += rest
    with store_named("--uri"):
        return int(modules[asked.command].run(asked))


if __name__ == "__main__":
    sys.exit(main())
