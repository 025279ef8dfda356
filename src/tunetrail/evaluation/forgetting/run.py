"""Forgetting in the story of a run: planned with its parts, measured after its training."""

import logging

import torch
from omegaconf import DictConfig
from transformers import PreTrainedTokenizerBase

from tunetrail.config.arguments import autocast_type
from tunetrail.config.build import build
from tunetrail.config.checks import read_constraints
from tunetrail.config.objectives import FORGOTTEN, read_objectives
from tunetrail.config.paths import locate
from tunetrail.config.progress import report_progress
from tunetrail.data.prepare import PreparedData
from tunetrail.evaluation.forgetting.measure import Training, measure_forgetting
from tunetrail.evaluation.forgetting.plan import Plan
from tunetrail.evaluation.forgetting.report import ForgettingReport, NotMeasured
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import find_kind
from tunetrail.tasks.base import Task
from tunetrail.training.tokens import Split
from tunetrail.training.train import TrainingResult
from tunetrail.training.trainer import MeasuringTrainer

log = logging.getLogger(__name__)


def plan_forgetting(
    cfg: DictConfig,
    task: Task,
    checkpoint: Checkpoint,
    tokenizer: PreTrainedTokenizerBase,
    data: PreparedData,
) -> Plan | None:
    """Plan what is measured; None where the config says that nothing is.

    Raises:
        InputError: a reference cannot be used.

    """
    # Configs that were recorded before forgetting was measured do not have the key.
    if not cfg.diagnostics.get("forgetting", False):
        return None
    named = {*read_objectives(cfg), *(bound.metric for bound in read_constraints(cfg))}
    plan: Plan = build(cfg.forgetting).plan(
        task,
        find_kind(checkpoint),
        tokenizer,
        data.dataset["train"],
        is_required=FORGOTTEN in named,
    )
    for name in ("text", "probe"):
        path = cfg.forgetting[name].get("path")
        first = plan.parts[0] if plan.parts else None
        if path and first and not (first.reference.key or "").startswith(f"forgetting.{name}."):
            log.info(
                "forgetting.%s.path=%s: of this model the %s on %s is measured first",
                name, path, first.measure.title, first.reference.name,
            )  # fmt: skip
    return plan


def measure_run(
    plan: Plan,
    cfg: DictConfig,
    checkpoint: Checkpoint,
    trainer: MeasuringTrainer,
    result: TrainingResult,
    *,
    train: Split,
    measured: list[Split],
) -> ForgettingReport | NotMeasured:
    """Measure what a training has made its model forget.

    Args:
        plan: of the same run.
        train: what was trained on.
        measured: what each evaluation measured.

    """
    report_progress("measures what was forgotten")
    assert isinstance(trainer.model, torch.nn.Module)
    training = Training(
        model=trainer.model,
        checkpoint=checkpoint,
        num_tokens=train.num_tokens,
        num_measured=sum(split.num_tokens for split in measured),
        epochs=float(trainer.state.epoch or 0) if result.is_trained else 0.0,
        num_evaluations=len(result.evaluations),
        learning_rate=trainer.args.learning_rate,
        best_epoch=result.best.epoch,
        dtype=autocast_type(trainer.args),
    )
    return measure_forgetting(plan, training, cache_dir=locate(cfg.cache_dir))
