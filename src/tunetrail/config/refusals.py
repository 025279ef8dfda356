"""What Hydra refuses, in one line: a choice or key that is not there, text that it cannot read."""

import contextlib
import io
import os
import sys
from typing import Any, NoReturn

from hydra._internal import utils
from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from tunetrail.config.project import ROOT
from tunetrail.config.terminal import clean, clean_tracebacks
from tunetrail.errors import did_you_mean, one_line

_report = utils.run_and_report


def refuse_in_one_line() -> None:
    """Let Hydra end with ``error: …`` and the code 1 where it would print several lines.

    It has no setting for this: its decorator hands every call to this one function.
    """
    utils.run_and_report = _run_and_report
    clean_tracebacks()


def _run_and_report(func: Any) -> Any:
    try:
        return func()
    except Exception as error:
        line = _describe(error)
        if "HYDRA_FULL_ERROR" in os.environ:
            raise
        if line is None:
            # A fault in code, and its traceback is needed.
            _print_traceback(error)
        sys.exit(clean(f"error: {line}"))


def _print_traceback(error: Exception) -> NoReturn:
    """Let Hydra print a traceback in its own short form, and take secrets out of it."""

    def raise_again() -> NoReturn:
        raise error

    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            _report(raise_again)
    finally:
        sys.stderr.write(clean(printed.getvalue()))
    raise AssertionError("Hydra ends the program after a traceback")


def _find_bad_choice(error: ValueError) -> str:
    """Name the group that was given null or a number, which Hydra's error does not."""
    for typed in sys.argv[1:]:
        group = ROOT / "conf" / typed.partition("=")[0]
        found = sorted(path.stem for path in group.glob("*.yaml"))
        if found and typed.partition("=")[2] not in found:
            return f"{typed}: there is no such choice (found: {', '.join(found)})"
    return one_line(error)


def _describe(error: Exception) -> str | None:
    match error:
        case ValueError() if str(error).startswith("Config group override must be"):
            return _find_bad_choice(error)
        case MissingConfigException(missing_cfg_file=str(asked), options=list(options)):
            group, _, name = asked.rpartition("/")
            found = ", ".join(map(str, options))
            hint = did_you_mean(name, options, before=f"{group}=")
            if group.startswith("hydra/"):
                hint += "; a plugin of Hydra that has it must be installed first"
            return f"{group}={name}: there is no such choice (found: {found}){hint}"
        case OverrideParseException():
            lines = str(error).splitlines()
            reason = lines[1] if lines[0].startswith("Error parsing") else lines[0]
            return (
                f"{error.override}: Hydra cannot read it ({reason}); write "
                "KEY=VALUE, with quotes around a value that holds other signs than letters, "
                "digits and . / - : \"KEY='VALUE'\""
            )
        case InstantiationException() | OmegaConfBaseException():
            # The fault may be in a part of one's own.
            return f"{one_line(error)} (HYDRA_FULL_ERROR=1 shows the traceback)"
        case HydraException():
            return one_line(error) + _suggest(error.__cause__)
    return None


def _suggest(cause: BaseException | None) -> str:
    """Name the key that was meant, where Hydra has found none of that name."""
    if not isinstance(cause, OmegaConfBaseException) or not isinstance(
        node := cause.parent_node, DictConfig
    ):
        return ""
    keys = [str(name) for name in node]
    before = str(cause.full_key).removesuffix(str(cause.key))
    return did_you_mean(str(cause.key), keys, before=before)
