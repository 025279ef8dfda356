"""Put right what killed processes and an upgrade of MLflow left in a store.

Tables that a process was killed in are made anew or brought up to date, with a copy of what was
there. Runs that are RUNNING and that no process holds any more are closed as KILLED. Temporary
folders of ended processes are deleted. What another process or host may still hold stays.
"""

import argparse

from tunetrail.commands.arguments import add_uri

HELP = "put right what killed processes left: tables, runs that stay RUNNING, temporary folders"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "run_ids",
        metavar="RUN_ID",
        nargs="*",
        help="close these RUNNING runs, too, of which nothing is known here, such as those of a "
        "machine that is gone. They must not be trained any more",
    )
    add_uri(parser)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from tunetrail.runs.repair import repair

    for line in repair(arguments.run_ids, uri=arguments.uri):
        print(line, flush=True)  # noqa: T201 - what a command says
    return 0
