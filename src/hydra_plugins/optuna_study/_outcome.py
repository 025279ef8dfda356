"""How a job ended, in the words of a study."""

import contextlib
import io
import math
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import optuna
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState


@dataclass(frozen=True)
class Outcome:
    state: TrialState
    values: tuple[float, ...] | None = None
    # "Type: message" of what went wrong, the whole message.
    failure: str | None = None


def read_outcome(job: JobReturn, objectives: Sequence[str]) -> Outcome:
    """Judge what a launcher brought back; a failure's traceback goes to the job's log files."""
    try:
        # Hydra announces the error on stderr before it raises; the study has its own line for it.
        with contextlib.redirect_stderr(io.StringIO()):
            returned = job.return_value
    except optuna.TrialPruned:
        return Outcome(TrialState.PRUNED)
    except Exception as error:  # noqa: BLE001 - any error of a job is a result of its trial
        _log_traceback(job.hydra_cfg, error)
        return failed(error)
    return _read_values(returned, objectives)


def failed(error: BaseException) -> Outcome:
    message = str(error).strip()
    name = type(error).__name__
    return Outcome(TrialState.FAIL, failure=f"{name}: {message}" if message else name)


def _read_values(returned: Any, objectives: Sequence[str]) -> Outcome:
    values = list(returned) if isinstance(returned, list | tuple) else [returned]
    if len(values) != len(objectives):
        return _unusable(
            f"the job returned {len(values)} values for {len(objectives)} objectives; "
            f"return {', '.join(objectives)} in this order"
        )
    for name, value in zip(objectives, values, strict=True):
        if not isinstance(value, Real) or isinstance(value, bool):
            return _unusable(f"the job returned {value!r} for {name}; return a float")
        if not math.isfinite(value):
            return _unusable(f"the job returned {float(value)} for {name}, which is not finite")
    return Outcome(TrialState.COMPLETE, values=tuple(float(value) for value in values))


def _unusable(reason: str) -> Outcome:
    return failed(ValueError(reason))


def _log_traceback(hydra_cfg: DictConfig | None, error: BaseException) -> None:
    """Append to the files that the job logged to: its handlers are closed by now."""
    handlers = OmegaConf.select(hydra_cfg, "hydra.job_logging.handlers") if hydra_cfg else None
    for handler in (handlers or {}).values():
        if "filename" in handler:
            with Path(handler.filename).open("a", encoding="utf-8") as file:
                traceback.print_exception(error, file=file)
