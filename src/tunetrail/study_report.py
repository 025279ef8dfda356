"""The report of a study: what a person opens first."""

from collections import Counter

from optuna.trial import FrozenTrial, TrialState

_STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def write_report(
    name: str, trials: list[FrozenTrial], best: FrozenTrial | None, objectives: list[str]
) -> str:
    """Write Markdown: the best point, every finished trial by value, pruned and failed ones."""
    counts = Counter(trial.state for trial in trials)
    seconds = Counter[TrialState]()
    for trial in trials:
        if trial.duration is not None:
            seconds[trial.state] += round(trial.duration.total_seconds())
    lines = [
        f"# Study {name}",
        "",
        ", ".join(
            f"{counts[state]} {state.name.lower()} ({seconds[state] / 60:.1f} min)"
            for state in _STATES
        ),
        "",
    ]
    if best is None:
        lines += ["No trial completed.", ""]
    else:
        score = ", ".join(
            f"{objective} {value:.4f}"
            for objective, value in zip(objectives, best.values, strict=True)
        )
        lines += [f"## Best: trial {best.number}", "", score, "", *_params_table(best), ""]
    lines += ["## Trials", ""]
    names = sorted({key for trial in trials for key in trial.params})
    header = [
        "trial",
        "state",
        *objectives,
        *(name.split(".")[-1] for name in names),
        "seconds",
        "MLflow run",
        "note",
    ]
    lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += [_row(trial, objectives, names) for trial in trials]
    return "\n".join(lines) + "\n"


def _params_table(trial: FrozenTrial) -> list[str]:
    rows = [f"| `{key}` | {_short(value)} |" for key, value in trial.params.items()]
    return ["| parameter | value |", "|---|---|", *rows]


def _row(trial: FrozenTrial, objectives: list[str], names: list[str]) -> str:
    values = [f"{value:.4f}" for value in trial.values or []] or [""] * len(objectives)
    note = str(trial.user_attrs.get("failure", ""))
    if trial.state is TrialState.PRUNED and trial.intermediate_values:
        number, value = max(trial.intermediate_values.items())
        note = f"stopped at evaluation {number} with {value:.4f}"
    seconds = "" if trial.duration is None else f"{trial.duration.total_seconds():.0f}"
    cells = [
        str(trial.number),
        trial.state.name.lower(),
        *values,
        *(_short(trial.params.get(name, "")) for name in names),
        seconds,
        str(trial.user_attrs.get("mlflow_run_id", "")),
        # A failure may hold anything, and a bar would open another cell.
        note.replace("|", "\\|").replace("\n", " "),
    ]
    return "| " + " | ".join(cells) + " |"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
