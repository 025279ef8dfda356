"""Scores of train and validation, measured in pairs at every evaluation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tunetrail.tasks.base import LOSS, Metric

# Speed measures that Trainer adds to the scores.
_TIMINGS = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


@dataclass(frozen=True)
class Evaluation:
    """Scores of one evaluation, both splits measured in the same mode with the same weights.

    ``train`` and ``validation`` hold ``loss`` and the task's metrics. ``step`` counts optimizer
    steps, ``number`` evaluations from 1. The evaluation before training has step and number 0.
    """

    number: int
    step: int
    epoch: float
    train: dict[str, float]
    validation: dict[str, float]


def collect_evaluations(log_history: list[dict[str, float]]) -> list[Evaluation]:
    """Pair what Trainer logged for train and for validation at the same step."""
    by_step: dict[int, dict[str, dict[str, float]]] = {}
    epochs: dict[int, float] = {}
    for entry in log_history:
        for split in ("train", "validation"):
            prefix = f"eval_{split}_"
            if f"{prefix}loss" in entry:
                step = int(entry["step"])
                epochs[step] = float(entry["epoch"])
                by_step.setdefault(step, {})[split] = {
                    key.removeprefix(prefix): value
                    for key, value in entry.items()
                    if key.startswith(prefix)
                }
    complete = sorted(step for step, splits in by_step.items() if len(splits) == 2)
    return [
        Evaluation(number=number, step=step, epoch=epochs[step], **by_step[step])
        for number, step in enumerate(complete, start=0 if 0 in complete else 1)
    ]


def find_best(evaluations: Iterable[Evaluation], name: str, metric: Metric) -> Evaluation:
    """Return the evaluation with the best validation score; of equal ones the first.

    As Trainer does, it leaves out the one before training.
    """
    tuned = (evaluation for evaluation in evaluations if evaluation.number)
    return max(tuned, key=lambda evaluation: metric.sign * evaluation.validation[name])


def without_timings(measured: Mapping[str, float]) -> dict[str, float]:
    """Drop the speed measures that Trainer adds to the scores."""
    return {name: value for name, value in measured.items() if name not in _TIMINGS}


def name_metrics(evaluation: Evaluation, metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Name the scores as MLflow holds them: ``train/*``, ``validation/*``, ``gap/*``, ``epoch``.

    A gap is how much better train is than validation.
    """
    named = {"epoch": evaluation.epoch}
    for name, validation in without_timings(evaluation.validation).items():
        train = evaluation.train[name]
        named[f"train/{name}"] = train
        named[f"validation/{name}"] = validation
        sign = metrics.get(name, LOSS).sign
        # Not sign * (train - validation): that would write a gap of zero as -0.
        named[f"gap/{name}"] = train - validation if sign > 0 else validation - train
    return named
