"""Steer a study that runs in another terminal: stop it, queue a point, run failed trials again.

How far it is, MLflow shows, and `make dashboard`.
"""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from tunetrail.commands.arguments import add_storage
from tunetrail.config.terminal import say
from tunetrail.errors import InputError

if TYPE_CHECKING:
    from hydra_plugins.optuna_study._steering import Queued

HELP = "stop a study, queue a point, or run failed trials again, from a second terminal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    stop = _add(
        actions, "stop", _stop, "end the search; the trials that run end first, then come finals"
    )
    stop.add_argument(
        "--now",
        action="store_true",
        help="interrupt the trials that run, as Ctrl-C does; the same command continues",
    )
    enqueue = _add(actions, "enqueue", _enqueue, "try a point next; what it leaves open is drawn")
    enqueue.add_argument(
        "values", metavar="KEY=VALUE", nargs="+", help="of what is searched, in Hydra's syntax"
    )
    retry = _add(actions, "retry", _retry, "run failed trials again")
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "numbers", metavar="TRIAL", nargs="*", type=_read_number, default=[], help="their numbers"
    )
    which.add_argument("--all", action="store_true", help="all that failed")


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command."""
    from hydra_plugins.optuna_study._errors import SweepError

    try:
        arguments.act(arguments)
    except SweepError as error:
        raise InputError(str(error)) from error
    return 0


def _stop(arguments: argparse.Namespace) -> None:
    from hydra_plugins.optuna_study._steering import stop_study

    number = stop_study(arguments.storage, arguments.name, now=arguments.now)
    trials = "1 trial" if number == 1 else f"{number} trials"
    if arguments.now:
        say(f"asked to stop now: {trials} will be interrupted; the same command continues")
    else:
        say(f"asked to stop: {trials} will end first, then come the finals, if the study has any")


def _enqueue(arguments: argparse.Namespace) -> None:
    from hydra_plugins.optuna_study._steering import enqueue_point

    queued = enqueue_point(arguments.storage, arguments.name, arguments.values)
    said = f"queued as trial {queued.number}"
    if queued.before is not None:
        said += f"; trial {queued.before} has run this point, so it gets the result of that"
    say(f"{said}; {_when(queued)}")


def _retry(arguments: argparse.Namespace) -> None:
    from hydra_plugins.optuna_study._steering import retry_trials

    for queued in retry_trials(arguments.storage, arguments.name, arguments.numbers):
        say(f"trial {queued.before} is queued again as trial {queued.number}; {_when(queued)}")


def _when(queued: "Queued") -> str:
    if queued.is_running:
        return "a free worker takes it next, within sweep.num_trials"
    return (
        "the study is not running: it waits for the same command with a sweep.num_trials above "
        f"{queued.num_finished}"
    )


def _read_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: must be the number of a trial, from 0")
    return int(text)


def _add(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    act: Callable[[argparse.Namespace], None],
    about: str,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    parser.add_argument("name", metavar="NAME", help="of the study: study=NAME of its command")
    add_storage(parser)
    parser.set_defaults(act=act)
    return parser
