"""The report of a study: the page that a person opens first."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study import attributes
from tunetrail.studies.fits import describe_fits, describe_stop, list_fits
from tunetrail.studies.ranking import find_best, is_feasible, list_violations, rank, rank_front
from tunetrail.studies.states import STATES, find_default, number_of, seconds_of, state_of
from tunetrail.templates import render, short

_Row = Sequence[object]


def write_report(
    study: optuna.Study,
    objectives: Sequence[str],
    constraints: Mapping[str, str],
    run_ids: Mapping[int, str],
    *,
    winner: str = "",
    forgetting: str = "",
) -> str:
    """Write hours spent, the best trial, every trial, and why some ended early, as Markdown.

    Args:
        objectives: names of the study's values, in order.
        constraints: name -> bound as text, such as ``<= 0.2``.
        run_ids: number of a trial -> its MLflow run.
        winner: the section on the finals, which comes first.
        forgetting: what the trials forgot, in a sentence or two; may be empty.

    """
    trials = study.get_trials(deepcopy=False)
    ranked, best, default = rank(study), find_best(study), find_default(trials)
    first = ranked[0] if ranked else None
    names = _param_names(trials)
    front = rank_front(study) if best and len(objectives) > 1 else []
    front_names = _param_names(front)
    hours_saved, num_estimated = _estimate_saving(trials)
    # As much of an id as every command needs: tables have many columns.
    in_tables = {number: run_id[:8] for number, run_id in run_ids.items()}
    return render(
        "study",
        name=study.study_name,
        number_of=number_of,
        final_of=study.user_attrs.get(attributes.FINAL_OF),
        seeds=describe_seeds(study),
        winner=winner,
        forgetting=forgetting,
        objectives=list(objectives),
        endings=_count_endings(trials),
        hours_saved=_hours(hours_saved),
        num_estimated=num_estimated,
        num_pruned=sum(state_of(trial) == "pruned" for trial in trials),
        first=first,
        best=best,
        run="none" if first is None else run_ids.get(first.number, "none"),
        params=[]
        if first is None
        else [(f"`{k}`", f"`{v}`") for k, v in attributes.params_of(first).items()],
        margins=[]
        if first is None
        else [f"{k} {_margin(v)}" for k, v in first.constraints.items()],
        front_header=["trial", *objectives, *map(_last, front_names), "run"],
        front=[
            [number_of(t), *t.values, *_params(t, front_names), in_tables.get(t.number)]  # noqa: PD011 - no pandas
            for t in front
        ],
        default=default,
        default_state=default and state_of(default),
        default_is_feasible=default and is_feasible(default),
        changes=_compare(default, best, objectives),
        spread=_list_spread(filter(is_feasible, ranked), objectives),
        constraints=_count_violations(trials, constraints, best),
        fits_said=describe_fits(study),
        fits=_list_fits(study),
        trials_header=["trial", "state", *objectives, *map(_last, names), "seconds", "run", "note"],
        trials=[_trial_row(trial, names, objectives, in_tables) for trial in trials],
        pruned=_list_pruned(trials),
        failed=_list_failed(trials, in_tables),
    )


def describe_seeds(finals: optuna.Study) -> str:
    """Say on which seeds finals are trained: not all trials have the same.

    Runs in the search count as the first ones of trials that the search did not choose.
    """
    seeds = [str(seed) for seed in finals.user_attrs.get(attributes.SEEDS, ())]
    # Of several attempts at a point the last one counts.
    trials = {
        number_of(trial): len(trial.user_attrs.get(attributes.CARRIED, ()))
        for trial in finals.get_trials(deepcopy=False)
        if trial.state is not TrialState.FAIL
    }
    carried = sorted(number for number, num_carried in trials.items() if num_carried)
    said = f"on seeds that the search did not use: {', '.join(seeds)}."
    if carried:
        shown = " and ".join(f"trial {number}" for number in carried)
        first = ", ".join(seeds[: max(trials.values())])
        said += (
            f" The search did not choose {shown}, so instead of {first} their runs in the search "
            "count."
        )
    return said


def list_trials(
    study: optuna.Study, objectives: Sequence[str], run_ids: Mapping[int, str]
) -> pd.DataFrame:
    """Lay out all trials: a row each, a column for each value, parameter and constraint."""
    trials = study.get_trials(deepcopy=False)
    names = _param_names(trials)
    bounded = sorted({name for trial in trials for name in trial.constraints})
    return pd.DataFrame(
        {
            "trial": number_of(trial),
            "state": state_of(trial),
            **dict(zip(objectives, _values(trial, objectives), strict=True)),
            **{name: attributes.params_of(trial).get(name) for name in names},
            **{f"constraint {name}": trial.constraints.get(name) for name in bounded},
            "started": trial.datetime_start,
            "seconds": seconds_of(trial),
            "run": run_ids.get(trial.number),
            "note": _note(trial, names),
        }
        for trial in trials
    )


def _count_endings(trials: Sequence[FrozenTrial]) -> list[_Row]:
    counts = Counter(state_of(trial) for trial in trials)
    seconds = dict.fromkeys(counts, 0.0)
    for trial in trials:
        seconds[state_of(trial)] += seconds_of(trial) or 0.0
    kinds = Counter(_failure_kind(trial) for trial in trials if state_of(trial) == "failed")
    shown = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    others = sorted(set(counts) - set(STATES))
    return [
        *(
            [
                f"{state} ({shown})" if state == "failed" else state,
                counts[state],
                _hours(seconds[state]),
            ]
            for state in (*STATES, *others)
            if counts[state]
        ),
        ["all", len(trials), _hours(sum(seconds.values()))],
    ]


def _estimate_saving(trials: Iterable[FrozenTrial]) -> tuple[float, int]:
    """Estimate the seconds that pruned trials did not take, and from how many trials."""
    saved, known = 0.0, 0
    for trial in trials:
        planned = trial.user_attrs.get(attributes.NUM_EVALUATIONS)
        made = len(trial.intermediate_values)
        seconds = seconds_of(trial)
        # With repeats the seconds are those of several runs, the evaluations of one.
        if state_of(trial) != "pruned" or attributes.REPEATS in trial.user_attrs:
            continue
        if planned and made and seconds is not None:
            saved += seconds / made * max(planned - made, 0)
            known += 1
    return saved, known


def _compare(
    default: FrozenTrial | None, best: FrozenTrial | None, objectives: Sequence[str]
) -> list[_Row]:
    """Compare the best trial with the default config; nothing if that did not complete."""
    if default is None or best is None or default.state is not TrialState.COMPLETE:
        return []
    return [
        [objective, was, now, f"{now - was:+.4g}"]
        for objective, was, now in zip(objectives, default.values, best.values, strict=True)
    ]


def _list_spread(ranked: Iterable[FrozenTrial], objectives: Sequence[str]) -> list[_Row]:
    several = [trial for trial in ranked if len(trial.user_attrs.get(attributes.REPEATS, ())) > 1]
    rows: list[_Row] = []
    for trial in several[:10]:
        runs = pd.DataFrame(trial.user_attrs[attributes.REPEATS], columns=list(objectives))
        shown = [
            f"{short(mean)} ± {short(std)}"
            for mean, std in zip(runs.mean(), runs.std(), strict=True)
        ]
        rows.append([number_of(trial), len(runs), *shown])
    return rows


def _list_fits(study: optuna.Study) -> list[_Row]:
    return [
        [
            number_of(fit.trial),
            str(fit.verdict),
            f"{fit.gap:+.3f}",
            f"{fit.loss_rise:.1%}",
            fit.begins,
        ]
        for fit in list_fits(study)
    ]


def _count_violations(
    trials: Sequence[FrozenTrial], bounds: Mapping[str, str], best: FrozenTrial | None
) -> list[_Row]:
    measured = sorted({name for trial in trials for name in trial.constraints})
    rows: list[_Row] = []
    for name in dict.fromkeys([*bounds, *measured]):
        values = [trial.constraints[name] for trial in trials if name in trial.constraints]
        met = sum(value <= 0 for value in values)
        of_best = None if best is None else best.constraints.get(name)
        margin = None if of_best is None else _margin(of_best)
        rows.append([name, bounds.get(name), met, len(values) - met, margin])
    return rows


def _trial_row(
    trial: FrozenTrial,
    names: Sequence[str],
    objectives: Sequence[str],
    run_ids: Mapping[int, str],
) -> _Row:
    seconds = seconds_of(trial)
    note, _, more = _note(trial, names).partition("\n")
    return [
        number_of(trial),
        state_of(trial),
        *_values(trial, objectives),
        *_params(trial, names),
        None if seconds is None else f"{seconds:.0f}",
        run_ids.get(trial.number),
        f"{note} …" if more else note,
    ]


def _list_pruned(trials: Iterable[FrozenTrial]) -> list[_Row]:
    rows: list[_Row] = []
    for trial in trials:
        if state_of(trial) == "pruned" and trial.intermediate_values:
            number, value = max(trial.intermediate_values.items())
            planned = trial.user_attrs.get(attributes.NUM_EVALUATIONS)
            rows.append([number_of(trial), f"{number} of {planned}" if planned else number, value])
    return rows


def _list_failed(trials: Sequence[FrozenTrial], run_ids: Mapping[int, str]) -> list[_Row]:
    retried = {
        t.user_attrs[attributes.RETRY_OF]: number_of(t)
        for t in trials
        if attributes.RETRY_OF in t.user_attrs
    }
    return [
        [
            number_of(trial),
            _failure_kind(trial),
            trial.user_attrs.get(attributes.FAILURE, "unknown"),
            f"trial {retried[trial.number]}" if trial.number in retried else None,
            run_ids.get(trial.number),
        ]
        for trial in trials
        if trial.user_attrs.get(attributes.FAILURE) or trial.state is TrialState.FAIL
    ]


def _origin(trial: FrozenTrial, names: Sequence[str]) -> list[str]:
    """Say where the point of a trial came from, if somebody asked for it."""
    attrs, notes = trial.user_attrs, []
    if attrs.get(attributes.ENQUEUED) == attributes.DEFAULT:
        notes.append("the default config")
    if attributes.REFERENCE in attrs:
        extra = {k: v for k, v in attributes.params_of(trial).items() if k not in names}
        shown = "".join(f", {_last(name)}={short(value)}" for name, value in extra.items())
        notes.append(f"{attributes.name_reference(attrs[attributes.REFERENCE])}{shown}")
    if attrs.get(attributes.ENQUEUED) == attributes.POINT:
        notes.append("a queued point")
    if carried := len(attrs.get(attributes.CARRIED, ())):
        notes.append(f"with {carried} run{'' if carried == 1 else 's'} of the search")
    return notes


def _note(trial: FrozenTrial, names: Sequence[str]) -> str:
    attrs = trial.user_attrs
    notes = _origin(trial, names)
    if attributes.RETRY_OF in attrs:
        # In finals all attempts have the number of the search.
        was = "" if attributes.FINALIST_OF in attrs else f"trial {attrs['retry_of']} "
        notes.append(f"{was}again")
    if attributes.REUSED_FROM in attrs:
        notes.append(f"same point as trial {attrs['reused_from']}, not run again")
    if trial.state is TrialState.COMPLETE and not is_feasible(trial):
        notes.append(f"violates {', '.join(list_violations(trial))}")
    if state_of(trial) == "pruned" and trial.intermediate_values:
        number, value = max(trial.intermediate_values.items())
        notes.append(f"stopped at evaluation {number} with {short(value)}")
    if stopped := describe_stop(trial):
        notes.append(stopped)
    if failure := attrs.get(attributes.FAILURE):
        notes.append(str(failure))
    return "; ".join(notes)


def _failure_kind(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(attributes.FAILURE_KIND, "error"))


def _values(trial: FrozenTrial, objectives: Sequence[str]) -> Sequence[float | None]:
    # Optuna gives a pruned trial its last report as its value, which is no result.
    if trial.state is not TrialState.COMPLETE:
        return [None] * len(objectives)
    return list(trial.values)


def _params(trial: FrozenTrial, names: Iterable[str]) -> list[str]:
    return [short(attributes.params_of(trial).get(name, "")) for name in names]


def _margin(value: float) -> str:
    return f"met, {short(-value)} to spare" if value <= 0 else f"violated by {short(value)}"


def _param_names(trials: Iterable[FrozenTrial]) -> list[str]:
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}"
