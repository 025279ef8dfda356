"""Encode rows into the model's inputs, once for all trials of a process."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict

from tunetrail.config.paths import stamp_files
from tunetrail.config.progress import report_progress
from tunetrail.data.quality.lengths import TokenLengths, measure_tokens
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.tokenizers import load_tokenizer, require_known
from tunetrail.tasks.base import NUM_CUT, Task, TrainingRows


@dataclass(frozen=True)
class Split:
    """Canonical ``rows``, and ``encoded``, the model's inputs; its ``index`` names the row of each.

    All runs of a process share both: never set a format or a transform on them.
    """

    rows: Dataset
    encoded: Dataset

    def measure_tokens(self) -> TokenLengths:
        """Measure how long the rows are in tokens, and what of them is cut."""
        columns = self.encoded.with_format("arrow")[:]
        if "attention_mask" in columns.column_names:
            read = [sum(mask) for mask in columns["attention_mask"].to_pylist()]
        else:
            read = pc.list_value_length(columns["input_ids"]).to_pylist()
        is_cut = NUM_CUT in columns.column_names
        return measure_tokens(
            columns["index"].to_numpy(),
            np.asarray(read),
            columns[NUM_CUT].to_numpy() if is_cut else np.zeros(len(read), dtype=int),
            num_rows=len(self.rows),
        )

    @property
    def num_tokens(self) -> int:
        """How many tokens a model reads of it."""
        lengths = pc.list_value_length(self.encoded.with_format("arrow")[:]["input_ids"])
        return int(pc.sum(lengths).as_py() or 0)

    def sample(self, num_rows: int, *, seed: int) -> "Split":
        """Take rows at random, in random order."""
        order = np.random.default_rng(seed).permutation(len(self.rows))
        return self.take(order[:num_rows])

    def by_length(self) -> "Split":
        """Sort the inputs, longest first: little padding, and too little memory shows at once."""
        lengths = [len(ids) for ids in self.encoded["input_ids"]]
        order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
        return Split(self.rows, self.encoded.select(order))

    def take(self, rows: Iterable[int]) -> "Split":
        """Take rows by their places, in this order."""
        chosen = [int(index) for index in rows]
        places: dict[int, list[int]] = {}
        for place, index in enumerate(self.encoded["index"]):
            places.setdefault(index, []).append(place)
        kept = [(new, place) for new, old in enumerate(chosen) for place in places.get(old, ())]
        encoded = self.encoded.select([place for _, place in kept]).remove_columns("index")
        encoded = encoded.add_column("index", [new for new, _ in kept])
        return Split(self.rows.select(chosen), encoded)


@dataclass(frozen=True)
class Encoded:
    """The splits as they are measured, and what is trained on."""

    splits: Mapping[str, Split]
    training: TrainingRows

    def measure_tokens(self) -> dict[str, TokenLengths]:
        """Measure how long the rows of each split are in tokens."""
        return {name: split.measure_tokens() for name, split in self.splits.items()}


def encode_rows(task: Task, checkpoint: Checkpoint, dataset: DatasetDict) -> Encoded:
    """Encode all splits, or take from memory those whose rows, task and tokenizer are the same.

    Train stays in the order of its rows; the other splits are longest first, as they are evaluated.
    """
    report_progress("encodes rows")
    # A tokenizer's files have many names. On the hub a revision stands for them.
    folder = Path(checkpoint.tokenizer)
    files = stamp_files(sorted(path for path in folder.glob("*") if path.is_file()))
    sources = {
        # datasets has no public name for the hash of a split's content.
        name: _Source((task, checkpoint, files, rows._fingerprint), rows, name)  # noqa: SLF001
        for name, rows in dataset.items()
    }
    splits = {name: Split(source.rows, _encode(source)) for name, source in sources.items()}
    return Encoded(
        {name: split if name == "train" else split.by_length() for name, split in splits.items()},
        _build_training_rows(sources["train"]),
    )


@dataclass(frozen=True)
class _Source:
    """A key of the cache that carries its rows; equal if the keys are equal."""

    key: tuple[Task, Checkpoint, object, str]
    rows: Dataset = field(compare=False)
    split: str = field(compare=False)


# Train, validation and test of a few settings: a search over task.max_length, the model or the rows
# of train uses them again and again.
@lru_cache(maxsize=12)
def _encode(source: _Source) -> Dataset:
    task, checkpoint, *_ = source.key
    # Truncation leaves settings in a tokenizer, and save_pretrained would write them. So this one
    # only encodes, and the run has another.
    tokenizer = load_tokenizer(checkpoint)
    encoded = task.encode(source.rows, tokenizer)
    ids = pc.list_flatten(encoded.with_format("arrow")[:]["input_ids"]).to_numpy()
    require_known(ids, tokenizer, split=source.split)
    return encoded


# The blocks of a language model, for a few settings.
@lru_cache(maxsize=4)
def _build_training_rows(source: _Source) -> TrainingRows:
    task, checkpoint, *_ = source.key
    return task.training_rows(source.rows, _encode(source), load_tokenizer(checkpoint))
