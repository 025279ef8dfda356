"""The summary that a run prints at its end."""

import shlex
from collections.abc import Sequence

from tunetrail.config.secrets import redact
from tunetrail.config.store_key import default_store
from tunetrail.evaluation.calibration import CalibrationReport
from tunetrail.evaluation.forgetting.report import ForgettingReport, NotMeasured
from tunetrail.evaluation.judgement import Judgement
from tunetrail.evaluation.tuning import TuningReport
from tunetrail.training.train import TrainingResult


def format_summary(
    result: TrainingResult,
    judged: Judgement,
    tuning: TuningReport | None,
    *,
    calibration: CalibrationReport | None = None,
    run_id: str,
    uri: str,
    where: str,
    page: str | None = None,
    names: Sequence[str],
    test: dict[str, float],
    forgetting: ForgettingReport | NotMeasured | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Format best epoch, scores, verdict and where everything is, in about ten lines.

    Args:
        tuning: against the untuned model; None if that was not measured.
        calibration: of a classifier.
        page: the artifact that shows all of it; None if there is none.
        names: the scores that get a column.
        test: scores of the test split, or nothing.
        forgetting: None if the config asks for none.
        notes: on the scores, a line each.

    """
    best = result.best
    lines = [
        "",
        _describe_training(result),
        "",
        f"{'':12}" + "".join(f"{name.replace('_', ' '):>{_width(name)}}" for name in names),
    ]
    for name, scores in (("train", best.train), ("validation", best.validation), ("test", test)):
        if scores:
            cells = (f"{scores[key]:{_width(key)}.4f}" for key in names)
            lines.append(f"{name:12}" + "".join(cells))
    store = "" if uri == default_store() else f" --uri {shlex.quote(redact(uri))}"
    lines += [
        "",
        f"fit         {judged.fit.line()}",
        *([f"baselines   {judged.baselines.line()}"] if judged.baselines is not None else []),
        *([f"tuning      {tuning.line()}"] if tuning is not None else []),
        *([f"forgetting  {forgetting.line()}"] if forgetting is not None else []),
        *([f"calibration {calibration.line()}"] if calibration is not None else []),
        *(f"note        {note}" for note in notes),
        f"run         {run_id}",
        f"artifacts   {where}",
        *([f"page        {where}/{page}"] if page is not None else []),
        f"see it      tunetrail ui {run_id[:8]}{store}",
    ]
    return "\n".join(lines)


def _describe_training(result: TrainingResult) -> str:
    if not result.is_trained:
        return f"nothing trained   (measured in {result.seconds:.0f} s)"
    last = f"{result.evaluations[-1].epoch:g}"
    if result.stopped_early:
        last += f", stopped early: {result.stopped_early}"
    return (
        f"best epoch {result.best.epoch:g} of {last}   "
        f"({result.num_steps} steps in {result.seconds:.0f} s, "
        f"{_speed(result.train_samples_per_second)} training rows a second)"
    )


def _width(name: str) -> int:
    return max(12, len(name) + 2)


def _speed(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
