"""Answers that are spans of a context: extractive question answering."""

import copy
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from datasets import ClassLabel, Dataset, DatasetDict, List, Value
from matplotlib.figure import Figure
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForQuestionAnswering,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunetrail.config.arguments import require_count
from tunetrail.data.columns import canonical_split, count_of, read_texts, require_columns
from tunetrail.errors import InputError
from tunetrail.models.loading import Loader
from tunetrail.served.blank import is_blank
from tunetrail.served.question_answering import Answer, encode_windows, find_answer, stack_logits
from tunetrail.tasks.base import (
    Array,
    Baseline,
    Collator,
    Metric,
    TrainedAsMeasured,
    begin_table,
    length_for,
    one_loss_each,
)
from tunetrail.tasks.metrics.squad import squad
from tunetrail.tasks.plots import plot_scores_by_group

log = logging.getLogger(__name__)

# Between question and context, and between right answers, where a person reads them.
_BETWEEN = " | "
_GROUPS = ("answer", "no answer")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
# Answers of train that a baseline looks for in each context, and in how many of its characters.
_NUM_USUAL, _MOST_READ = 200, 20_000


@dataclass(frozen=True)
class QuestionAnswering(TrainedAsMeasured):
    """A span of a context for each question: the columns ``question``, ``context``, ``answers``.

    ``answers`` is SQuAD's: ``{"text": [...], "answer_start": [...]}``, the right answers and the
    characters at which they start in the context.

    Args:
        max_length: in tokens, of a question with its context; a longer context is read in windows
            that overlap by a quarter, none is cut.
        max_answer_tokens: of a span that the model gives.
        unanswerable: rows may have no answer, and the model may say that there is none.
        main_metric: chooses the best weights; shown beside the loss on curves and in the summary.

    """

    max_length: int
    max_answer_tokens: int
    unanswerable: bool
    main_metric: str

    pipeline_tag: ClassVar[str] = "question-answering"
    metrics: ClassVar[Mapping[str, Metric]] = {"f1": Metric(), "exact_match": Metric()}
    columns: ClassVar[tuple[str, ...]] = ("question", "context", "answers")

    def __post_init__(self) -> None:
        require_count("task.max_length", self.max_length)
        require_count("task.max_answer_tokens", self.max_answer_tokens)
        if not isinstance(self.unanswerable, bool):
            raise InputError(f"task.unanswerable={self.unanswerable}: must be true or false")

    def canonicalise(
        self, rows: DatasetDict, columns: Mapping[str, str], *, label_names: Sequence[Any] | None
    ) -> DatasetDict:
        del label_names
        keys = {f"data.columns.{role}": columns[role] for role in self.columns}
        require_columns(rows, keys)
        return DatasetDict(
            {split: _canonicalise(part, columns, split) for split, part in rows.items()}
        )

    def require_learnable(self, train: Dataset) -> None:
        if not any(train["answer_texts"]):
            raise InputError(
                "no row of train has an answer, and there is nothing to learn; raise "
                "data.num_train or set data.subset=stratified"
            )

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        length, num_long = length_for(tokenizer, self.max_length), 0

        def encode(batch: dict[str, list[Any]], index: list[int]) -> dict[str, list[Any]]:
            nonlocal num_long
            try:
                windows = encode_windows(
                    batch["question"], batch["context"], tokenizer, max_length=length
                )
            except ValueError as error:
                raise InputError(f"task.max_length={self.max_length}: {error}") from error
            of_rows: list[list[dict[str, Any]]] = [[] for _ in index]
            for window in windows:
                of_rows[window["index"]].append(window)
            columns = defaultdict(list)
            for place, found in enumerate(of_rows):
                row = {name: values[place] for name, values in batch.items()}
                spans = [_Span.of(row, number) for number in range(len(row["answer_texts"]))]
                self._require_readable(row, spans, found)
                num_long += self._mark(found, spans)
                for window in found:
                    for name, value in {**window, "index": index[place]}.items():
                        columns[name].append(value)
            return dict(columns)

        encoded = rows.map(
            encode, batched=True, with_indices=True, remove_columns=rows.column_names
        )
        if num_long:
            log.warning(
                "%s of %s have more than task.max_answer_tokens=%d tokens: the model cannot give "
                "them whole", count_of(num_long, "answer"), f"{len(rows):,}",
                self.max_answer_tokens,
            )  # fmt: skip
        return encoded

    def _require_readable(
        self, row: Mapping[str, Any], spans: Sequence["_Span"], windows: Sequence[Mapping[str, Any]]
    ) -> None:
        where = f"row {row['row']} ({row['question'][:60]!r})"
        if not spans and not self.unanswerable:
            raise InputError(
                f"{where} has no answer; drop such rows, or set task.unanswerable=true for a model "
                "that may say so"
            )
        if not windows:
            raise InputError(
                f"{where}: its question or its context has no token, or the question more than "
                f"half of task.max_length={self.max_length}; fix the row, or raise it"
            )
        if spans and not any(
            _find_tokens(windows, n, s) for n in range(len(windows)) for s in spans
        ):
            raise InputError(
                f"{where}: no window of {self.max_length} tokens has the whole of an answer, such "
                f"as {row['answer_texts'][0][:60]!r}; raise task.max_length or drop the row"
            )

    def _mark(self, windows: Sequence[dict[str, Any]], spans: Sequence["_Span"]) -> bool:
        """Add the tokens at which the answer starts and ends to each window of a row.

        It is the first one that the window has whole. Without one, it is the first token: "no
        answer here". Return whether the answer is too long to be given.
        """
        is_long = False
        for number, window in enumerate(windows):
            found = (_find_tokens(windows, number, span) for span in spans)
            first, last = next((tokens for tokens in found if tokens), (0, 0))
            window["start_positions"], window["end_positions"] = first, last
            is_long = is_long or last - first >= self.max_answer_tokens
        return is_long

    def load_model(
        self, load: Loader, tokenizer: PreTrainedTokenizerBase, train: Dataset
    ) -> PreTrainedModel:
        del train
        # Two numbers for each token, as start and as end of the answer.
        model = load(
            AutoModelForQuestionAnswering, num_labels=2, pad_token_id=int(tokenizer.pad_token_id)
        )
        model.config.max_answer_tokens = self.max_answer_tokens
        model.config.may_abstain = self.unanswerable
        return model

    def build_collator(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
    ) -> Collator:
        del model
        # Outputs are read by the position of their tokens, so padding must come after them.
        padding = copy.deepcopy(tokenizer)
        padding.padding_side = "right"
        return DataCollatorWithPadding(padding)

    def predict(self, model: Any, batch: Mapping[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Keep the logits of starts and ends, shape (batch, tokens, 2)."""
        del model, batch
        return stack_logits(outputs)

    def losses(
        self, batch: Mapping[str, torch.Tensor], outputs: Any, kept: torch.Tensor
    ) -> torch.Tensor:
        del outputs
        starts, ends = kept.float().unbind(dim=-1)
        of_start = cross_entropy(starts, batch["start_positions"], reduction="none")
        of_end = cross_entropy(ends, batch["end_positions"], reduction="none")
        return one_loss_each((of_start + of_end) / 2)

    def statistics(self, rows: Dataset, encoded: Dataset, outputs: Array) -> Array:
        found = self._answer(rows, encoded, outputs)
        return _count(rows, [answer.text for answer in found])

    def score(self, sums: Array) -> dict[str, Array]:
        return squad.score(sums)

    def break_down(self, rows: Dataset, sums: Array) -> pd.DataFrame:
        """Score the rows with an answer and those without one by themselves."""
        del rows
        parts = [part for part in zip(_GROUPS, squad.split(sums), strict=True) if part[1][0] > 0]
        return pd.DataFrame(
            [
                {"label": name, "rows": int(part[0]), "exact_match": part[1] / part[0],
                 "f1": part[2] / part[0]}
                for name, part in parts
            ]
        )  # fmt: skip

    def tabulate(self, rows: Dataset, encoded: Dataset, outputs: Array) -> pd.DataFrame:
        """Return one line a question, with the characters where the answer starts and ends."""
        frame = begin_table(rows)
        frame["question"], frame["context"] = rows["question"], rows["context"]
        found = self._answer(rows, encoded, outputs)
        frame["prediction"] = [answer.text for answer in found]
        for name in ("start", "end", "confidence", "no_answer_score"):
            frame[name] = [getattr(answer, name) for answer in found]
        return frame.sort_values("row", ignore_index=True)

    def inputs(self, table: pd.DataFrame) -> pd.DataFrame:
        return table[["question", "context"]]

    def answers(self, table: pd.DataFrame) -> pd.DataFrame:
        columns = {"prediction": "answer", "confidence": "score", "start": "start", "end": "end"}
        return table[[*columns]].rename(columns=columns)

    def baselines(self, train: Dataset, rows: Dataset) -> Iterator[Baseline]:
        """Give the most frequent answer of ``train`` that the context has, or a whole sentence.

        The sentence is the one that shares most words with the question.
        """
        counts = Counter(text for texts in train["answer_texts"] for text in texts[:1])
        usual = [text for text, _ in counts.most_common(_NUM_USUAL)]
        pairs = [
            (q, c[:_MOST_READ]) for q, c in zip(rows["question"], rows["context"], strict=True)
        ]
        frequent = [next((text for text in usual if text in context), "") for _, context in pairs]
        name = "the most frequent answer of train that the context has"
        yield Baseline("frequent", name, _count(rows, frequent))
        name = "the sentence with most words of the question"
        yield Baseline("sentence", name, _count(rows, [_closest_sentence(*p) for p in pairs]))
        if self.unanswerable:
            yield Baseline("none", "no answer at all", _count(rows, [""] * len(pairs)))

    def plot(
        self, rows: Dataset, table: pd.DataFrame, by_label: pd.DataFrame, *, split: str
    ) -> dict[str, Figure]:
        """Draw the scores by the first two words of the question."""
        del by_label
        texts = pd.Series(rows["answer_texts"], index=rows["row"]).loc[table["row"]]
        sums = squad.statistics(table["prediction"].tolist(), texts.tolist())
        words = [" ".join(question.split()[:2]) for question in table["question"]]
        scores = pd.DataFrame({"f1": sums[:, 2], "exact_match": sums[:, 1], "group": words})
        figure = plot_scores_by_group(scores, title="first words of the question", split=split)
        return {"scores_by_question": figure}

    def limits(self) -> list[str]:
        may = (
            "It may say that a context has no answer."
            if self.unanswerable
            else "It gives a span for every question, also where the context has no answer."
        )
        return [
            "Answers are spans of the context: nothing is put into other words.",
            f"A span has at most {self.max_answer_tokens} tokens. {may}",
            f"With more than {self.max_length} tokens question and context are read in windows.",
        ]

    def serving_config(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        return {"max_length": length_for(tokenizer, self.max_length)}

    def _answer(self, rows: Dataset, encoded: Dataset, outputs: Array) -> list[Answer]:
        windows: list[list[Any]] = [[] for _ in range(len(rows))]
        for index, offsets, logits in zip(
            encoded["index"], encoded["offsets"], outputs, strict=True
        ):
            windows[index].append((offsets, logits))
        how: dict[str, Any] = {"may_abstain": self.unanswerable}
        return [
            find_answer(context, found, max_answer_tokens=self.max_answer_tokens, **how)
            for context, found in zip(rows["context"], windows, strict=True)
        ]


@dataclass(frozen=True)
class _Span:
    """Characters of a context, white space at the ends left out."""

    start: int
    end: int

    @classmethod
    def of(cls, row: Mapping[str, Any], number: int) -> "_Span":
        text, start = row["answer_texts"][number], row["answer_starts"][number]
        begin = start + len(text) - len(text.lstrip())
        return cls(begin, begin + len(text.strip()))


def _find_tokens(
    windows: Sequence[Mapping[str, Any]], number: int, span: _Span
) -> tuple[int, int] | None:
    """Find the first and last token of a span in a window; None if it does not have all of it."""
    offsets = windows[number]["offsets"]
    context = [place for place, (_, end) in enumerate(offsets) if end > 0]
    begins = number == 0 or offsets[context[0]][0] <= span.start
    ends = number == len(windows) - 1 or offsets[context[-1]][1] >= span.end
    inside = [p for p in context if offsets[p][0] < span.end and offsets[p][1] > span.start]
    return (inside[0], inside[-1]) if begins and ends and inside else None


def _canonicalise(part: Dataset, columns: Mapping[str, str], split: str) -> Dataset:
    questions, contexts = (
        read_texts(part, columns[role], split=split, key=f"data.columns.{role}")
        for role in ("question", "context")
    )
    answers = [
        _read_answers(value, context, f"data.columns.answers={columns['answers']}: {split} row {n}")
        for n, (value, context) in enumerate(
            zip(part[columns["answers"]][:], contexts, strict=True)
        )
    ]
    has_none = any(found == [] for found in answers)
    groups = [None if found is None else int(not found) for found in answers]
    return canonical_split(
        part,
        text=[
            None if q is None or c is None or is_blank(q) or is_blank(c) else q + _BETWEEN + c
            for q, c in zip(questions, contexts, strict=True)
        ],
        target=[
            None if found is None else _BETWEEN.join(dict.fromkeys(text for text, _ in found))
            for found in answers
        ],
        stratum=groups,
        strata=ClassLabel(names=list(_GROUPS)) if has_none else None,
        answers=[[] if group is None or not has_none else [_GROUPS[group]] for group in groups],
        names=_GROUPS if has_none else (),
        # Rows about one context stay together where a split is made.
        group=contexts,
        own={
            "question": ([text or "" for text in questions], Value("string")),
            "context": ([text or "" for text in contexts], Value("string")),
            "answer_texts": ([[t for t, _ in a or ()] for a in answers], List(Value("string"))),
            "answer_starts": ([[s for _, s in a or ()] for a in answers], List(Value("int64"))),
        },
    )


def _read_answers(value: Any, context: str | None, where: str) -> list[tuple[str, int]] | None:
    """Read the answers of a row, SQuAD's object of two lists or a list of objects."""
    if value is None:
        return None
    try:
        if isinstance(value, Mapping):
            found = list(zip(value["text"], value["answer_start"], strict=True))
        else:
            found = [(answer["text"], answer["answer_start"]) for answer in value]
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{where} holds {str(value)[:60]!r}; answers must be "
            '{"text": [...], "answer_start": [...]}, two lists of the same length'
        ) from None
    for text, start in found:
        is_place = isinstance(start, int) and not isinstance(start, bool)
        if not isinstance(text, str) or is_blank(text) or not is_place:
            raise InputError(f"{where}: {text!r} at {start!r} is no answer: a text and a number")
        there = (context or "")[max(start, 0) : max(start, 0) + len(text)]
        if context and (start < 0 or there != text):
            raise InputError(
                f"{where}: the answer is {text[:60]!r}, and at answer_start={start} the context "
                f"has {there[:60]!r}; fix the row (characters are counted from 0)"
            )
    return found


def _closest_sentence(question: str, context: str) -> str:
    wanted = {*squad.normalise_answer(question).split()}
    sentences = _SENTENCE.split(context)
    return max(sentences, key=lambda s: len(wanted & {*squad.normalise_answer(s).split()}))


def _count(rows: Dataset, predictions: Sequence[str]) -> Array:
    return squad.statistics(predictions, rows["answer_texts"])
