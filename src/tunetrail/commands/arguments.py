"""Arguments that several commands take."""

import argparse
from pathlib import Path

import yaml  # type: ignore[import-untyped] # PyYAML ships no types

# The checkout that this package runs from: conf/ and train.py lie in it.
ROOT = Path(__file__).resolve().parents[3]


def add_uri(parser: argparse.ArgumentParser) -> None:
    """Add ``--uri``, whose default is that of the config."""
    parser.add_argument(
        "--uri",
        default=_default_uri(),
        metavar="URI",
        help="the MLflow store or server that holds it (default: %(default)s)",
    )


def _default_uri() -> str:
    config = yaml.safe_load((ROOT / "conf" / "config.yaml").read_text("utf-8"))
    return str(config["tracking"]["uri"])
