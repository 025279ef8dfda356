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

_INTERRUPTED = 130
# Each is a module of tunetrail.commands: HELP, add_arguments(parser), run(arguments) -> exit code.
# Heavy libraries are imported when a command runs, so that --help answers at once.
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

_EXAMPLES = """examples:
  tunetrail ui                                           the charts of the newest study, in MLflow
  tunetrail rerun 35055d0e                               train again, and compare every number
  tunetrail compare 35055d0e 1f2e3d4c                    what differs between two runs
  tunetrail labels 35055d0e --output suspects.csv        labels to look at
  tunetrail lineage 35055d0e                             where its weights come from
  tunetrail predict tunetrail-tweets@champion 'a text'   or --input reviews.csv
  tunetrail export tunetrail-tweets@champion my-model    a directory of its own
  tunetrail repair                                       after a kill
  tunetrail study stop NAME                              also: enqueue NAME KEY=VALUE, retry NAME 3
"""


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
    parser = _Parser(
        prog="tunetrail",
        description="Work with the runs, models and studies in the store.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
