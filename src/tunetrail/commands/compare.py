"""Compare runs: what differs in config, data, code and environment, and their metrics."""

import argparse

from tunetrail.commands.arguments import add_uri
from tunetrail.config.project import ROOT
from tunetrail.config.terminal import say

HELP = "what differs between runs, and their metrics side by side"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="RUN_ID", help="as in tunetrail rerun")
    parser.add_argument("others", metavar="RUN_ID", nargs="+", help="one or more to compare with")
    add_uri(parser)
    parser.add_argument("--all", action="store_true", help="show equal facts, too")


def run(arguments: argparse.Namespace) -> int:
    from tunetrail.runs.comparison import format_comparison
    from tunetrail.runs.records import load_record

    run_ids = [arguments.run_id, *arguments.others]
    records = [load_record(run_id, uri=arguments.uri) for run_id in run_ids]
    say(format_comparison(records, ROOT, with_equal=arguments.all))
    return 0
