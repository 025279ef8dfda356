"""What a task must offer to the pipeline."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from datasets import Dataset
from matplotlib.figure import Figure
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import Weights


@dataclass(frozen=True)
class Baseline:
    """What one would score without having learnt anything but the labels' shares."""

    name: str
    metrics: dict[str, float]


class Task(Protocol):
    """One kind of learning: how rows become features, and outputs become scores."""

    main_metric: str
    # What row_scores is called.
    row_metric: str
    # What build_metrics will compute, known before there are data or a model.
    metric_names: tuple[str, ...]
    summary_metrics: tuple[str, ...]
    pipeline_name: str

    def tokenise(self, dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """Add the model's inputs as columns; ``labels`` holds the target.

        May leave settings in the tokenizer: it is handed one of its own.
        """

    def length_for(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """Return after how many tokens a text is cut."""

    def load_model(
        self,
        checkpoint: Checkpoint,
        tokenizer: PreTrainedTokenizerBase,
        dataset: Dataset,
        *,
        weights: Weights | None,
    ) -> PreTrainedModel:
        """Load the model with a head for the labels of ``dataset``.

        ``weights`` are the checkpoint's, read before, and must not be changed; None reads them.
        """

    def build_collator(
        self, tokenizer: PreTrainedTokenizerBase
    ) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Build what makes a batch of rows."""

    def build_metrics(self, dataset: Dataset) -> Callable[[EvalPrediction], dict[str, float]]:
        """Build what Trainer calls on the outputs of an evaluation."""

    def measure_baseline(self, train: Dataset, validation: Dataset) -> Baseline:
        """Score the majority class of ``train`` on ``validation``."""

    def predictions(self, dataset: Dataset, logits: np.ndarray) -> pd.DataFrame:
        """Lay the outputs beside the rows they belong to."""

    def example(self, dataset: Dataset) -> list[str]:
        """Take two inputs that show how a model of this task is called."""

    def row_scores(self, predictions: pd.DataFrame) -> np.ndarray:
        """Score each row of a table of :meth:`predictions`, more is better."""

    def baseline_scores(self, train: Dataset, predictions: pd.DataFrame) -> dict[str, np.ndarray]:
        """Score the same rows as :meth:`row_scores` would if something simple had answered.

        Keys name the baselines, as a sentence can hold them.
        """

    def resample_metrics(
        self, dataset: Dataset, logits: np.ndarray, *, num_resamples: int, seed: int
    ) -> dict[str, np.ndarray]:
        """Compute every metric on resamples of the rows, drawn with replacement."""

    def plot_predictions(
        self, dataset: Dataset, logits: np.ndarray, *, split: str
    ) -> dict[str, Figure]:
        """Draw what helps to see where the model errs; keys are file names."""
