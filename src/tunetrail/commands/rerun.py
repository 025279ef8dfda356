"""Run a recorded run again, and report whether it gives the same numbers.

Exit code: 0 if they are bit-identical, 3 within the tolerance, 4 diverged, 1 after an error.
Config, seeds, data, threads and number of GPUs are as recorded; the present conf/config.yaml says
where to write. A recorded config is not trusted: it may only name what conf/ names. The weights
are not saved again unless tracking.log_model=true is given.
"""

import argparse
import math

from tunetrail.commands.arguments import add_uri, read_count
from tunetrail.config.project import ROOT
from tunetrail.config.terminal import say, say_error
from tunetrail.tracking.tags import STUDY, TRIAL

HELP = "run a run again and compare every number"
_EXIT_CODES = {"bit-identical": 0, "within tolerance": 3, "diverged": 4}
_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="RUN_ID", help="a single run or a trial of a sweep")
    parser.add_argument(
        "overrides",
        metavar="KEY=VALUE",
        nargs="*",
        help="replaces a recorded value, for example the path of data that moved. Recorded values "
        "are resolved: seed=1 alone leaves training_seed as it was",
    )
    add_uri(parser)
    parser.add_argument(
        "--checkout",
        action="store_true",
        help="run the recorded commit with the recorded patch, in a git worktree that is removed "
        "afterwards. The patch is code from the store: use this only if you trust the store",
    )
    parser.add_argument(
        "--threads", type=read_count, metavar="N", help="instead of as many threads as recorded"
    )
    parser.add_argument(
        "--tolerance",
        type=_read_share,
        default=0.1,
        metavar="SHARE",
        help="the largest difference that counts as the same result, as a share of the metric's "
        "largest value (default: %(default)s)",
    )


def _read_share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be a number of 0 or more")
    return share


def run(arguments: argparse.Namespace) -> int:
    from tunetrail.runs.child import stopping_on_sigterm

    with stopping_on_sigterm():
        try:
            return _run(arguments)
        except KeyboardInterrupt:
            say_error("interrupted")
            return _INTERRUPTED


def _run(arguments: argparse.Namespace) -> int:
    from tunetrail.config.untrusted import load_project
    from tunetrail.runs.rerun import (
        compare_with_original,
        load_original,
        log_comparison,
        open_code,
        run_again,
    )

    uri = arguments.uri
    original, notes = load_original(arguments.run_id, uri=uri)
    num_threads = arguments.threads or original.num_threads
    with open_code(original, ROOT, checkout=arguments.checkout) as (root, code):
        trial = original.tags.get(TRIAL)
        study = f", trial {trial} of {original.tags.get(STUDY)}" if trial else ""
        lines = [
            *notes,
            f"rerun of   {original.run_id} ({original.name}{study})",
            f"threads    {num_threads or 'not recorded: the default of the libraries'}",
            f"code       {code}",
        ]
        say("\n".join(lines))
        repeated = run_again(
            original,
            load_project(root),
            load_project(ROOT),
            overrides=arguments.overrides,
            uri=uri,
            num_threads=num_threads,
        )
    rerun = compare_with_original(original, repeated, ROOT, tolerance=arguments.tolerance)
    log_comparison(rerun, uri=uri)
    say(f"\nrerun      {repeated.run_id}\n{rerun.line}")
    return _EXIT_CODES[rerun.agreement.verdict]
