"""Arguments that several commands take."""

import argparse
from pathlib import Path

from tunetrail.config.paths import locate
from tunetrail.config.store_key import default_storage, default_store


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add MODEL, as :func:`tunetrail.serving.find.open_model` takes it."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="NAME@ALIAS or NAME/VERSION of the registry (NAME: its champion), a run id or its "
        "first 8 digits, or a directory",
    )


def add_uri(parser: argparse.ArgumentParser) -> None:
    """Add ``--uri``; its default is that of the config."""
    parser.add_argument(
        "--uri",
        default=default_store(),
        metavar="URI",
        help="the MLflow store or server that has it (default: %(default)s)",
    )


def add_storage(parser: argparse.ArgumentParser) -> None:
    """Add ``--storage``; its default is that of the config."""
    parser.add_argument(
        "--storage",
        default=default_storage(),
        metavar="URL",
        help="of the studies, as hydra.sweeper.storage (default: %(default)s)",
    )


def read_path(text: str) -> Path:
    """Read an option's value that names a file or folder; nothing would be the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty")
    return locate(text)


def read_count(text: str) -> int:
    """Read an option's value that must be a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of 1 or more")
    return int(text)
