"""The report of a study: what a person opens first."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import optuna
import pandas as pd
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study import attributes
from tunetrail.studies.states import STATES, find_default, is_feasible, seconds_of, state_of
from tunetrail.studies.trial import rank

# A page that a browser shows at once; the table of all trials has no such end.
_MAX_ROWS = 200


def write_report(
    study: optuna.Study,
    objectives: Sequence[str],
    constraints: Mapping[str, str],
    run_ids: Mapping[int, str],
    *,
    winner: str = "",
) -> str:
    """Write Markdown: what was spent, what was found, every trial, and why some ended early.

    Args:
        objectives: names of the study's values, in order.
        constraints: name -> bound as text, such as ``<= 0.2``.
        run_ids: number of a trial -> its MLflow run.
        winner: the section on the finals, which comes first.

    """
    trials = study.get_trials(deepcopy=False)
    sections = [
        _title(study),
        winner.splitlines(),
        _spent(trials),
        *_found(study, objectives, run_ids),
        _constraints_table(study, constraints),
        _trials_table(trials, objectives, run_ids),
        _pruned_table(trials, objectives),
        _failed_table(trials, run_ids),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _title(study: optuna.Study) -> list[str]:
    searched = study.user_attrs.get(attributes.FINAL_OF)
    if searched is None:
        return [f"# Study {study.study_name}"]
    seeds = ", ".join(map(str, study.user_attrs[attributes.SEEDS]))
    meaning = (
        f"The best points of study {searched}, and the default config's, trained again to the end "
        f"on seeds that the search did not use: {seeds}."
    )
    return [f"# Finals of study {searched}", "", meaning]


def list_trials(
    study: optuna.Study, objectives: Sequence[str], run_ids: Mapping[int, str]
) -> pd.DataFrame:
    """Lay out all trials: a row each, a column for each value, parameter and constraint."""
    trials = study.get_trials(deepcopy=False)
    names = _param_names(trials)
    bounded = sorted({name for trial in trials for name in trial.constraints})
    return pd.DataFrame(
        {
            "trial": trial.number,
            "state": state_of(trial),
            **dict(zip(objectives, _values(trial, len(objectives)), strict=True)),
            **{name: trial.params.get(name) for name in names},
            **{f"constraint {name}": trial.constraints.get(name) for name in bounded},
            "started": trial.datetime_start,
            "seconds": seconds_of(trial),
            "run": run_ids.get(trial.number),
            "note": _note(trial),
        }
        for trial in trials
    )


def _spent(trials: Sequence[FrozenTrial]) -> list[str]:
    counts = Counter(state_of(trial) for trial in trials)
    seconds = Counter[str]()
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for trial in trials:
        state = state_of(trial)
        seconds[state] += seconds_of(trial) or 0.0  # type: ignore[assignment] # a sum of floats
        if state == "failed":
            kinds[state][str(trial.user_attrs.get(attributes.FAILURE_KIND, "error"))] += 1
    others = sorted(set(counts) - set(STATES))
    rows = []
    for state in [name for name in (*STATES, *others) if counts[name]]:
        shown = ", ".join(f"{number} {kind}" for kind, number in kinds[state].most_common())
        rows.append(
            [state + (f" ({shown})" if shown else ""), str(counts[state]), _hours(seconds[state])]
        )
    rows.append(["all", str(len(trials)), _hours(sum(seconds.values()))])
    lines = ["## How the trials ended", "", *_table(["state", "trials", "hours"], rows)]
    saved, known = _saved_by_pruning(trials)
    if known:
        estimate = (
            f"Pruning saved about {_hours(saved)} hours: an estimate, from {known} of "
            f"{counts['pruned']} pruned trials, of the evaluations that each did not make, at "
            "the pace of those it made."
        )
        lines += ["", estimate]
    return lines


def _saved_by_pruning(trials: Iterable[FrozenTrial]) -> tuple[float, int]:
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


def _found(
    study: optuna.Study, objectives: Sequence[str], run_ids: Mapping[int, str]
) -> list[list[str]]:
    complete = rank(study)
    feasible = [trial for trial in complete if is_feasible(trial)]
    if not complete:
        return [["No trial completed."]]
    if not feasible:
        nearest = min(complete, key=_violation)
        return [
            ["**No trial meets the constraints.** Nothing below is a result to use."],
            _one_trial("Nearest", nearest, objectives, run_ids),
        ]
    sections = [_one_trial("Best", feasible[0], objectives, run_ids)]
    if len(objectives) > 1:
        sections[0].insert(2, f"By the first objective, {objectives[0]}.")
        sections[0].insert(3, "")
        sections.append(_front(study, objectives, run_ids))
    sections.append(_default(study, feasible[0], objectives))
    sections.append(_spread(feasible, objectives))
    return sections


def _one_trial(
    title: str, trial: FrozenTrial, objectives: Sequence[str], run_ids: Mapping[int, str]
) -> list[str]:
    scores = ", ".join(
        f"{objective} **{_short(value)}**"
        for objective, value in zip(objectives, trial.values, strict=True)
    )
    rows = [[f"`{key}`", f"`{value}`"] for key, value in trial.params.items()]
    lines = [f"## {title}: trial {trial.number}", "", scores, ""]
    lines += _table(["parameter", "value"], rows) if rows else ["It has no parameters."]
    lines += ["", f"MLflow run: `{run_ids.get(trial.number, 'none')}`"]
    if trial.constraints:
        margins = [f"{name} {_margin(value)}" for name, value in trial.constraints.items()]
        lines += ["", f"Constraints: {'; '.join(margins)}."]
    return lines


def _front(study: optuna.Study, objectives: Sequence[str], run_ids: Mapping[int, str]) -> list[str]:
    front = sorted(study.best_trials, key=lambda trial: (trial.values, trial.number))  # noqa: PD011 - no pandas
    if study.directions[0] is StudyDirection.MAXIMIZE:
        front.reverse()
    names = _param_names(front)
    rows = [
        [
            str(trial.number),
            *map(_short, trial.values),
            *(_short(trial.params.get(name, "")) for name in names),
            run_ids.get(trial.number, ""),
        ]
        for trial in front[:_MAX_ROWS]
    ]
    header = ["trial", *objectives, *map(_last, names), "run"]
    return [
        "## Pareto front",
        "",
        "No trial that meets the constraints beats one of these in every objective.",
        "",
        *_table(header, rows),
        *_cut(len(front)),
    ]


def _default(study: optuna.Study, best: FrozenTrial, objectives: Sequence[str]) -> list[str]:
    """Compare the best with the config as composed."""
    default = find_default(study.get_trials(deepcopy=False))
    if default is None:
        return []
    lines = ["## Against the default config", ""]
    if default.number == best.number:
        return [*lines, f"Trial {default.number}, the default config, is the best."]
    if default.state is not TrialState.COMPLETE:
        state = state_of(default)
        said = f"Trial {default.number}, the default config, was {state}: nothing to compare."
        return [*lines, said]
    note = "" if is_feasible(default) else "; it does not meet the constraints"
    rows = [
        [objective, _short(was), _short(now), f"{now - was:+.4g}"]
        for objective, was, now in zip(objectives, default.values, best.values, strict=True)
    ]
    header = ["objective", f"default (trial {default.number})", f"best (trial {best.number})"]
    return [
        *lines,
        f"Trial {default.number} is the default config{note}.",
        "",
        *_table([*header, "difference"], rows),
    ]


def _spread(ranked: Sequence[FrozenTrial], objectives: Sequence[str]) -> list[str]:
    several = [trial for trial in ranked if len(trial.user_attrs.get(attributes.REPEATS, ())) > 1]
    if not several:
        return []
    rows = []
    for trial in several[:10]:
        runs = pd.DataFrame(trial.user_attrs[attributes.REPEATS], columns=list(objectives))
        shown = [
            f"{_short(mean)} ± {_short(std)}"
            for mean, std in zip(runs.mean(), runs.std(), strict=True)
        ]
        rows.append([str(trial.number), str(len(runs)), *shown])
    meaning = (
        "Mean ± sample standard deviation, the best trials first. A difference between two trials "
        "that is smaller than these is no finding."
    )
    return [
        "## Spread over seeds",
        "",
        meaning,
        "",
        *_table(["trial", "seeds", *objectives], rows),
    ]


def _constraints_table(study: optuna.Study, bounds: Mapping[str, str]) -> list[str]:
    measured = [t for t in study.get_trials(deepcopy=False) if t.constraints]
    names = [*bounds, *sorted({name for t in measured for name in t.constraints} - set(bounds))]
    if not names:
        return []
    best = next((trial for trial in rank(study) if is_feasible(trial)), None)
    rows = []
    for name in names:
        values = [t.constraints[name] for t in measured if name in t.constraints]
        met = sum(value <= 0 for value in values)
        of_best = None if best is None else best.constraints.get(name)
        rows.append(
            [
                name,
                bounds.get(name, ""),
                str(met),
                str(len(values) - met),
                "" if of_best is None else _margin(of_best),
            ]
        )
    header = ["constraint", "bound", "met by", "violated by", "best trial"]
    return ["## Constraints", "", *_table(header, rows)]


def _trials_table(
    trials: Sequence[FrozenTrial], objectives: Sequence[str], run_ids: Mapping[int, str]
) -> list[str]:
    names = _param_names(trials)
    header = ["trial", "state", *objectives, *map(_last, names), "seconds", "run", "note"]
    rows = []
    for trial in trials[:_MAX_ROWS]:
        values = _values(trial, len(objectives))
        seconds = seconds_of(trial)
        rows.append(
            [
                str(trial.number),
                state_of(trial),
                *("" if value is None else _short(value) for value in values),
                *(_short(trial.params.get(name, "")) for name in names),
                "" if seconds is None else f"{seconds:.0f}",
                run_ids.get(trial.number, ""),
                _first_line(_note(trial)),
            ]
        )
    if not rows:
        return ["## Trials", "", "There is none."]
    return ["## Trials", "", *_table(header, rows), *_cut(len(trials))]


def _pruned_table(trials: Sequence[FrozenTrial], objectives: Sequence[str]) -> list[str]:
    pruned = [t for t in trials if state_of(t) == "pruned" and t.intermediate_values]
    if not pruned:
        return []
    rows = []
    for trial in pruned[:_MAX_ROWS]:
        number, value = max(trial.intermediate_values.items())
        planned = trial.user_attrs.get(attributes.NUM_EVALUATIONS)
        of = "" if planned is None else f" of {planned}"
        rows.append([str(trial.number), f"{number}{of}", _short(value)])
    header = ["trial", "stopped at evaluation", f"{objectives[0]} there"]
    return ["## Pruned", "", *_table(header, rows), *_cut(len(pruned))]


def _failed_table(trials: Sequence[FrozenTrial], run_ids: Mapping[int, str]) -> list[str]:
    failed = [
        t for t in trials if t.user_attrs.get(attributes.FAILURE) or t.state is TrialState.FAIL
    ]
    if not failed:
        return []
    retried = {
        t.user_attrs[attributes.RETRY_OF]: t.number
        for t in trials
        if attributes.RETRY_OF in t.user_attrs
    }
    rows = [
        [
            str(trial.number),
            str(trial.user_attrs.get(attributes.FAILURE_KIND, "error")),
            str(trial.user_attrs.get(attributes.FAILURE, "unknown")),
            f"trial {retried[trial.number]}" if trial.number in retried else "",
            run_ids.get(trial.number, ""),
        ]
        for trial in failed[:_MAX_ROWS]
    ]
    header = ["trial", "kind", "cause", "tried again as", "run"]
    return ["## Failed", "", *_table(header, rows), *_cut(len(failed))]


def _note(trial: FrozenTrial) -> str:
    attrs = trial.user_attrs
    notes = []
    if attributes.FINALIST_OF in attrs:
        notes.append(f"trial {attrs[attributes.FINALIST_OF]} of the search")
    if attrs.get(attributes.ENQUEUED) == attributes.DEFAULT:
        notes.append("the default config")
    if attrs.get(attributes.ENQUEUED) == attributes.POINT:
        notes.append("a point of sweep.enqueue")
    if attributes.RETRY_OF in attrs:
        notes.append(f"trial {attrs[attributes.RETRY_OF]} again")
    if attributes.REUSED_FROM in attrs:
        notes.append(f"same point as trial {attrs[attributes.REUSED_FROM]}, not run again")
    if trial.state is TrialState.COMPLETE and not is_feasible(trial):
        broken = [name for name, value in trial.constraints.items() if value > 0]
        notes.append(f"violates {', '.join(broken)}")
    if state_of(trial) == "pruned" and trial.intermediate_values:
        number, value = max(trial.intermediate_values.items())
        notes.append(f"stopped at evaluation {number} with {_short(value)}")
    if failure := attrs.get("failure"):
        notes.append(str(failure))
    return "; ".join(notes)


def _values(trial: FrozenTrial, count: int) -> Sequence[float | None]:
    # Optuna gives a pruned trial its last report as its value, which is no result.
    if trial.state is not TrialState.COMPLETE:
        return [None] * count
    return list(trial.values)


def _violation(trial: FrozenTrial) -> float:
    return sum(max(value, 0.0) for value in trial.constraints.values())


def _margin(value: float) -> str:
    return f"met, {_short(-value)} to spare" if value <= 0 else f"violated by {_short(value)}"


def _param_names(trials: Iterable[FrozenTrial]) -> list[str]:
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}"


def _first_line(text: str) -> str:
    first, _, rest = text.partition("\n")
    return first + (" …" if rest else "")


def _cut(count: int) -> list[str]:
    if count <= _MAX_ROWS:
        return []
    return ["", f"The first {_MAX_ROWS} of {count}; all trials are in `tables/trials.csv`."]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(map(_cell, header)) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]


def _cell(text: str) -> str:
    """Escape what would open another cell, a tag or a row: a failure may hold anything."""
    flat = " ".join(text.split())
    return flat[:1000].replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
