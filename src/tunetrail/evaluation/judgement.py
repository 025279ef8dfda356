"""What a run's numbers are worth: the fit, and the baselines, on the same rows."""

from collections.abc import Mapping
from dataclasses import dataclass

from omegaconf import DictConfig

from tunetrail.config.progress import report_progress
from tunetrail.evaluation.advice import Settings, advise, read_settings
from tunetrail.evaluation.baselines import (
    Baselines,
    BaselinesReport,
    beats,
    compare_with_baselines,
    measure_baselines,
)
from tunetrail.evaluation.fit import FitReport, judge_fit
from tunetrail.evaluation.outcome import SplitOutcome, examine
from tunetrail.tasks.base import Array, Task
from tunetrail.training.tokens import Split
from tunetrail.training.train import TrainingResult
from tunetrail.training.trainer import MeasuringTrainer


@dataclass(frozen=True)
class Judgement:
    """The verdict on a run, and what it rests on.

    ``baselines`` is None with diagnostics.baselines=false; ``untuned`` is the model before
    training, if this process has measured it.
    """

    fit: FitReport
    baselines: BaselinesReport | None
    above_baseline: float | None
    validation: SplitOutcome
    untuned: SplitOutcome | None


def judge_run(
    cfg: DictConfig,
    task: Task,
    trainer: MeasuringTrainer,
    result: TrainingResult,
    *,
    splits: Mapping[str, Split],
    sample: Split,
    available: Mapping[str, int],
) -> Judgement:
    """Judge the fit, and compare with the baselines.

    Args:
        cfg: of the run.
        task: of the run.
        trainer: with what it has kept of the evaluations.
        result: of the training.
        splits: what was trained on and measured.
        sample: the part of train that was measured.
        available: split -> rows that there are.

    """
    report_progress("judges the fit, and compares with baselines")
    step = result.best.step
    train, validation = (
        examine(task, split, trainer.outputs_of(name, step=step))
        for name, split in (("train", sample), ("validation", splits["validation"]))
    )
    untuned = None
    if result.is_trained and (outputs := trainer.untuned_outputs("validation")) is not None:
        untuned = examine(task, splits["validation"], outputs)
    # Weights that were not chosen are no best of many.
    num_tuned = sum(evaluation.number > 0 for evaluation in result.evaluations)
    num_choices = num_tuned if trainer.args.load_best_model_at_end else 1
    baselines = measure_baselines(
        task,
        splits["train"].rows,
        validation.rows,
        untuned=trainer.untuned_statistics if result.is_trained else None,
        measures_all=cfg.diagnostics.baselines,
    )
    sizes = {name: len(split.rows) for name, split in splits.items()}
    fit = _report_fit(
        result,
        train,
        validation,
        baselines,
        read_settings(cfg, sizes=sizes, available=available),
        losses=trainer.row_losses,
        num_choices=num_choices,
    )
    first, sign = baselines.first, baselines.metric.sign
    return Judgement(
        fit=fit,
        baselines=compare_with_baselines(
            validation, baselines, num_choices=num_choices, seed=cfg.seed
        )
        if cfg.diagnostics.baselines
        else None,
        above_baseline=None if first is None else sign * (fit.validation_score - first.score),
        validation=validation,
        untuned=untuned,
    )


def _report_fit(
    result: TrainingResult,
    train: SplitOutcome,
    validation: SplitOutcome,
    baselines: Baselines,
    settings: Settings,
    *,
    losses: Mapping[str, Mapping[int, Array]],
    num_choices: int,
) -> FitReport:
    task, best, reference = train.task, result.best, baselines.best
    fit = judge_fit(
        result.evaluations,
        best,
        main_metric=task.main_metric,
        metric=baselines.metric,
        scores={"train": train.scores, "validation": validation.scores},
        losses=losses,
        num_steps=result.num_steps,
        beats_baseline=beats(validation, baselines, num_choices=num_choices),
        baseline_score=None if reference is None else reference.score,
    )
    num_evaluations = sum(evaluation.number > 0 for evaluation in result.evaluations)
    advice = advise(fit, settings, num_steps=result.num_steps, num_evaluations=num_evaluations)
    return FitReport(
        verdict=fit.verdict,
        main_metric=task.main_metric,
        best_epoch=best.epoch,
        train_score=best.train[task.main_metric],
        validation_score=best.validation[task.main_metric],
        baseline=None if reference is None else reference.name,
        baseline_score=None if reference is None else reference.score,
        gap=fit.gap,
        gap_noise=fit.gap_noise,
        loss_rise=fit.loss_rise,
        loss_rise_noise=fit.loss_rise_noise,
        begins_epoch=None if fit.begins is None else fit.begins.epoch,
        num_evaluations=num_evaluations,
        advice=str(advice),
        override=advice.override,
    )
