"""Score the test split: at the end of a run, or later from the run's record."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunetrail.config.arguments import build_arguments
from tunetrail.config.build import build, plain
from tunetrail.config.untrusted import Trusted, resolve_config
from tunetrail.data.prepare import PreparedData
from tunetrail.evaluation.outcome import SplitOutcome, examine
from tunetrail.evaluation.statistics import Interval, bootstrap
from tunetrail.models.methods.base import Method
from tunetrail.served.base import read_temperature
from tunetrail.tasks.base import Task
from tunetrail.training.inputs import load_rows
from tunetrail.training.tokens import Split, encode_rows
from tunetrail.training.trainer import MeasuringTrainer


@dataclass(frozen=True)
class HeldOutScores:
    """Scores on test: ``loss`` and the task's metrics, with intervals for the latter."""

    metrics: dict[str, float]
    intervals: dict[str, Interval]
    outcome: SplitOutcome


def score_test(trainer: MeasuringTrainer, task: Task, split: Split, *, seed: int) -> HeldOutScores:
    """Score the weights that the trainer holds; ``seed`` is that of the resamples of rows."""
    metrics, outputs = trainer.measure("test", split)
    outcome = examine(task, split, outputs)
    intervals = bootstrap(outcome.statistics, task.score, seed=seed)
    return HeldOutScores(metrics=metrics, intervals=intervals, outcome=outcome)


@dataclass(frozen=True)
class Recorded:
    """Config, task and method of a run, built from the config that it recorded."""

    cfg: DictConfig
    task: Task

    @property
    def method(self) -> Method:
        method: Method = build(self.cfg.method)
        return method

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
            InputError: they are no longer there, or can no longer be used.

        """
        return load_rows(self.cfg, self.task, self.method)


def load_recorded(config: str, *, trusted: Trusted, uri: str) -> Recorded:
    """Read a run's ``config.yaml``.

    Args:
        config: its text.
        trusted: all that it may name.
        uri: of the store that the run is in.

    Raises:
        InputError: it names a target or a variable that is not trusted.

    """
    cfg = resolve_config(config, trusted=trusted, uri=uri)
    return Recorded(cfg, build(cfg.task))


def score_saved(
    recorded: Recorded,
    data: PreparedData,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    scratch_dir: Path,
) -> HeldOutScores:
    """Score saved weights as their run would: with the same tokens, batches and precision."""
    cfg = recorded.cfg
    task = recorded.task.at_temperature(read_temperature(model.config))
    test = encode_rows(task, build(cfg.model.source), data.dataset).splits["test"]
    trainer = MeasuringTrainer(
        task=task,
        splits={"test": test},
        model=recorded.method.reopen(model),
        args=build_arguments(cfg, task, scratch_dir),
        processing_class=tokenizer,
        data_collator=task.build_collator(tokenizer, model),
    )
    return score_test(trainer, task, test, seed=cfg.seed)
