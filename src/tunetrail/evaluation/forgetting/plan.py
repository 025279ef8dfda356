"""What is measured of a run, decided before its weights are loaded, so that faults show then."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from tunetrail.config.arguments import require_count
from tunetrail.data.sources import SourceFile
from tunetrail.errors import InputError
from tunetrail.evaluation.forgetting.measures import (
    HeadPerplexity,
    MaskedPerplexity,
    Measure,
    OwnPerplexity,
    Probe,
    Window,
)
from tunetrail.evaluation.forgetting.references import Reference
from tunetrail.models.loading import Kind
from tunetrail.tasks.base import Task

# A tokenizer that knows less of a text does not read its language.
_MOST_UNKNOWN = 0.5
# The beginning of a text, by which it is found among those of train.
_BEGINNING = 200
# Shares of a reference of which the largest is measured that a training is long enough for. Few of
# them, so that the trials of a study are measured on the same texts.
_PARTS = (1, 1 / 2, 1 / 4, 1 / 8)


@dataclass(frozen=True)
class Forgetting:
    """On which texts forgetting is measured, and on how many.

    Args:
        text: reads the reference of language heads.
        probe: reads the reference of probes, with labels.
        most_tokens: of a reference.
        share: of the computation of the training that is used for it at most.

    """

    text: Callable[[], Reference]
    probe: Callable[[], Reference]
    most_tokens: int
    share: float

    def __post_init__(self) -> None:
        """Check what a person may have set."""
        require_count("forgetting.most_tokens", self.most_tokens)
        if isinstance(self.share, bool) or not 0 < self.share <= 1:
            raise InputError(f"forgetting.share={self.share}: must be a number above 0, at most 1")

    def plan(
        self,
        task: Task,
        kind: Kind,
        tokenizer: PreTrainedTokenizerBase,
        train: Dataset,
        *,
        is_required: bool,
    ) -> "Plan":
        """Choose what suits the model, and encode its reference.

        Args:
            task: of the run.
            kind: of the checkpoint.
            tokenizer: of the model.
            train: canonical rows; texts of the reference that are among them are left out.
            is_required: whether the study's objectives or constraints need it.

        Raises:
            InputError: a reference that a person has named cannot be used, or there is none and
                one is required.

        """
        measures: list[tuple[Measure, Callable[[], Reference]]] = [(Probe(), self.probe)]
        if kind == "decoder":
            own = OwnPerplexity() if task.is_language_model else HeadPerplexity()
            measures.insert(0, (own, self.text))
        elif kind == "encoder" and task.is_language_model:
            measures.insert(0, (MaskedPerplexity(), self.text))
        known = _list_beginnings(train)
        usable, reasons = [], []
        for measure, read in measures:
            reference = read()
            part = _encode(measure, reference, tokenizer, known, most_tokens=self.most_tokens)
            if isinstance(part, Part):
                usable.append(part)
                continue
            if reference.key is not None:
                raise InputError(f"{reference.key}: {part}; name another file")
            reasons.append(f"{reference.name}: {part}")
        if is_required and not usable:
            raise InputError(
                f"forgetting/forgotten is an objective or a constraint, and {reasons[0]}; name "
                "texts with forgetting=text forgetting.text.path=PATH"
            )
        return Plan(tuple(usable), "; ".join(reasons), self.share, is_required)


@dataclass(frozen=True)
class Part:
    """A measure with its inputs, in an order in which the first ones stand for all.

    ``windows`` name their texts by ``index``; ``num_left_out`` texts are in train.
    """

    measure: Measure
    reference: Reference
    windows: Sequence[Window]
    num_left_out: int

    @property
    def num_tokens(self) -> int:
        return sum(len(window["input_ids"]) for window in self.windows)

    def fingerprint(self) -> str:
        """Return a digest of the inputs and of what is measured of them."""
        content = repr([(window["input_ids"], window["labels"]) for window in self.windows])
        return hashlib.sha256(f"{self.measure.name} {content}".encode()).hexdigest()

    def fit(self, num_tokens: float, *, at_least: bool) -> "Part | None":
        """Take as many of the texts as so many tokens allow; None if chance would decide.

        Args:
            num_tokens: that may be read.
            at_least: take as few as make sense rather than none.

        """
        fewest = self.measure.fewest_rows
        for part in _PARTS:
            number = int(len(self.windows) * part)
            found = replace(self, windows=self.windows[:number])
            if number >= fewest and found.num_tokens <= num_tokens:
                return found
        return replace(self, windows=self.windows[:fewest]) if at_least else None


@dataclass(frozen=True)
class Plan:
    """What can be measured, the best first; ``reason`` says why there is no more."""

    parts: Sequence[Part]
    reason: str
    share: float
    is_required: bool

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The files that were read."""
        return tuple(file for part in self.parts for file in part.reference.files)


def _encode(
    measure: Measure,
    reference: Reference,
    tokenizer: PreTrainedTokenizerBase,
    known: set[str],
    *,
    most_tokens: int,
) -> Part | str:
    """Encode a reference; a text says why it cannot be used."""
    kept = [i for i, text in enumerate(reference.texts) if _begin(text) not in known]
    left_out = len(reference.texts) - len(kept)
    fewest = measure.fewest_rows
    # Enough for the fewest tokens that a text has; a long reference need not be encoded whole.
    kept = kept[: max(most_tokens // 4, fewest)]
    chosen = replace(
        reference,
        texts=[reference.texts[i] for i in kept],
        labels=[reference.labels[i] for i in kept] if reference.labels else (),
    )
    try:
        windows = measure.encode(chosen, tokenizer)
    except ValueError as error:
        return str(error)
    # A probe masks nothing, and what is masked stands among the labels.
    ids = [id_ for window in windows for id_ in window["input_ids"]]
    unknown = tokenizer.unk_token_id
    of_frame = {*tokenizer.all_special_ids} - {unknown}
    ordinary = [id_ for id_ in ids if id_ not in of_frame]
    share = sum(id_ == unknown for id_ in ordinary) / max(len(ordinary), 1)
    if windows and share > _MOST_UNKNOWN:
        return (
            f"the model's tokenizer does not read its language: {share:.0%} of its tokens are "
            f"{tokenizer.unk_token}"
        )
    ends = accumulate(len(window["input_ids"]) for window in windows)
    windows = [w for w, end in zip(windows, ends, strict=True) if end <= most_tokens]
    if len(windows) < fewest:
        also = f", {left_out} more are in train" if left_out else ""
        return f"{len(windows)} different texts with tokens{also}, and {fewest} are needed"
    return Part(measure, chosen, windows, left_out)


def _list_beginnings(train: Dataset) -> set[str]:
    """Return the beginnings of all texts that are trained on."""
    return {
        _begin(text)
        for column in ("text", "target")
        for batch in train.select_columns([column]).iter(10_000)
        for text in batch[column]
        if text is not None
    }


def _begin(text: str) -> str:
    return " ".join(text[: 2 * _BEGINNING].casefold().split())[:_BEGINNING]
