"""What a task must offer: one file in ``tasks/``, one in ``served/``, one YAML."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from matplotlib.figure import Figure
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunetrail.models.loading import Kind, Loader

Collator = Callable[[list[dict[str, Any]]], dict[str, Any]]
Array = npt.NDArray[Any]
# Rows with a model's inputs. One with a method ``set_epoch`` is told the number of each epoch.
TrainingRows: TypeAlias = Dataset | torch.utils.data.Dataset[dict[str, Any]]


@dataclass(frozen=True)
class Metric:
    """What code that compares values of a metric must know.

    ``is_share``: the metric lies in [0, 1]. ``is_mean_of_labels``: each label counts as much as any
    other, also one that no row has.
    """

    greater_is_better: bool = True
    is_share: bool = True
    is_mean_of_labels: bool = False

    @property
    def sign(self) -> int:
        """Return 1 where more is better, else -1: what turns a difference into a gain."""
        return 1 if self.greater_is_better else -1


@dataclass(frozen=True)
class Baseline:
    """What a simple rule, or a simple model, makes of the rows of a split.

    Args:
        key: its metric is ``baselines/KEY``.
        name: as it stands in a sentence.
        statistics: of the rows, as :meth:`Task.statistics` gives them; None where it was left out.
        note: why it was left out, or of which rows it has learnt.

    """

    key: str
    name: str
    statistics: Array | None
    note: str = ""


# Column of encoded rows, if a task has it: how many tokens of the row truncation has cut off.
NUM_CUT = "num_cut"
# Numbers for each row and label beside the outputs of the model: probabilities in a table, what
# each row adds to the sums of a baseline. More are left out: as float64 these take 40 MB.
MOST_CELLS = 5_000_000

# Logits of decisions that calibration looks at: 4 MB.
_MOST_LOGITS = 500_000

# Trainer measures the loss for every task.
LOSS = Metric(greater_is_better=False, is_share=False)


@dataclass(frozen=True)
class Decisions:
    """What a classifier decides in the rows of a split, and what is right.

    Args:
        logits: of what may be chosen in each decision, shape (decisions, choices).
        targets: the right choice of each, shape (decisions,). Each row has as many decisions, and
            those of a row follow each other.
        num_rows: of the split.
        decided: what a decision is about, in words, such as "rows".

    """

    logits: Array
    targets: Array
    num_rows: int
    decided: str

    @classmethod
    def of_rows(cls, logits: Array, targets: Array, *, decided: str) -> Self:
        """Take what rows give, of very many rows a part that is spread over all of them.

        Args:
            logits: shape (rows, …, choices).
            targets: shape (rows, …).

        """
        most = max(_MOST_LOGITS // math.prod(logits.shape[1:]), 1)
        places = np.unique(np.linspace(0, len(logits) - 1, min(most, len(logits))).astype(int))
        logits, targets = logits[places], targets[places]
        return cls(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), len(places), decided)

    def row_of_decision(self) -> Array:
        """Return the number of the row of each decision, shape (decisions,)."""
        return np.arange(len(self.targets)) // (len(self.targets) // self.num_rows)


class Task(Protocol):
    """One kind of task: how rows become inputs of a model, and its outputs become scores.

    A task is a frozen dataclass: equal tasks do the same with the same rows.

    Every metric of a task is a function of sums of what each row adds. So a task gives these
    **statistics** of a row and the **score** of their sums; Trainer's metrics, intervals, paired
    tests, baselines and the noise of a gap follow from the two, once for all tasks.

    Everywhere ``rows`` is a split of canonical rows in their order; ``encoded`` is what
    :meth:`encode` made of them, in the order in which the model read it. Its column ``index`` says
    to which row each part belongs.
    """

    # The hub's word for it, which names the module in ``served/`` that answers.
    pipeline_tag: ClassVar[str]
    # Known before data and model, the most important first.
    metrics: ClassVar[Mapping[str, Metric]]
    main_metric: str
    # The roles that a person assigns columns to: ("text", "label").
    columns: ClassVar[tuple[str, ...]]
    # The model has the head of a language model. So it answers before it is tuned, and is measured
    # at step 0, too; and it scores a whole vocabulary for each token, so that no more rows are
    # evaluated at once than are trained at once.
    is_language_model: ClassVar[bool]
    # What it says has a probability that a temperature can change.
    says_probabilities: ClassVar[bool]
    # Kind of architecture that the task makes no sense for -> why, and what would work.
    unsuited: ClassVar[Mapping[Kind, str]]

    def __hash__(self) -> int:
        """Agree with equality, as a frozen dataclass does."""

    def canonicalise(
        self, rows: DatasetDict, columns: Mapping[str, str], *, label_names: Sequence[Any] | None
    ) -> DatasetDict:
        """Reduce every split to the task's own columns, and to six that all tasks share.

        These are ``row`` (int64, the row's number in its source, from 0), ``text`` (string, the
        input as a person reads it), ``target`` (string or null, the right answer), ``stratum``
        (ClassLabel or null; each split gets its share of every stratum), ``answers`` (a list of
        ClassLabel, the labels in the answer) and ``group`` (string or null; rows of a group stay
        in one split). A task without labels has no values in target, stratum and answers, and
        the first two are of type null.

        Raises:
            InputError: a column is missing or holds something else.

        """

    def require_learnable(self, train: Dataset) -> None:
        """Check that a model can learn something from the rows of train.

        Raises:
            InputError: it cannot.

        """

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """Turn rows into the model's inputs and ``index``; one row may become several.

        It may change settings of the tokenizer, which nothing else uses.
        """

    def training_rows(
        self, rows: Dataset, encoded: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> TrainingRows:
        """Return what the model is trained on: ``encoded``, unless that is only for measuring.

        Args:
            rows: of train.
            encoded: what :meth:`encode` made of them.
            tokenizer: the same one.

        """

    def load_model(
        self, load: Loader, tokenizer: PreTrainedTokenizerBase, train: Dataset
    ) -> PreTrainedModel:
        """Load the model with a head for the rows of ``train``."""

    def build_collator(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
    ) -> Collator:
        """Build the function that makes a batch of encoded rows."""

    def predict(self, model: Any, batch: Mapping[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Return the part of the outputs that is kept, shape (batch, …), on its device.

        It is kept for all rows of a split, so it must not be logits over a whole vocabulary.
        """

    def losses(
        self, batch: Mapping[str, torch.Tensor], outputs: Any, kept: torch.Tensor
    ) -> torch.Tensor:
        """Return of each input of a batch the sum of its losses and of how many, shape (batch, 2).

        The noise of the loss comes from it.

        Args:
            batch: with labels.
            outputs: of the model.
            kept: what :meth:`predict` keeps of them.

        """

    def complete(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        rows: Dataset,
        encoded: Dataset,
        outputs: Array,
    ) -> Array | None:
        """Add to the outputs of a split what no forward pass gives, such as generated texts.

        Called after each pass over a split, with the model in evaluation mode. None: there is
        nothing to add, and the outputs are what :meth:`predict` kept.
        """

    def statistics(self, rows: Dataset, encoded: Dataset, outputs: Array) -> Array:
        """Return what each row adds to the sums, shape (rows, statistics).

        Args:
            outputs: what :meth:`predict` kept of ``encoded``, shorter ones padded with -100; or
                what :meth:`complete` made of it.

        """

    def score(self, sums: Array) -> dict[str, Array]:
        """Turn sums of statistics, shape (…, statistics), into metrics of shape (…).

        ``loss`` among them replaces the mean loss of the batches: where batches count differently
        many tokens, that is not the mean over all tokens.
        """

    def break_down(self, rows: Dataset, sums: Array) -> pd.DataFrame:
        """Score each label by itself, one line a label; may be empty."""

    def tabulate(self, rows: Dataset, encoded: Dataset, outputs: Array) -> pd.DataFrame:
        """Return one line a row: row, text, target, and what the model says; sorted by ``row``.

        A model card says how sure the model is on average if there is a column ``confidence``: the
        probability of what it says, from 0 to 1.
        """

    def decisions(self, rows: Dataset, encoded: Dataset, outputs: Array) -> Decisions | None:
        """Return the logits behind the probabilities of the rows; None if it says none."""

    def at_temperature(self, temperature: float) -> Self:
        """Return the task whose probabilities are of logits divided by this number.

        What is said stays the same; how sure it is changes, in tables and in the served model.
        """

    def sample(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, rows: Dataset
    ) -> pd.DataFrame | None:
        """Show what the model makes of a few rows, one line each; None if there is nothing to show.

        Called at each evaluation, with the model in evaluation mode. It draws no random number, so
        that a run with samples gives the same weights as one without.

        Args:
            model: as it is trained.
            tokenizer: of the model, a copy.
            rows: of validation, all of them.

        """

    def inputs(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return what a served model reads for the rows of a :meth:`tabulate`, a column each."""

    def answers(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return what a served model should answer for the rows of a :meth:`tabulate`."""

    def baselines(self, train: Dataset, rows: Dataset) -> Iterator[Baseline]:
        """Yield what simple baselines make of ``rows``; may yield none.

        The first is the cheapest; further ones may take seconds, and are computed when they are
        asked for. None draws from a global generator of random numbers.
        """

    def confusions(self, table: pd.DataFrame) -> pd.DataFrame:
        """Count what is taken for what in the rows of a :meth:`tabulate`, the most first.

        Columns are ``target``, ``prediction``, how often, and ``share`` of the target's; right ones
        are left out. It may be empty.
        """

    def plot(
        self, rows: Dataset, table: pd.DataFrame, by_label: pd.DataFrame, *, split: str
    ) -> dict[str, Figure]:
        """Draw the errors of the model; keys are file names. A figure has a limited size.

        Args:
            rows: of the split.
            table: of :meth:`tabulate`.
            by_label: of :meth:`break_down`.
            split: named in titles.

        """

    def limits(self) -> list[str]:
        """Return sentences for the model card: what no model of this task can do."""

    def serving_config(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Return the settings with which the module in ``served/`` answers as in training."""


def begin_table(rows: Dataset) -> pd.DataFrame:
    """Begin the table of :meth:`Task.tabulate` with what the rows themselves say."""
    return pd.DataFrame({name: rows[name] for name in ("row", "text", "target")})


def length_for(tokenizer: PreTrainedTokenizerBase, max_length: int) -> int:
    """Return ``max_length``, or the model's own limit if that is less."""
    return min(max_length, tokenizer.model_max_length)


def one_loss_each(losses: torch.Tensor) -> torch.Tensor:
    """Return :meth:`Task.losses` of inputs that have one loss each, shape (batch,)."""
    return torch.stack([losses, torch.ones_like(losses)], dim=1)


def sum_losses(losses: torch.Tensor, *, counted: torch.Tensor) -> torch.Tensor:
    """Return :meth:`Task.losses` of inputs with losses of tokens, shape (batch, tokens)."""
    return torch.stack([torch.where(counted, losses, 0).sum(dim=1), counted.sum(dim=1)], dim=1)


class OnePass:
    """For tasks of which a forward pass gives all that is measured, on any architecture."""

    unsuited: ClassVar[Mapping[Kind, str]] = {}
    says_probabilities: ClassVar[bool] = False

    def decisions(self, rows: Dataset, encoded: Dataset, outputs: Array) -> Decisions | None:
        del rows, encoded, outputs
        return None

    def at_temperature(self, temperature: float) -> Self:
        del temperature
        return self

    def complete(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        rows: Dataset,
        encoded: Dataset,
        outputs: Array,
    ) -> Array | None:
        del model, tokenizer, rows, encoded, outputs
        return None

    def confusions(self, table: pd.DataFrame) -> pd.DataFrame:
        del table
        return pd.DataFrame()


class TrainedAsMeasured(OnePass):
    """For tasks that train on the same inputs that they measure, and have no samples to show."""

    is_language_model: ClassVar[bool] = False

    def training_rows(
        self, rows: Dataset, encoded: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> TrainingRows:
        del rows, tokenizer
        return encoded

    def sample(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, rows: Dataset
    ) -> pd.DataFrame | None:
        del model, tokenizer, rows
        return None

    def inputs(self, table: pd.DataFrame) -> pd.DataFrame:
        return table[["text"]]


def order_metrics(task: Task) -> list[str]:
    """List the metrics of a task, the main one first: where there is little room, two are shown."""
    return sorted(task.metrics, key=lambda name: name != task.main_metric)
