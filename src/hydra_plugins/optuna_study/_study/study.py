"""Open a study, or continue one that asks the same question."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from hydra.utils import instantiate
from optuna.distributions import check_distribution_compatibility
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study._errors import SweepError, first_line
from hydra_plugins.optuna_study._functions import load_redact
from hydra_plugins.optuna_study._spec.plan import Plan
from hydra_plugins.optuna_study._spec.settings import Settings
from hydra_plugins.optuna_study._spec.sweep_spec import SweepSpec
from hydra_plugins.optuna_study._study.records import read_trials, require_sound
from hydra_plugins.optuna_study.attributes import (
    DEFAULT,
    ENQUEUED,
    FINAL_OF,
    FIXED_CONFIG,
    FIXED_OVERRIDES,
    OBJECTIVES,
    PLAN_SINCE,
    REFERENCE,
    SEARCH_SPACE,
    WORKER,
)

log = logging.getLogger(__name__)


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silence what Optuna logs and warns of that is no news here.

    Its info lines repeat those of the sweeper. Its ExperimentalWarning says that the interface of a
    class (PatientPruner, QMCSampler, WilcoxonPruner) or of Study.set_metric_names may change: that
    concerns whoever raises the pinned version.
    """
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(verbosity, optuna.logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            # Such a point is refused: see drawing.py.
            warnings.filterwarnings("ignore", r"Fixed parameter .* is out of range", UserWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def build_pruner(spec: SweepSpec) -> BasePruner:
    """Build the pruner, which some samplers consult; jobs build their own.

    Optuna prunes by one objective only: with several there is no pruner.

    Raises:
        SweepError: no pruner can be built from the config.

    """
    key = spec.settings.keys["pruner"]
    try:
        pruner = instantiate(spec.settings.pruner)
    except Exception as error:
        cause = error.__cause__ or error
        raise SweepError(f"{key}: no pruner can be built from it ({first_line(cause)})") from error
    if not isinstance(pruner, BasePruner):
        raise SweepError(
            f"{key}._target_: {type(pruner).__name__} is no pruner; give a class of optuna.pruners"
        )
    return pruner if len(spec.plan.objectives) == 1 else NopPruner()


def open_study(
    storage: BaseStorage,
    spec: SweepSpec,
    sampler: BaseSampler,
    pruner: BasePruner,
    *,
    final_of: str | None = None,
) -> optuna.Study:
    """Create the study, or load it if it asks the same question.

    A point to try first is queued unless the study knows it, so this may be interrupted anywhere
    and repeated.

    Args:
        storage: where studies live.
        spec: of the sweep.
        sampler: draws points.
        pruner: some samplers consult it.
        final_of: name of the study whose best points are trained again in this one.

    Raises:
        SweepError: the study in the storage asks something else, so its trials could not be
            compared with new ones; or it holds finals and should not, or the reverse.

    """
    settings, plan = spec.settings, spec.plan
    directions = [StudyDirection[name.upper()] for name in plan.objectives.values()]

    def create() -> optuna.Study:
        return optuna.create_study(
            study_name=settings.study_name,
            storage=storage,
            sampler=sampler,
            pruner=pruner,
            directions=directions,
            load_if_exists=True,
        )

    study = create()
    require_sound(study, read_trials(study))
    _require_kind(study, settings, final_of)
    if not any(trial.state is not TrialState.WAITING for trial in study.get_trials(deepcopy=False)):
        # Nothing was run yet, so the study takes whatever is asked now.
        if _differs(study, plan):
            optuna.delete_study(study_name=settings.study_name, storage=storage)
            study = create()
        if final_of is not None:
            study.set_user_attr(FINAL_OF, final_of)
        _write_plan(study, spec)
    else:
        _require_same(study, spec)
    if final_of is None:
        _queue_first(study, spec)
    return study


def _queue_first(study: optuna.Study, spec: SweepSpec) -> None:
    """Queue what the study runs first and does not know: the default, references, points."""
    # Under another config they are other trials.
    present = study.get_trials(deepcopy=False)[study.user_attrs.get(PLAN_SINCE, 0) :]
    queued = [
        (trial.user_attrs.get(ENQUEUED), trial.system_attrs.get("fixed_params"))
        for trial in present
        if REFERENCE not in trial.user_attrs
    ]
    # A point of the search may have become the default: it is the default from now on.
    last_default = [point for origin, point in queued if origin == DEFAULT][-1:]
    for origin, point in spec.points:
        if origin == DEFAULT and point not in last_default:
            study.enqueue_trial(dict(point), user_attrs={ENQUEUED: DEFAULT})
    for reference in spec.references:
        if not any(reference.is_of(trial) for trial in present):
            study.enqueue_trial({}, user_attrs=reference.attributes())
    seen = [point for _, point in queued]
    for origin, point in spec.points:
        if origin != DEFAULT and point not in seen:
            study.enqueue_trial(dict(point), user_attrs={ENQUEUED: origin})


def sign_next(
    study: optuna.Study, waiting: Sequence[FrozenTrial], identity: Mapping[str, Any]
) -> None:
    """Sign the trial that is asked for next, before anyone can see that it runs.

    Args:
        study: of the trial; only one process may do this at a time.
        waiting: its trials that wait.
        identity: of the worker that takes the trial.

    """
    if not waiting:
        trial = optuna.create_trial(state=TrialState.WAITING, user_attrs={WORKER: dict(identity)})
        study.add_trial(trial)
        return
    storage, trial_id = study._storage, waiting[0]._trial_id  # noqa: SLF001 - Optuna has no public way to mark a trial that waits
    storage.set_trial_user_attr(trial_id, WORKER, identity)


def _require_kind(study: optuna.Study, settings: Settings, final_of: str | None) -> None:
    key, found = settings.keys["study_name"], study.user_attrs.get(FINAL_OF)
    if found is not None and final_of is None:
        raise SweepError(
            f"{key}={settings.study_name}: that study holds the finals of study {found}; "
            f"continue {key}={found}"
        )
    if found != final_of and study.get_trials(deepcopy=False):
        raise SweepError(
            f"the finals of study {final_of} would be study {settings.study_name}, which has "
            f"trials of its own; set {key} to a new name, or {settings.keys['final_seeds']}=0"
        )


def _differs(study: optuna.Study, plan: Plan) -> bool:
    known = study.user_attrs
    return (
        _objectives_differ(study, plan)
        or known.get(SEARCH_SPACE, plan.search_space) != plan.search_space
        or known.get(FIXED_CONFIG, plan.fixed_config) != plan.fixed_config
    )


def _objectives_differ(study: optuna.Study, plan: Plan) -> bool:
    known = study.user_attrs.get(OBJECTIVES)
    if known is None:
        directions = [direction.name.lower() for direction in study.directions]
        return directions != list(plan.objectives.values())
    # As lists: their order is that of the values.
    return list(known.items()) != list(plan.objectives.items())


def _write_plan(study: optuna.Study, spec: SweepSpec) -> None:
    plan, settings = spec.plan, spec.settings
    typed = (text.partition("=") for text in spec.space.fixed if not settings.is_of_study(text))
    fixed = {key: value for key, _, value in typed}
    attributes = {
        OBJECTIVES: plan.objectives,
        SEARCH_SPACE: plan.search_space,
        FIXED_OVERRIDES: load_redact(settings.redact, settings.storage)(fixed),
        FIXED_CONFIG: plan.fixed_config,
    }
    for name, value in attributes.items():
        if study.user_attrs.get(name) != value:
            study.set_user_attr(name, value)
    study.set_metric_names(list(plan.objectives))


def _require_same(study: optuna.Study, spec: SweepSpec) -> None:
    plan, settings = spec.plan, spec.settings
    known = study.user_attrs
    new_name = f"set {settings.keys['study_name']} to a new name, or undo the change"
    if FIXED_CONFIG not in known or _objectives_differ(study, plan):
        was = known.get(OBJECTIVES) or [d.name.lower() for d in study.directions]
        raise SweepError(
            f"study {settings.study_name} was started with other objectives: they were {was}, are "
            f"{plan.objectives}; {new_name}"
        )
    changes = {
        "search space": _diff(known[SEARCH_SPACE], plan.search_space),
        "config": _diff(known[FIXED_CONFIG], plan.fixed_config),
    }
    changes = {what: listed for what, listed in changes.items() if listed}
    if not changes:
        return
    shown = "; ".join(f"{what}: {'; '.join(listed)}" for what, listed in changes.items())
    if not settings.allow_changes:
        raise SweepError(
            f"study {settings.study_name} was started with another {shown}. Its trials could not "
            f"be compared with new ones: {new_name}, or continue all the same with "
            f"{settings.keys['allow_changes']}=true"
        )
    _require_compatible(study, spec)
    log.info("study %s continues with another %s", settings.study_name, shown)
    # Before the plan: after a kill in between, the change is refused or announced again.
    # What waits will run with the new one.
    begun = [
        t.number for t in study.get_trials(deepcopy=False) if t.state is not TrialState.WAITING
    ]
    study.set_user_attr(PLAN_SINCE, 1 + max(begun))
    _write_plan(study, spec)


def _require_compatible(study: optuna.Study, spec: SweepSpec) -> None:
    """Refuse what Optuna cannot hold in one study: other choices, or another type of number."""
    key, name = spec.settings.keys["study_name"], spec.settings.study_name
    for trial in study.get_trials(deepcopy=False):
        for parameter in spec.space.parameters:
            before = trial.distributions.get(parameter.name)
            if before is None:
                continue
            try:
                check_distribution_compatibility(before, parameter.distribution)
            except ValueError as error:
                raise SweepError(
                    f"{parameter.key}={parameter.expression}: study {name} cannot hold it beside "
                    f"its earlier trials ({first_line(error)}); set {key} to a new name"
                ) from error


def _diff(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [
        f"{key} was {old.get(key, 'not given')}, is {new.get(key, 'not given')}" for key in changed
    ]
