"""Print the run whose model a run started from, the run before that, and so on."""

import argparse

from tunetrail.commands.arguments import add_uri
from tunetrail.config.terminal import say

HELP = "which runs a run's weights went through"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("run_id", metavar="RUN_ID", help="as in tunetrail rerun")
    add_uri(parser)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from tunetrail.runs.lineage import format_lineage

    say(format_lineage(arguments.run_id, uri=arguments.uri))
    return 0
