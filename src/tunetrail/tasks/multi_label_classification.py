"""Any number of labels for each text."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from datasets import ClassLabel, Dataset, DatasetDict, List
from matplotlib.figure import Figure
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunetrail.data import linear
from tunetrail.data.appearance import require_distinct
from tunetrail.data.columns import (
    canonical_split,
    code_labels,
    order_labels,
    require_columns,
    require_one_type,
    say_places,
)
from tunetrail.errors import InputError
from tunetrail.models.loading import Loader
from tunetrail.served.blank import is_blank
from tunetrail.served.text_classification import choose_labels, sigmoid, temper
from tunetrail.tasks.base import (
    MOST_CELLS,
    Array,
    Baseline,
    Collator,
    Decisions,
    Metric,
    one_loss_each,
)
from tunetrail.tasks.metrics.labels import score_labels
from tunetrail.tasks.metrics.multi_label import multi_label
from tunetrail.tasks.plots import plot_scores_by_label
from tunetrail.tasks.sequence_classification import (
    SequenceClassification,
    add_probabilities,
    begin_sequences,
    learn_words,
    name_columns,
    note_inputs,
    read_sequences,
    texts_for_words,
)
from tunetrail.tasks.strata import RarestLabel
from tunetrail.templates import caption

_NO_LABEL = "no label"
# The column of canonical rows: ``labels`` of encoded rows are those of the loss.
_OWN = "label_set"
# The labels of a row; None where nothing is said of them, which is not the same as none.
_Labels = list[str] | None


@dataclass(frozen=True)
class MultiLabelClassification(SequenceClassification):
    """Any number of labels for each text: the columns ``text`` and ``labels``, a list.

    Each label is a decision of its own: a sigmoid, and binary cross-entropy as the loss.

    Args:
        threshold: a label is predicted if its probability reaches it.

    """

    threshold: float

    metrics: ClassVar[Mapping[str, Metric]] = {
        "micro_f1": Metric(),
        "macro_f1": Metric(is_mean_of_labels=True),
        "exact_match": Metric(),
        "hamming_loss": Metric(greater_is_better=False),
    }
    columns: ClassVar[tuple[str, ...]] = ("text", "labels")

    def __post_init__(self) -> None:
        super().__post_init__()
        value = self.threshold
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            raise InputError(f"task.threshold={value}: must be a number between 0 and 1")

    def canonicalise(
        self, rows: DatasetDict, columns: Mapping[str, str], *, label_names: Sequence[Any] | None
    ) -> DatasetDict:
        column = columns["labels"]
        require_columns(rows, name_columns(columns, {"data.columns.labels": column}))
        texts = {split: read_sequences(part, columns, split=split) for split, part in rows.items()}
        labels = {split: _read_lists(part, column, split) for split, part in rows.items()}
        if label_names is None:
            require_one_type(rows, column, key="data.columns.labels")
        flat = {s: [label for found in part for label in found or ()] for s, part in labels.items()}
        if label_names is None and not isinstance(_inner(rows["train"], column), ClassLabel):
            every = (label for part in flat.values() for label in part)
            require_distinct(every, key=f"data.columns.labels={column}")
        names = order_labels(_inner(rows["train"], column), flat["train"], label_names)
        if len(names) < 2:
            raise InputError(
                f"data.columns.labels={column}: train has {', '.join(names) or 'no label'}, and "
                "two labels or more are needed; add rows, or name every one in data.label_names"
            )
        codes = code_labels(flat, names)
        for split, part in labels.items():
            _require_known(part, codes, names, split, column)
        # In the order of the codes: the same labels in another order are the same answer.
        coded = {
            split: [
                None if found is None else sorted(codes[one] for one in found) for found in part
            ]
            for split, part in labels.items()
        }
        named = {
            split: [None if found is None else [names[code] for code in found] for found in part]
            for split, part in coded.items()
        }
        strata = RarestLabel([row for row in named["train"] if row is not None], none=_NO_LABEL)
        return DatasetDict(
            {
                split: canonical_split(
                    part,
                    text=texts[split].text,
                    target=[None if found is None else _spell(found) for found in named[split]],
                    stratum=[None if found is None else strata(found) for found in named[split]],
                    strata=strata.feature,
                    answers=[found or [] for found in named[split]],
                    names=names,
                    own={
                        **texts[split].own,
                        _OWN: ([row or [] for row in coded[split]], List(ClassLabel(names=names))),
                    },
                )
                for split, part in rows.items()
            }
        )

    def require_learnable(self, train: Dataset) -> None:
        if len({tuple(labels) for labels in train[_OWN]}) < 2:
            raise InputError(
                "all rows of train have the same labels, and there is nothing to learn; raise "
                "data.num_train or set data.subset=stratified"
            )

    def list_targets(self, rows: Dataset) -> list[Any]:
        return list(rows[_OWN])

    def build_collator(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
    ) -> Collator:
        """Build batches with 1 for each label that a row has: rows themselves hold only these."""
        pad = super().build_collator(tokenizer, model)
        num_labels = len(model.config.id2label or {})

        def collate(features: list[dict[str, Any]]) -> dict[str, Any]:
            targets = torch.zeros(len(features), num_labels)
            for row, feature in zip(targets, features, strict=True):
                row[feature["labels"]] = 1
            inputs = [{k: v for k, v in row.items() if k != "labels"} for row in features]
            return {**pad(inputs), "labels": targets}

        return collate

    def load_model(
        self, load: Loader, tokenizer: PreTrainedTokenizerBase, train: Dataset
    ) -> PreTrainedModel:
        model = load(
            AutoModelForSequenceClassification,
            label_names=_names(train),
            pad_token_id=int(tokenizer.pad_token_id),
            problem_type="multi_label_classification",
        )
        model.config.threshold = float(self.threshold)
        return note_inputs(model, train)

    def losses(
        self, batch: Mapping[str, torch.Tensor], outputs: Any, kept: torch.Tensor
    ) -> torch.Tensor:
        del outputs
        losses = binary_cross_entropy_with_logits(kept.float(), batch["labels"], reduction="none")
        return one_loss_each(losses.mean(dim=1))

    def statistics(self, rows: Dataset, encoded: Dataset, outputs: Array) -> Array:
        predicted = np.empty((len(rows), len(_names(rows))), dtype=np.int8)
        predicted[encoded["index"]] = sigmoid(outputs) >= self.threshold
        return multi_label.statistics(_targets(rows), predicted)

    def score(self, sums: Array) -> dict[str, Array]:
        return multi_label.score(sums)

    def break_down(self, rows: Dataset, sums: Array) -> pd.DataFrame:
        return score_labels(_names(rows), *multi_label.split(sums), count="rows")

    def tabulate(self, rows: Dataset, encoded: Dataset, outputs: Array) -> pd.DataFrame:
        """Return one line a text, with probability_<label> beside what is predicted."""
        names = _names(rows)
        probabilities = np.empty((len(rows), len(names)))
        probabilities[encoded["index"]] = sigmoid(outputs / self.temperature)
        frame = begin_sequences(rows)
        frame["prediction"] = [_spell(self._choose(row, names)) for row in probabilities]
        frame = add_probabilities(frame, probabilities, names)
        return frame.sort_values("row", ignore_index=True)

    def decisions(self, rows: Dataset, encoded: Dataset, outputs: Array) -> Decisions | None:
        """Take each label of each text for a decision between no and yes."""
        logits = np.empty_like(outputs)
        logits[encoded["index"]] = outputs
        pairs = np.stack([np.zeros_like(logits), logits], axis=-1)
        return Decisions.of_rows(pairs, _targets(rows).astype(int), decided="labels of rows")

    def answers(self, table: pd.DataFrame) -> pd.DataFrame:
        names, probabilities = _read_probabilities(table)
        if not names:
            return table[["prediction"]].set_axis(["labels"], axis=1)
        labels = [self._choose(row, names) for row in probabilities]
        return pd.DataFrame(
            {
                "labels": [json.dumps(row, ensure_ascii=False) for row in labels],
                "score": probabilities.max(axis=1),
            }
        )

    def baselines(self, train: Dataset, rows: Dataset) -> Iterator[Baseline]:
        """Predict the most frequent set of labels of ``train``, none, by shares, by words alone.

        The random baseline counts as it would on average, each label by itself; with very many
        labels it is left out.
        """
        names, targets = _names(rows), _targets(rows)
        (usual, _), *_ = Counter(tuple(found) for found in train[_OWN] if found).most_common(1)
        learnt = _targets(train)
        always = np.isin(np.arange(len(names)), usual).astype(np.int8)
        spelt = caption(_spell([names[code] for code in usual]))

        def count(key: str, name: str, row: Array) -> Baseline:
            predicted = np.broadcast_to(row, targets.shape)
            return Baseline(key, name, multi_label.statistics(targets, predicted))

        yield count("majority", f"the most frequent labels ({spelt})", always)
        yield count("none", "no label at all", np.zeros(len(names), dtype=np.int8))
        if targets.size <= MOST_CELLS:
            yield count("chance", "chance by the labels' shares", learnt.mean(axis=0))
        texts = texts_for_words(train)

        def learn() -> Array:
            others = texts_for_words(rows)
            predicted = linear.fit_predict_sets(texts, learnt, others, threshold=self.threshold)
            return multi_label.statistics(targets, predicted)

        chosen = linear.choose_rows(texts, num_labels=len(names), of_sets=True)
        yield learn_words(learn, chosen, len(texts))

    def plot(
        self, rows: Dataset, table: pd.DataFrame, by_label: pd.DataFrame, *, split: str
    ) -> dict[str, Figure]:
        del rows, table
        return {"scores_by_label": plot_scores_by_label(by_label, count="rows", split=split)}

    def limits(self) -> list[str]:
        how = (
            f"Each label is decided by itself, at a probability of {self.threshold:g}: a text may "
            "get none, and labels that exclude each other may both be given."
        )
        return [*super().limits(), how]

    def _choose(self, probabilities: Array, names: Sequence[str]) -> list[str]:
        threshold = temper(self.threshold, self.temperature)
        return choose_labels(probabilities, names, threshold=threshold)


def _names(rows: Dataset) -> list[str]:
    names: list[str] = rows.features[_OWN].feature.names
    return names


def _targets(rows: Dataset) -> Array:
    """Return 1 for each label that a row has, else 0; shape (rows, labels)."""
    targets = np.zeros((len(rows), len(_names(rows))), dtype=np.int8)
    for row, codes in zip(targets, rows[_OWN], strict=True):
        row[codes] = 1
    return targets


def _spell(labels: Sequence[str]) -> str:
    return ", ".join(labels)


def _read_probabilities(table: pd.DataFrame) -> tuple[list[str], Array]:
    columns = [name for name in table if str(name).startswith("probability_")]
    names = [str(name).removeprefix("probability_") for name in columns]
    return names, table[columns].to_numpy()


def _inner(part: Dataset, column: str) -> object:
    return getattr(part.features[column], "feature", None)


def _read_lists(part: Dataset, column: str, split: str) -> list[_Labels]:
    feature, rows = _inner(part, column), part[column][:]
    spell = feature.names.__getitem__ if isinstance(feature, ClassLabel) else str
    for number, labels in enumerate(rows):
        where = f"data.columns.labels={column}: {split} row {number}"
        if labels is None:
            continue
        if not isinstance(labels, list):
            raise InputError(
                f"{where} holds {labels!r} and no list of labels; write a list, or for texts with "
                "several labels in them set data.label_separator"
            )
        for label in labels:
            if not isinstance(label, str | int) or is_blank(str(label)):
                what = "an empty name" if label is None or is_blank(str(label)) else repr(label)
                raise InputError(
                    f"{where} has {what} among its labels; labels must be text or whole numbers"
                )
        if len(set(labels)) < len(labels):
            raise InputError(f"{where} names a label twice: {labels}; fix the row")
    return [None if labels is None else [spell(label) for label in labels] for labels in rows]


def _require_known(
    rows: Sequence[_Labels], codes: Mapping[str, int], names: list[str], split: str, column: str
) -> None:
    for number, labels in enumerate(rows):
        for label in labels or ():
            if label not in codes:
                raise InputError(
                    f"data.columns.labels={column}: {split} row {number} has the label {label!r}, "
                    f"which is not among those of train ({', '.join(names[:10])}"
                    f"{say_places(codes, names)}); fix the row, "
                    "or name every label in data.label_names"
                )
