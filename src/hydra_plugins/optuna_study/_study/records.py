"""What stands in the storage, checked before it is used: others may write to it, too.

Nothing of it is a path, an override or code. A record that this plugin cannot have written ends the
sweep in one line.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study import attributes as names
from hydra_plugins.optuna_study._errors import SweepError, first_line
from hydra_plugins.optuna_study._jobs.failure import FailureKind

# How trials end that count.
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
# No parameter of a search is as large; samplers compute with squares.
_LARGEST = 1e150


@dataclass(frozen=True)
class _Kind:
    fits: Callable[[Any], bool]
    wanted: str


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _all(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _map(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, dict)
        and all(isinstance(name, str) and fits(item) for name, item in value.items())
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_WHOLE = _Kind(_is_whole, "a whole number from 0 up")
_TEXT = _Kind(_is_text, "a text")
_TEXTS = _Kind(_all(_is_text), "a list of texts")
_TABLE = _Kind(_map(_is_text), "a mapping of names to texts")
_NUMBERS = _Kind(_all(_is_number), "a list of numbers")
_ROWS = _Kind(_all(_all(_is_number)), "a list of lists of numbers")
_MAPPINGS = _Kind(_all(_map(_is_number)), "a list of mappings of names to numbers")

_OF_STUDY = {
    names.OBJECTIVES: _TABLE,
    names.SEARCH_SPACE: _TABLE,
    names.FIXED_CONFIG: _TABLE,
    names.FIXED_OVERRIDES: _TABLE,
    names.PLAN_SINCE: _WHOLE,
    names.STOP: _Kind(
        lambda value: (
            isinstance(value, dict)
            and isinstance(value.get("id"), str)
            and isinstance(value.get("now"), bool)
        ),
        "an id and whether to stop now",
    ),
    names.FINAL_OF: _TEXT,
    names.SEEDS: _Kind(_all(_is_whole), "a list of whole numbers"),
    names.RUN_ID: _TEXT,
    names.PINNED: _TABLE,
    names.TEST_LOOKS: _TEXTS,
}
_OF_TRIAL = {
    names.OVERRIDES: _TEXTS,
    names.ENQUEUED: _TEXT,
    names.REFERENCE: _TEXT,
    names.REFERENCE_VALUES: _Kind(
        _map(lambda value: value is None or isinstance(value, bool | int | float | str)),
        "a mapping of names to numbers and texts",
    ),
    names.RETRY_OF: _WHOLE,
    names.REUSED_FROM: _WHOLE,
    names.FINALIST_OF: _WHOLE,
    names.CARRIED: _ROWS,
    names.FAILURE: _TEXT,
    names.FAILURE_KIND: _Kind(lambda value: value in list(FailureKind), "a kind of failure"),
    names.REPEATS: _ROWS,
    names.SPREAD: _NUMBERS,
    names.NUM_EVALUATIONS: _WHOLE,
    names.REPEAT_CONSTRAINTS: _MAPPINGS,
    names.FITS: _Kind(_all(lambda value: isinstance(value, dict)), "a list of mappings"),
    names.RUN_ID: _TEXT,
}


def read_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Read all trials of a study.

    Raises:
        SweepError: one holds what Optuna itself cannot read.

    """
    try:
        return study.get_trials(deepcopy=False)
    except (ValueError, TypeError, LookupError, AssertionError, RecursionError) as error:
        raise _error(f"study {study.study_name}", first_line(error)) from error


def require_sound(
    study: optuna.Study, trials: Sequence[FrozenTrial], *, num_trials: int | None = None
) -> None:
    """Check the records of a study and of some of its trials.

    Args:
        study: whose trials they are.
        trials: that are new or have changed.
        num_trials: of the study; None: these are all.

    Raises:
        SweepError: somebody else has written one.

    """
    what = f"study {study.study_name}"
    _require_kinds(study.user_attrs, _OF_STUDY, what)
    num_trials = len(trials) if num_trials is None else num_trials
    for trial in trials:
        of_trial = f"{what}, trial {trial.number}"
        _require_kinds(trial.user_attrs, _OF_TRIAL, of_trial)
        if fault := _find_fault(trial, num_trials, len(study.directions)):
            raise _error(of_trial, fault)


def _require_kinds(found: Mapping[str, Any], kinds: Mapping[str, _Kind], what: str) -> None:
    for name, kind in kinds.items():
        if name in found and not kind.fits(found[name]):
            shown = repr(found[name])
            shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
            raise _error(what, f"{name} is {shown}, and should be {kind.wanted}")


def _find_fault(trial: FrozenTrial, num_trials: int, num_objectives: int) -> str | None:
    """Find what of a trial fits neither the others nor itself."""
    attributes = trial.user_attrs
    # Earlier ones only, so that no chain of retries leads in a circle.
    for name, end in ((names.RETRY_OF, trial.number), (names.REUSED_FROM, num_trials)):
        if not attributes.get(name, -1) < end:
            return f"{name} is {attributes[name]}, and there is no such trial before it"
    rows = [row for name in (names.REPEATS, names.CARRIED) for row in attributes.get(name, ())]
    rows.append(attributes.get(names.SPREAD, ()))
    if any(len(row) not in (0, num_objectives) for row in rows):
        listed = f"{names.REPEATS}, {names.CARRIED} and {names.SPREAD}"
        return f"{listed} have not a value for each objective"
    if any(
        isinstance(value, float) and not abs(value) < _LARGEST for value in trial.params.values()
    ):
        return "a parameter is not finite"
    return _find_fault_of_end(trial) if trial.state in FINISHED else None


def _find_fault_of_end(trial: FrozenTrial) -> str | None:
    if trial.datetime_start is None or trial.datetime_complete is None:
        return "it has ended, and has no time of its start or end"
    if trial.state is TrialState.COMPLETE and not _NUMBERS.fits(trial.values):
        return f"it is complete, and its values are {trial.values}"
    try:
        are_numbers = all(map(_is_number, trial.constraints.values()))
    except (ValueError, TypeError, AttributeError):
        are_numbers = False
    return None if are_numbers else "its constraints are no numbers"


def _error(what: str, fault: str) -> SweepError:
    return SweepError(
        f"{what} holds what this sweeper has not written: {fault}; whoever else writes to the "
        "storage has changed it: start a study with a new name, or correct it there"
    )
