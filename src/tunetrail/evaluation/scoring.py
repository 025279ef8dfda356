"""The test split, scored: at the end of a run, or later from what the run has recorded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from datasets import Dataset
from omegaconf import DictConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunetrail.config.arguments import build_arguments
from tunetrail.config.build import build, plain
from tunetrail.config.untrusted import resolve_config
from tunetrail.data.prepare import PreparedData
from tunetrail.evaluation.statistics import NUM_RESAMPLES, Interval, percentile_interval
from tunetrail.tasks.base import Task
from tunetrail.training.inputs import load_rows, tokenise_rows
from tunetrail.training.trainer import build_predictor, score_metrics


@dataclass(frozen=True)
class TestScores:
    """Scores on test: ``loss`` and the task's metrics, with intervals for the latter.

    ``rows`` stand in the order of ``logits``, whose shape is (rows, labels).
    """

    __test__ = False  # no test, for pytest

    metrics: dict[str, float]
    intervals: dict[str, Interval]
    rows: Dataset
    logits: np.ndarray


def score_test(
    trainer: transformers.Trainer, task: Task, rows: Dataset, *, seed: int
) -> TestScores:
    """Score the weights that the trainer holds.

    Args:
        rows: tokenised.
        seed: of the resamples.

    """
    output = trainer.predict(rows, metric_key_prefix="test")
    measured = {name.removeprefix("test_"): value for name, value in (output.metrics or {}).items()}
    logits = np.asarray(output.predictions)
    samples = task.resample_metrics(rows, logits, num_resamples=NUM_RESAMPLES, seed=seed)
    return TestScores(
        metrics=score_metrics(measured),
        intervals={name: percentile_interval(values) for name, values in samples.items()},
        rows=rows,
        logits=logits,
    )


@dataclass(frozen=True)
class Recorded:
    """What a run was, made again from the config that it recorded."""

    cfg: DictConfig
    task: Task

    @property
    def seed(self) -> int:
        return int(self.cfg.seed)

    @property
    def values(self) -> dict[str, Any]:
        """The config as plain values."""
        return plain(self.cfg)

    def load_data(self) -> PreparedData:
        """Load and prepare the rows.

        Raises:
            InputError: they are not there, or cannot be used, any more.

        """
        return load_rows(self.cfg)


def load_recorded(config: str, *, known_targets: frozenset[str]) -> Recorded:
    """Read a run's ``config.yaml``.

    Raises:
        InputError: it names what is none of the known targets.

    """
    cfg = resolve_config(config, known=known_targets)
    return Recorded(cfg, build(cfg.task))


def score_saved(
    recorded: Recorded,
    data: PreparedData,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    scratch_dir: Path,
) -> TestScores:
    """Score saved weights as their run would have: same tokens, batches and precision."""
    cfg, task = recorded.cfg, recorded.task
    rows = tokenise_rows(cfg, task, build(cfg.model.source), data.dataset)
    predictor = build_predictor(
        model=model,
        tokenizer=tokenizer,
        arguments=build_arguments(cfg, scratch_dir),
        rows=rows.held_out["test"],
        collator=task.build_collator(tokenizer),
        compute_metrics=task.build_metrics(data.dataset["test"]),
    )
    return score_test(predictor, task, rows.held_out["test"], seed=cfg.seed)
