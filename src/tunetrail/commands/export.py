"""Write a model to a directory that transformers loads by itself."""

import argparse

from tunetrail.commands.arguments import add_model, add_uri, read_path
from tunetrail.config.terminal import say

HELP = "write a model to a directory of its own"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("folder", metavar="DIR", type=read_path, help="a new or empty directory")
    add_uri(parser)


def run(arguments: argparse.Namespace) -> int:
    from tunetrail.serving.export import export_model, require_empty
    from tunetrail.serving.find import open_model

    require_empty(arguments.folder)
    with open_model(arguments.model, uri=arguments.uri) as saved:
        export_model(saved, arguments.folder)
        say(f"{saved.source} -> {arguments.folder}")
    return 0
