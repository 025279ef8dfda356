"""Label texts: arguments, a file or stdin in; the same kind out, with labels and probabilities.

Exit code: 0 where every row was classified, 3 where some could not be (they are left out and
named on stderr), 1 after an error, 2 where the command line is wrong.
"""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tunetrail.commands.arguments import add_uri, read_count

if TYPE_CHECKING:
    from tunetrail.data.tables.files import OpenTable
    from tunetrail.data.tables.rows import TableWriter
    from tunetrail.serving.predict import PredictionReport

HELP = "label texts with a model of the store or a directory"
SOME_BAD = 3
_INTERRUPTED = 130
_BROKEN_PIPE = 141


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="NAME@ALIAS or NAME/VERSION of the registry (NAME: its champion), a run id, or a "
        "directory",
    )
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="texts to label")
    parser.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        help=".csv, .tsv, .jsonl, .txt (a text a line), all also .gz, or .parquet; without it and "
        "without TEXT, stdin is read",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="where the answers go (default: stdout)"
    )
    parser.add_argument(
        "--format",
        choices=("text", "csv", "tsv", "jsonl"),
        help="of stdin (default: text, a text a line), or of a FILE whose suffix does not say it",
    )
    parser.add_argument(
        "--text-column",
        default="text",
        metavar="NAME",
        help="the column or key that holds the texts (default: %(default)s)",
    )
    parser.add_argument(
        "--prefix",
        default="",
        metavar="TEXT",
        help="put before the names of the columns that are added, where the table has such already",
    )
    parser.add_argument(
        "--batch-tokens",
        type=read_count,
        metavar="N",
        help="tokens, padding included, that go through the model at once",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto takes a GPU where there is one (default: %(default)s)",
    )
    add_uri(parser)
    parser.set_defaults(refuse=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    try:
        report = _predict(arguments)
    except BrokenPipeError:
        # Whoever read the answers has enough of them. Python would flush once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        _say("interrupted" + (f"; {arguments.output} is as it was" if arguments.output else ""))
        return _INTERRUPTED
    return SOME_BAD if report.num_bad else 0


def _predict(arguments: argparse.Namespace) -> "PredictionReport":
    kind = _require_kind(arguments)
    from tunetrail.data.tables.files import require_output
    from tunetrail.serving.find import open_model
    from tunetrail.serving.predict import load_classifier, predict_table

    if arguments.output is not None:
        require_output(arguments.output, kind=kind, source=arguments.input)
    with (
        open_model(arguments.model, uri=arguments.uri) as saved,
        _open_table(arguments, kind, _added(arguments, saved.label_names)) as table,
    ):
        classifier = load_classifier(
            saved, device=arguments.device, batch_tokens=arguments.batch_tokens
        )
        with _open_output(arguments, kind) as file:
            report = predict_table(
                table,
                _build_writer(arguments, table, file, _added(arguments, saved.label_names)),
                classifier,
                # A bar would be drawn across answers on the same screen.
                show_progress=not arguments.texts
                and not (arguments.output is None and sys.stdout.isatty()),
            )
            file.flush()
    _say_bad(report, table.reader.unit)
    return report


def _require_kind(arguments: argparse.Namespace) -> str:
    """Check that the arguments go together, and return the kind of table that is read."""
    from tunetrail.data.tables.files import find_kind

    refuse = arguments.refuse
    if arguments.texts:
        if arguments.input is not None:
            refuse("TEXT and --input exclude each other")
        if arguments.format is not None:
            refuse("--format says what is in a file or in stdin; TEXT needs none")
        return "text"
    if arguments.input is None:
        if sys.stdin.isatty():
            refuse("nothing to label: give TEXT, or --input FILE, or texts on stdin")
        return str(arguments.format or "text")
    kind = str(arguments.format or find_kind(arguments.input))
    if kind == "parquet" and arguments.output is None:
        refuse("Parquet is no stream: give --output FILE.parquet")
    return kind


def _added(arguments: argparse.Namespace, label_names: tuple[str, ...]) -> list[str]:
    from tunetrail.data.tables.rows import answer_columns

    return answer_columns(label_names, prefix=arguments.prefix)


@contextlib.contextmanager
def _open_table(
    arguments: argparse.Namespace, kind: str, added: list[str]
) -> Iterator["OpenTable"]:
    from tunetrail.data.tables.files import open_arguments, open_stream, open_table

    if arguments.texts:
        yield open_arguments(arguments.texts, added=added)
    elif arguments.input is not None:
        with open_table(
            arguments.input, kind, text_column=arguments.text_column, added=added
        ) as table:
            yield table
    else:
        yield open_stream(
            sys.stdin.buffer,
            kind,
            name="stdin",
            text_column=arguments.text_column,
            added=added,
        )


@contextlib.contextmanager
def _open_output(arguments: argparse.Namespace, kind: str) -> Iterator[IO[Any]]:
    from tunetrail.data.tables.files import open_output

    if arguments.output is not None:
        with open_output(arguments.output, kind=kind) as file:
            yield file
        return
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(encoding="utf-8", newline="")
    yield sys.stdout


def _build_writer(
    arguments: argparse.Namespace,
    table: "OpenTable",
    file: IO[Any],
    added: list[str],
) -> "TableWriter":
    from tunetrail.data.tables.plain import ScreenWriter

    if arguments.texts and arguments.output is None and sys.stdout.isatty():
        return ScreenWriter(file, added=added)
    return table.build_writer(file)


def _say_bad(report: "PredictionReport", unit: str) -> None:
    if not report.num_bad:
        return
    _say(f"{report.num_bad} of {report.num_rows} rows could not be classified and are left out:")
    for row in report.named:
        _say(f"  {unit} {row.number}: {row.cause}")
    if further := report.num_bad - len(report.named):
        _say(f"  and {further} more")


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - what a command says
