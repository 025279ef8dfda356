"""Open MLflow on the page that matters: the charts of a study, or a run.

Starts MLflow's server on the store, prints the address of the page, and opens a browser on it where
there is a display. Ctrl-C ends the server. Of a store that a server has, the page there is opened.
"""

import argparse

from tunetrail.commands.arguments import add_uri
from tunetrail.config.terminal import say

HELP = "open MLflow on the charts of the newest study, of another one, or on a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "name",
        metavar="STUDY|RUN",
        nargs="?",
        help="the name of a study or run, or the id of a run or its first 8 digits (default: the "
        "newest study; where there is none, the newest run)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen on (default: %(default)s, which only this machine reaches)",
    )
    parser.add_argument(
        "--port", type=_read_port, help="the port to listen on (default: the first free from 5000)"
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    add_uri(parser)


def _read_port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from 1 to 65535")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from tunetrail.runs.child import stopping_on_sigterm
    from tunetrail.runs.pages import find_page
    from tunetrail.runs.server import address_of, find_port, is_loopback, serve

    page = find_page(arguments.name, uri=arguments.uri)
    if arguments.uri.startswith("http"):
        _show(f"{arguments.uri.rstrip('/')}{page.path}", page.title, arguments)
        return 0
    host = arguments.host
    port = find_port(host, arguments.port)
    if not is_loopback(host):
        say(f"note: whoever reaches {host} can read and change this store; MLflow asks nobody")
    say("starting MLflow …")
    try:
        with stopping_on_sigterm(), serve(arguments.uri, host=host, port=port) as server:
            _show(f"{address_of(host, port)}{page.path}", page.title, arguments)
            say("Ctrl-C ends it")
            server.wait()
    except KeyboardInterrupt:
        say("ended")
        return 0
    say("MLflow's server has ended by itself")
    return 1


def _show(address: str, title: str, arguments: argparse.Namespace) -> None:
    from tunetrail.runs.browser import open_browser

    say(f"{title}\n  {address}")
    if not arguments.no_browser:
        open_browser(address)
