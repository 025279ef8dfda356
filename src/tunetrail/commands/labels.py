"""Write the labels of a run that are probably wrong as a CSV to hand to an annotator, worst first.

Its last column, corrected_label, is empty: the annotator fills it in. A suspect is a suggestion.
"""

import argparse

from tunetrail.commands.arguments import add_uri, read_path
from tunetrail.config.terminal import say
from tunetrail.errors import InputError, printable

HELP = "the labels of a run that are probably wrong, as a table for an annotator"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="RUN_ID", help="as in tunetrail rerun")
    parser.add_argument("--output", type=read_path, metavar="FILE", help="a .csv (default: stdout)")
    add_uri(parser)


def run(arguments: argparse.Namespace) -> int:
    from tunetrail.data.tables.files import open_output, require_output
    from tunetrail.runs.suspects import read_suspects

    if arguments.output is not None:
        if arguments.output.suffix.lower() != ".csv":
            raise InputError(f"--output {arguments.output}: give a name that ends in .csv")
        require_output(arguments.output, format_name="csv", source=None)
    found = read_suspects(arguments.run_id, uri=arguments.uri)
    if arguments.output is None:
        print(printable(found.text), end="")  # noqa: T201 - the table itself
        return 0
    with open_output(arguments.output, format_name="csv") as file:
        # Spreadsheets take a CSV for UTF-8 where it begins so.
        file.write("\ufeff" + found.text)
    say(f"{found.num_rows:,} labels that are probably wrong, worst first: {arguments.output}")
    return 0
