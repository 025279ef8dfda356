"""Answer texts: arguments, a file or stdin in; the same format out, with answers beside the rows.

Exit code: 0 where every row was answered, 3 where some could not be (they are left out and named
on stderr) or seem to be several rows (named, too), 1 after an error, 2 where the command line is
wrong.
"""

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import IO, TYPE_CHECKING, Any

from tunetrail.commands.arguments import add_model, add_uri, read_count, read_path
from tunetrail.config.terminal import say
from tunetrail.data.tables.formats import FORMATS, find_format
from tunetrail.errors import InputError, is_disk_full, printable

if TYPE_CHECKING:
    from tunetrail.data.tables.rows import BadRow, TableReader
    from tunetrail.serving.predict import PredictionReport

HELP = "answer texts with a model of the store or a directory"
SOME_BAD = 3
_INTERRUPTED = 130
_BROKEN_PIPE = 141


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="texts to answer")
    parser.add_argument(
        "--input",
        type=read_path,
        metavar="FILE",
        help=f"{', '.join(FORMATS)}, all but the last also with .gz; without it and without TEXT, "
        "stdin is read",
    )
    parser.add_argument(
        "--output", type=read_path, metavar="FILE", help="where the answers go (default: stdout)"
    )
    parser.add_argument(
        "--format",
        choices=[name for name in dict.fromkeys(FORMATS.values()) if name != "parquet"],
        help="of stdin (default: text, a text a line), or of a FILE whose suffix does not say it",
    )
    parser.add_argument(
        "--encoding", default="utf-8", help="of the input (default: %(default)s); answers are UTF-8"
    )
    parser.add_argument(
        "--delimiter", metavar="SIGN", help="between the fields of CSV and TSV, such as ';'"
    )
    parser.add_argument(
        "--escaped-quotes",
        action="store_true",
        help='quotes in a quoted field of CSV may be written as \\", not only as ""',
    )
    parser.add_argument(
        "--text-column",
        metavar="NAME",
        help="the column or key that holds the texts (default: text; of CoNLL files: tokens)",
    )
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        type=_read_column,
        metavar="WHAT=NAME",
        help="the column that holds another of the inputs of a model that reads several, such as "
        "text_pair=hypothesis (default: the name of the input)",
    )
    parser.add_argument(
        "--prefix",
        default="",
        metavar="TEXT",
        help="goes before the names of the answers' columns, where the table has such already",
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
    try:
        report = _predict(arguments)
    except BrokenPipeError:
        # The reader of the answers has closed them. Python would flush once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        if arguments.output is not None or not is_disk_full(error):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise InputError(f"stdout cannot be written: {os.strerror(errno.ENOSPC)}") from error
    except KeyboardInterrupt:
        _say("interrupted" + (f"; {arguments.output} is as it was" if arguments.output else ""))
        return _INTERRUPTED
    return SOME_BAD if report.num_bad or report.num_joined else 0


def _predict(arguments: argparse.Namespace) -> "PredictionReport":
    format_name = _require_format(arguments)
    from tunetrail.data.tables.files import require_output
    from tunetrail.serving.find import open_model
    from tunetrail.serving.load import load_model
    from tunetrail.serving.predict import predict_table

    if arguments.output is not None:
        require_output(arguments.output, format_name=format_name, source=arguments.input)
    with (
        open_model(arguments.model, uri=arguments.uri) as saved,
        _open_table(arguments, format_name) as reader,
    ):
        model = load_model(saved, device=arguments.device, batch_tokens=arguments.batch_tokens)
        with _open_output(arguments, format_name) as file:
            report = predict_table(
                reader,
                file,
                model,
                column_names=_name_columns(arguments),
                prefix=arguments.prefix,
                # A bar would be drawn across answers on the same screen.
                show_progress=not arguments.texts
                and not (arguments.output is None and sys.stdout.isatty()),
            )
            file.flush()
    _say_bad(report, reader.unit)
    return report


def _read_column(text: str) -> tuple[str, str]:
    what, separator, name = text.partition("=")
    if not (what and separator and name):
        raise argparse.ArgumentTypeError(f"{text!r} is no WHAT=NAME")
    return what, name


def _name_columns(arguments: argparse.Namespace) -> dict[str, str]:
    """Return what of a model's inputs is in a column that was named."""
    text = {} if arguments.text_column is None else {"text": arguments.text_column}
    return text | dict(arguments.column)


def _require_format(arguments: argparse.Namespace) -> str:
    """Check that the arguments go together, and return the format of the table that is read."""
    refuse = arguments.refuse
    if arguments.texts:
        if arguments.input is not None:
            refuse("TEXT and --input exclude each other")
        if arguments.format is not None:
            refuse("--format says what is in a file or in stdin; TEXT needs none")
        return "text"
    if arguments.input is None:
        if sys.stdin.isatty():
            refuse("there is no input: give TEXT, or --input FILE, or texts on stdin")
        return str(arguments.format or "text")
    name = str(arguments.format or find_format(arguments.input, name=str(arguments.input)))
    if name == "parquet" and arguments.output is None:
        refuse("Parquet is no stream: give --output FILE.parquet")
    return name


def _open_table(
    arguments: argparse.Namespace, format_name: str
) -> AbstractContextManager["TableReader"]:
    from tunetrail.data.tables.files import open_stream, open_table
    from tunetrail.data.tables.plain import ArgumentReader
    from tunetrail.data.tables.reading import Reading

    reading = Reading(
        arguments.encoding,
        delimiter=arguments.delimiter,
        escaped_quotes=arguments.escaped_quotes,
        is_command=True,
    )
    if arguments.texts:
        for_screen = arguments.output is None and sys.stdout.isatty()
        return nullcontext(ArgumentReader(arguments.texts, for_screen=for_screen))
    if arguments.input is not None:
        name = str(arguments.input)
        return open_table(arguments.input, format_name, name=name, reading=reading)
    stream = open_stream(sys.stdin.buffer, format_name, name="stdin", reading=reading)
    return nullcontext(stream)


def _open_output(
    arguments: argparse.Namespace, format_name: str
) -> AbstractContextManager[IO[Any]]:
    from tunetrail.data.tables.files import open_output

    if arguments.output is not None:
        return open_output(arguments.output, format_name=format_name)
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(encoding="utf-8", newline="")
    screen: IO[Any] = _Terminal() if sys.stdout.isatty() else sys.stdout  # type: ignore[assignment] # a text stream
    return nullcontext(screen)


class _Terminal(io.TextIOBase):
    """Standard output where a person reads it: a table holds texts and names from anywhere."""

    def write(self, text: str, /) -> int:
        sys.stdout.write(printable(text))
        return len(text)


def _say_bad(report: "PredictionReport", unit: str) -> None:
    if report.num_bad:
        _say(f"{report.num_bad} of {report.num_rows} rows have no answer and are left out:")
        _name(report.named, report.num_bad, unit)
    if report.num_joined:
        _say(f"{report.num_joined} of {report.num_rows} rows seem to be several, with one answer:")
        _name(report.joined, report.num_joined, unit)


def _name(rows: Sequence["BadRow"], number: int, unit: str) -> None:
    for row in rows:
        _say(f"  {unit} {row.number}: {row.cause}")
    if further := number - len(rows):
        _say(f"  and {further} more")


def _say(text: str) -> None:
    say(text, file=sys.stderr)
