"""The page of a run: its config in short, what was found, and how to run it again."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from matplotlib.figure import Figure

from tunetrail.config.record import list_differences
from tunetrail.data.prepare import PreparedData
from tunetrail.errors import first_line
from tunetrail.evaluation.calibration import CalibrationReport
from tunetrail.evaluation.fit import FitReport, Verdict
from tunetrail.evaluation.forgetting.report import ForgettingReport, NotMeasured
from tunetrail.evaluation.held_out import HeldOutScores
from tunetrail.evaluation.judgement import Judgement
from tunetrail.evaluation.missing_labels import MissingLabels
from tunetrail.evaluation.outcome import SplitOutcome
from tunetrail.evaluation.tuning import TuningReport
from tunetrail.reports.errors import describe_errors
from tunetrail.tasks.base import Task, order_metrics
from tunetrail.templates import begin_sentence, caption, list_names
from tunetrail.templates.sections import Fact, Page, Section, Table
from tunetrail.training.evaluations import Evaluation
from tunetrail.training.train import TrainingResult

log = logging.getLogger(__name__)

# What of the trainer's arguments a person asks for first.
_TRAINER_KEYS = (
    "learning_rate", "lr_scheduler_type", "warmup_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "num_train_epochs", "max_steps", "weight_decay",
    "eval_strategy", "metric_for_best_model",
)  # fmt: skip
_PARTS = ("task", "data", "model", "method")
# Evaluations in the table under the curves, and columns of scores.
_MOST_EVALUATIONS, _MOST_SCORES = 12, 5
# Settings in each list of them.
_MOST_VALUES = 40
_TONES = {
    Verdict.GOOD: "good",
    Verdict.OVERFITTING: "bad",
    Verdict.UNDERFITTING: "bad",
    Verdict.UNSTABLE: "bad",
    Verdict.NO_BETTER_THAN_BASELINE: "bad",
    Verdict.UNTRAINED: "good",
}


@dataclass(frozen=True)
class RunFindings:
    """All that a run has found.

    Args:
        config: as it is recorded, in plain values.
        overrides: what was typed.
        figures: name of an artifact -> figure, as it was logged.
        where: the URI of the run's artifacts.

    """

    run_id: str
    name: str
    where: str
    uri: str
    config: Mapping[str, Any]
    overrides: Sequence[str]
    task: Task
    data: PreparedData
    missing: Sequence[MissingLabels]
    result: TrainingResult
    judged: Judgement
    tuning: TuningReport | None
    forgetting: ForgettingReport | NotMeasured | None
    calibration: CalibrationReport | None
    test: HeldOutScores | None
    figures: Mapping[str, Figure]

    @property
    def fit(self) -> FitReport:
        return self.judged.fit

    @property
    def validation(self) -> SplitOutcome:
        return self.judged.validation


def build_run_page(found: RunFindings) -> Page:
    """Put the page of a run together; what was not measured has no section."""
    parts: dict[str, Callable[[RunFindings], Iterable[Section]]] = {
        "Verdict": _describe_verdict,
        "Learning curves": _describe_curves,
        "Baselines": lambda found: _sections_of(found.judged.baselines),
        "What tuning has changed": _describe_tuning,
        "Test": _describe_test,
        "Data": _describe_data,
        "Errors": lambda found: describe_errors(found.validation, found.figures),
        "Calibration": _describe_calibration,
        "What the model forgot": lambda found: _sections_of(found.forgetting),
        "Leakage": lambda found: _sections_of(found.data.leakage),
        "Data quality": lambda found: _sections_of(found.data.quality),
        "Labels that are probably wrong": lambda found: _sections_of(found.data.suspects),
        "Config": _describe_config,
        "Run it again": _describe_rerun,
    }
    sections: list[Section] = []
    for title, describe in parts.items():
        try:
            sections += describe(found)
        except Exception as error:
            # A run of hours must not end with its own report.
            log.exception("the page of the run lacks %r", title)
            cause = f"{type(error).__name__}: {first_line(error)}"
            sections.append(Section(title, f"This could not be described: {cause}"))
    return Page(found.name, _introduce(found), _list_facts(found), sections)


class _Report(Protocol):
    """What was measured, as a part of a page."""

    def section(self) -> Section: ...


def _sections_of(report: _Report | None) -> list[Section]:
    return [] if report is None else [report.section()]


def _introduce(found: RunFindings) -> str:
    config = found.config
    data, model, method = (_name_of(config, part) for part in ("data", "model", "method"))
    what = f"{type(found.task).__name__} of {data} with {model}, method {method}"
    return f"{what}. Run `{found.run_id}`."


def _name_of(config: Mapping[str, Any], part: str) -> object:
    return (config.get(part) or {}).get("name", part)


def _list_facts(found: RunFindings) -> list[Fact]:
    fit, metric = found.fit, found.fit.main_metric.replace("_", " ")
    result, calibration, test = found.result, found.calibration, found.test
    noise = 2 * found.validation.noise
    facts = [
        Fact("verdict", str(fit.verdict), fit.advice, _TONES.get(fit.verdict, "")),
        Fact(f"{metric} on validation", _score(fit.validation_score), f"± {_score(noise)} (95 %)"),
        Fact(f"{metric} on train", _score(fit.train_score), f"gap {fit.gap:+.4f}"),
    ]
    if fit.baseline_score is not None:
        facts.append(Fact(f"{metric} of the baseline", _score(fit.baseline_score)))
    if test is not None:
        interval = str(test.intervals[fit.main_metric])
        facts.append(Fact(f"{metric} on test", _score(test.metrics[fit.main_metric]), interval))
    if calibration is not None:
        if calibration.is_applied:
            shown = calibration.ece_cross_fitted
            applied = f"with a temperature of {calibration.temperature:.3f}"
            note = f"{applied}; {calibration.ece:.3f} without"
        else:
            shown, note = calibration.ece, calibration.finding()
        tone = "bad" if calibration.is_noticeable and not calibration.is_applied else ""
        facts.append(Fact("calibration error", f"{shown:.3f}", note, tone))
    if result.is_trained:
        best = f"{result.best.epoch:.3g} of {result.evaluations[-1].epoch:.3g}"
        facts.append(Fact("best epoch", best, f"{result.num_steps:,} steps"))
    return [*facts, Fact("time", _duration(result.seconds), "with evaluations")]


def _describe_verdict(found: RunFindings) -> Iterable[Section]:
    fit, best, test = found.fit, found.result.best, found.test
    names = ["loss", *order_metrics(found.task)[:_MOST_SCORES]]
    splits = [("train (a sample)", best.train), ("validation", best.validation)]
    if test is not None:
        splits.append(("test", test.metrics))
    rows = [[split, *(_score(scores[name]) for name in names)] for split, scores in splits]
    header = ["", *(name.replace("_", " ") for name in names)]
    notes = "".join(f"\n- {one.line()}" for one in found.missing)
    line = fit.line()
    yield Section(
        "Verdict",
        f"{begin_sentence(line)}.{notes}",
        tables=[Table(header, rows, f"Scores at epoch {best.epoch:.3g}, whose weights are kept.")],
        files=["reports/fit.json"],
    )


def _describe_curves(found: RunFindings) -> Iterable[Section]:
    if not found.result.is_trained:
        return
    path, metric = "figures/learning_curves.png", found.fit.main_metric
    evaluations = found.result.evaluations
    best = found.result.best
    shown = _choose(evaluations, best)
    rows = [
        [
            f"{one.epoch:.3g}",
            *(
                _score(part[name])
                for name in ("loss", metric)
                for part in (one.train, one.validation)
            ),
            "best" if one is best else "",
        ]
        for one in shown
    ]
    caption = (
        ""
        if len(shown) == len(evaluations)
        else f"{len(shown)} of {len(evaluations):,} evaluations."
    )
    title = metric.replace("_", " ")
    header = ["epoch", "loss, train", "validation", f"{title}, train", "validation", ""]
    yield Section(
        "Learning curves",
        "A sample of train and all of validation, measured in the same way; the shade is the gap.",
        tables=[Table(header, rows, caption)],
        # One evaluation is no curve.
        figures=[("Loss and score over epochs.", found.figures[path])]
        if path in found.figures and len(evaluations) > 1
        else (),
        files=[path],
    )


def _choose(evaluations: Sequence[Evaluation], best: Evaluation) -> list[Evaluation]:
    """Choose the first, the last, the best, and some between them."""
    step = max(1, -(-len(evaluations) // (_MOST_EVALUATIONS - 2)))
    last = len(evaluations) - 1
    return [
        one
        for place, one in enumerate(evaluations)
        if place % step == 0 or place == last or one is best
    ]


def _describe_tuning(found: RunFindings) -> Iterable[Section]:
    if (tuning := found.tuning) is None:
        return
    rows = [
        [
            name.replace("_", " "),
            f"{_score(tuning.before[name])} {tuning.before_intervals[name]}",
            f"{_score(tuning.after[name])} {tuning.after_intervals[name]}",
        ]
        for name in tuning.after
    ]
    line = tuning.line()
    yield Section(
        "What tuning has changed",
        f"{begin_sentence(line)}.",
        tables=[Table(["on validation", "untuned model (95 %)", "this model (95 %)"], rows)],
        files=["reports/tuning.json"],
    )


def _describe_test(found: RunFindings) -> Iterable[Section]:
    if (test := found.test) is None:
        return
    rows = [
        [name.replace("_", " "), _score(test.metrics[name]), str(interval)]
        for name, interval in test.intervals.items()
    ]
    number = len(test.outcome.rows)
    yield Section(
        "Test",
        f"{number:,} rows, scored once after training. They have chosen nothing.",
        tables=[Table(["", "score", "95 % interval"], rows)],
        files=["predictions/test.parquet"],
    )


def _describe_data(found: RunFindings) -> Iterable[Section]:
    data = found.data
    rows = [[split, f"{len(part):,}"] for split, part in data.dataset.items()]
    lines = [f"- {note}" for note in data.notes]
    files = ["reports/data.json"]
    for name, report in (("quality", data.quality), ("leakage", data.leakage)):
        if report is None:
            lines.append(f"- {name}: not checked (checks.{name}=off)")
        else:
            lines.append(f"- {name}: {report.summary()}")
            files.append("reports/data_quality.md" if name == "quality" else "reports/leakage.md")
    names = data.dataset["train"].features["answers"].feature.names
    if names:
        lines.append(f"- {len(names):,} labels: {', '.join(list_names(names, 12))}")
    yield Section("Data", "\n".join(lines), tables=[Table(["split", "rows"], rows)], files=files)


def _describe_calibration(findings: RunFindings) -> Iterable[Section]:
    if (found := findings.calibration) is None:
        return
    path, figures = "figures/calibration.png", findings.figures
    rows = [
        ["expected calibration error", f"{found.ece:.4f}", f"{found.ece_cross_fitted:.4f}"],
        ["negative log-likelihood", f"{found.nll:.4f}", f"{found.nll_cross_fitted:.4f}"],
    ]
    line = found.line()
    about = (
        f"On {found.num_rows:,} rows of validation the model is sure of what it says to "
        f"{found.confidence:.3f} on average, and right in {found.accuracy:.3f}."
    )
    tempered = (
        f"Tempered: logits divided by {found.temperature:.3f}, on rows that it was not fitted on; "
        f"on those that it was fitted on the error is {found.ece_fitted:.4f}."
    )
    yield Section(
        "Calibration",
        f"{begin_sentence(line)}.\n{about}",
        tables=[Table(["", "as it is", "tempered"], rows, tempered)]
        if found.reason is None
        else (),
        figures=[("How often it is right over how sure it is.", figures[path])]
        if path in figures
        else (),
        files=["reports/calibration.json", path],
    )


def _describe_config(found: RunFindings) -> Iterable[Section]:
    config, trained = found.config, found.result.is_trained
    chosen = [[part, _name_of(config, part)] for part in _PARTS if part != "task"]
    task = config.get("task") or {}
    rows: list[list[object]] = [
        ["task", str(task.get("_target_", "")).rpartition(".")[2]],
        *chosen,
        *([f"task.{k}", v] for k, v in task.items() if k not in ("_target_", "_convert_")),
        *([k, config.get(k)] for k in ("seed", "training_seed", "precision")),
    ]
    trainer = config.get("trainer") or {}
    if trained:
        rows += [[f"trainer.{key}", trainer[key]] for key in _TRAINER_KEYS if key in trainer]
    sentence = "".join(
        [
            _list_values("Typed, or set by a search:", found.overrides),
            _list_values(
                "Other than in the defaults:",
                [f"{key}={value}" for key, value in list_differences(config).items()],
            ),
        ]
    )
    yield Section(
        "Config",
        sentence or "All of it is as in the defaults.",
        tables=[Table(["key", "value"], [[k, str(v)] for k, v in rows])],
        files=["config.yaml", "overrides.yaml", "environment/"],
    )


def _list_values(heading: str, values: Sequence[str]) -> str:
    if not values:
        return ""
    shown = [f"`{caption(value, 120)}`" for value in values[:_MOST_VALUES]]
    more = len(values) - len(shown)
    items = [*shown, *([f"and {more:,} more, in config.yaml"] if more else [])]
    return "\n".join([heading, *(f"- {item}" for item in items)]) + "\n"


def _describe_rerun(found: RunFindings) -> Iterable[Section]:
    yield Section(
        "Run it again",
        f"The run is in `{found.uri}`, its artifacts in `{found.where}`.",
        code=f"tunetrail rerun {found.run_id}",
    )


def _score(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1_000 else f"{value:.4g}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3600:.1f} h"
