"""A tag for each word of a text: named entities in IOB2."""

import copy
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pandas as pd
import torch
from datasets import ClassLabel, Dataset, DatasetDict, List, Value
from matplotlib.figure import Figure
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunetrail.config.arguments import require_count
from tunetrail.data.appearance import require_distinct
from tunetrail.data.columns import canonical_split, count_of, require_columns
from tunetrail.data.tables.rows import is_token
from tunetrail.errors import InputError
from tunetrail.models.loading import Kind, Loader
from tunetrail.served.token_classification import encode_windows
from tunetrail.tasks.base import (
    Array,
    Baseline,
    Collator,
    Metric,
    TrainedAsMeasured,
    begin_table,
    length_for,
    sum_losses,
)
from tunetrail.tasks.metrics.entities import entities
from tunetrail.tasks.metrics.labels import list_confusions, score_labels
from tunetrail.tasks.plots import plot_scores_by_label
from tunetrail.tasks.strata import RarestLabel
from tunetrail.templates import list_names

_NO_ENTITY = "no entity"
_IOB2 = re.compile(r"O|[BI]-\S+")
_ARE = "tags are O, B-TYPE where an entity begins and I-TYPE where it goes on"


@dataclass(frozen=True)
class TokenClassification(TrainedAsMeasured):
    """A tag for each word: the columns ``tokens`` and ``tags``, lists of the same length.

    Tags are ``O``, or ``B-TYPE`` where an entity of a type begins and ``I-TYPE`` inside it
    (IOB2: Ramshaw and Marcus 1995; Tjong Kim Sang and Veenstra 1999).

    Args:
        max_length: in tokens; a longer sentence is read in windows that overlap, none is cut.
        tag_scheme: of the data. In iob2 each entity begins with ``B-``; in iob1 ``I-`` may begin
            one, too, and is read as ``B-``.
        main_metric: chooses the best weights; shown beside the loss on curves and in the summary.

    """

    max_length: int
    tag_scheme: Literal["iob2", "iob1"]
    main_metric: str

    pipeline_tag: ClassVar[str] = "token-classification"
    unsuited: ClassVar[Mapping[Kind, str]] = {
        "encoder-decoder": "it writes words and tags none; use an encoder, such as model=minilm"
    }
    metrics: ClassVar[Mapping[str, Metric]] = {
        "f1": Metric(),
        "precision": Metric(),
        "recall": Metric(),
        "token_accuracy": Metric(),
    }
    columns: ClassVar[tuple[str, ...]] = ("tokens", "tags")

    def __post_init__(self) -> None:
        require_count("task.max_length", self.max_length)
        if self.tag_scheme not in ("iob2", "iob1"):
            raise InputError(f"task.tag_scheme={self.tag_scheme}: must be iob2 or iob1")

    def canonicalise(
        self, rows: DatasetDict, columns: Mapping[str, str], *, label_names: Sequence[Any] | None
    ) -> DatasetDict:
        keys = {f"data.columns.{role}": columns[role] for role in self.columns}
        require_columns(rows, keys)
        tokens, tags = (
            {s: _read_lists(part, column, split=s, key=key) for s, part in rows.items()}
            for key, column in keys.items()
        )
        for split in rows:
            _require_tags(tokens[split], tags[split], split)
            if self.tag_scheme == "iob1":
                tags[split] = [found and _begin_entities(found) for found in tags[split]]
            _require_begun(tokens[split], tags[split], split)
        if label_names is None:
            every = (tag for part in tags.values() for found in part for tag in found or ())
            require_distinct(every, key=f"data.columns.tags={columns['tags']}")
        names = _order_names(tags["train"], label_names)
        codes = {name: code for code, name in enumerate(names)}
        strata = RarestLabel([_types(found) for found in tags["train"] if found], none=_NO_ENTITY)
        parts = {}
        for split, part in rows.items():
            _require_known(tokens[split], tags[split], codes, split)
            encoded = [[codes[tag] for tag in found or ()] for found in tags[split]]
            parts[split] = canonical_split(
                part,
                text=[None if words is None else " ".join(words) for words in tokens[split]],
                target=[None if found is None else " ".join(found) for found in tags[split]],
                stratum=[None if found is None else strata(_types(found)) for found in tags[split]],
                strata=strata.feature,
                answers=[entities.list_entities(found or ()) for found in tags[split]],
                names=entities.list_types(names),
                own={
                    "tokens": ([words or [] for words in tokens[split]], List(Value("string"))),
                    "tags": (encoded, List(ClassLabel(names=names))),
                },
            )
        return DatasetDict(parts)

    def require_learnable(self, train: Dataset) -> None:
        if not any(tag for tags in train["tags"] for tag in tags):
            raise InputError(
                "train has no entity, and there is nothing to learn; raise data.num_train or set "
                "data.subset=stratified"
            )

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        length = length_for(tokenizer, self.max_length)
        if not tokenizer.is_fast:
            raise InputError(
                f"model: its {type(tokenizer).__name__} cannot say where in a text a token stands, "
                "as tagging needs; choose a model with a fast tokenizer"
            )

        def encode(batch: dict[str, list[Any]], index: list[int]) -> dict[str, list[Any]]:
            try:
                windows = encode_windows(batch["tokens"], tokenizer, max_length=length)
            except ValueError as error:
                raise InputError(f"task.max_length={self.max_length}: {error}") from error
            columns = defaultdict(list)
            for window in windows:
                tags = batch["tags"][window["index"]]
                labels = [-100 if word < 0 else tags[word] for word in window["words"]]
                for name, value in {**window, "labels": labels}.items():
                    columns[name].append(index[value] if name == "index" else value)
            return dict(columns)

        return rows.map(encode, batched=True, with_indices=True, remove_columns=rows.column_names)

    def load_model(
        self, load: Loader, tokenizer: PreTrainedTokenizerBase, train: Dataset
    ) -> PreTrainedModel:
        return load(
            AutoModelForTokenClassification,
            label_names=_names(train),
            pad_token_id=int(tokenizer.pad_token_id),
        )

    def build_collator(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
    ) -> Collator:
        del model
        # Outputs are read by the position of their tokens, so padding must come after them.
        padding = copy.deepcopy(tokenizer)
        padding.padding_side = "right"
        return DataCollatorForTokenClassification(padding)

    def predict(self, model: Any, batch: Mapping[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Keep the most probable tag of each token, shape (batch, tokens)."""
        del model, batch
        chosen: torch.Tensor = outputs["logits"].argmax(dim=-1)
        return chosen

    def losses(
        self, batch: Mapping[str, torch.Tensor], outputs: Any, kept: torch.Tensor
    ) -> torch.Tensor:
        del kept
        logits, labels = outputs["logits"].float().transpose(1, 2), batch["labels"]
        losses = cross_entropy(logits, labels, ignore_index=-100, reduction="none")
        return sum_losses(losses, counted=labels != -100)

    def statistics(self, rows: Dataset, encoded: Dataset, outputs: Array) -> Array:
        return _count(rows, _read_tags(rows, encoded, outputs))

    def score(self, sums: Array) -> dict[str, Array]:
        return entities.score(sums)

    def break_down(self, rows: Dataset, sums: Array) -> pd.DataFrame:
        types = entities.list_types(_names(rows))
        return score_labels(types, *entities.split(sums), count="entities")

    def tabulate(self, rows: Dataset, encoded: Dataset, outputs: Array) -> pd.DataFrame:
        """Return one line a sentence: target and prediction are the tags of its words."""
        frame = begin_table(rows)
        frame["prediction"] = [" ".join(tags) for tags in _read_tags(rows, encoded, outputs)]
        return frame.sort_values("row", ignore_index=True)

    def answers(self, table: pd.DataFrame) -> pd.DataFrame:
        return table[["prediction"]].set_axis(["tags"], axis=1)

    def baselines(self, train: Dataset, rows: Dataset) -> Iterator[Baseline]:
        """Give each word the tag that it has most often in ``train``; or find no entity."""
        names = _names(train)
        seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for words, tags in zip(train["tokens"], train["tags"], strict=True):
            for word, tag in zip(words, tags, strict=True):
                seen[word][names[tag]] += 1
        usual = {word: counts.most_common(1)[0][0] for word, counts in seen.items()}
        tags = [[usual.get(word, "O") for word in words] for words in rows["tokens"]]
        yield Baseline("words", "the most frequent tag of each word", _count(rows, tags))
        nothing = [["O"] * len(words) for words in rows["tokens"]]
        yield Baseline("none", "no entity at all", _count(rows, nothing))

    def confusions(self, table: pd.DataFrame) -> pd.DataFrame:
        targets, found = (" ".join(table[c]).split(" ") for c in ("target", "prediction"))
        return list_confusions(targets, found, count="words")

    def plot(
        self, rows: Dataset, table: pd.DataFrame, by_label: pd.DataFrame, *, split: str
    ) -> dict[str, Figure]:
        del rows, table
        return {"scores_by_type": plot_scores_by_label(by_label, count="entities", split=split)}

    def limits(self) -> list[str]:
        return [
            "A text is split into words at spaces, and each word gets one tag.",
            f"Sentences of more than {self.max_length} tokens are read in windows.",
        ]

    def serving_config(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        return {"max_length": length_for(tokenizer, self.max_length)}


def _types(tags: list[str]) -> list[str]:
    return [tag[2:] for tag in tags if tag != "O"]


def _names(rows: Dataset) -> list[str]:
    names: list[str] = rows.features["tags"].feature.names
    return names


def _count(rows: Dataset, predictions: Sequence[list[str]]) -> Array:
    names = _names(rows)
    targets = [[names[tag] for tag in tags] for tags in rows["tags"]]
    return entities.statistics(targets, predictions, entities.list_types(names))


def _read_tags(rows: Dataset, encoded: Dataset, outputs: Array) -> list[list[str]]:
    """Return a tag for each word; ``O`` if the tokenizer makes no token of it."""
    names = _names(rows)
    tags = [["O"] * len(words) for words in rows["tokens"]]
    for index, words, chosen in zip(encoded["index"], encoded["words"], outputs, strict=True):
        for place, word in enumerate(words):
            if word >= 0:
                tags[index][word] = names[chosen[place]]
    return tags


def _read_lists(part: Dataset, column: str, *, split: str, key: str) -> list[list[str] | None]:
    feature = part.features[column]
    inner = getattr(feature, "feature", None)
    if isinstance(inner, ClassLabel):
        names = inner.names
        return [row and [names[code] for code in row] for row in part[column]]
    if inner not in (Value("string"), Value("large_string")):
        raise InputError(
            f"{key}={column} of {split} holds no lists of texts; name another column "
            f"(found: {', '.join(part.column_names)})"
        )
    rows: list[list[str] | None] = part[column][:]
    return rows


def _require_tags(tokens: list[list[str] | None], tags: list[list[str] | None], split: str) -> None:
    for number, (words, found) in enumerate(zip(tokens, tags, strict=True)):
        if words is None or found is None:
            continue
        where = _locate(split, number, words)
        if len(words) != len(found):
            raise InputError(
                f"{where}: {count_of(len(words), 'token')} and {count_of(len(found), 'tag')}; give "
                "a tag for each token"
            )
        for word, tag in zip(words, found, strict=True):
            if not is_token(word or ""):
                raise InputError(
                    f"{where}: the token {word!r} is empty or holds a space; leave it out, or "
                    "split it"
                )
            if not _IOB2.fullmatch(str(tag)):
                raise InputError(f"{where}: the tag {tag!r} of {word!r} is not in IOB2; {_ARE}")


def _begins(tags: Sequence[str], place: int) -> bool:
    """Whether a tag ``I-TYPE`` stands where an entity begins: no tag of its type is before it."""
    tag = tags[place]
    return tag[:1] == "I" and (place == 0 or tags[place - 1][2:] != tag[2:])


def _begin_entities(tags: list[str]) -> list[str]:
    """Translate IOB1 into IOB2."""
    return [f"B{tag[1:]}" if _begins(tags, place) else tag for place, tag in enumerate(tags)]


def _require_begun(
    tokens: list[list[str] | None], tags: list[list[str] | None], split: str
) -> None:
    for number, (words, found) in enumerate(zip(tokens, tags, strict=True)):
        if words is None or found is None:
            continue
        place = next((place for place in range(len(found)) if _begins(found, place)), None)
        if place is not None:
            raise InputError(
                f"{_locate(split, number, words)}: the tag {found[place]!r} of {words[place]!r} "
                f"goes on with an entity that has not begun; write B{found[place][1:]}, or set "
                "task.tag_scheme=iob1 if the data are in IOB1"
            )


def _order_names(train: list[list[str] | None], label_names: Sequence[Any] | None) -> list[str]:
    """Return O, then B- and I- of each type, also if train has only one of the two."""
    if label_names is not None:
        names = [str(name) for name in label_names]
        sound = all(_IOB2.fullmatch(name) for name in names) and len(set(names)) == len(names)
        if "O" not in names or not sound:
            raise InputError(f"data.label_names={names}: must hold O and each tag once; {_ARE}")
        return ["O", *(name for name in names if name != "O")]
    types = sorted({type_ for tags in train if tags for type_ in _types(tags)})
    if not types:
        raise InputError("train has no entity: every tag is O; set data.columns.tags")
    return ["O", *(f"{prefix}-{type_}" for type_ in types for prefix in "BI")]


def _require_known(
    tokens: list[list[str] | None],
    tags: list[list[str] | None],
    codes: Mapping[str, int],
    split: str,
) -> None:
    for number, (words, found) in enumerate(zip(tokens, tags, strict=True)):
        for tag in found or ():
            if tag not in codes:
                raise InputError(
                    f"{_locate(split, number, words)}: the tag {tag!r} is not among those of train "
                    f"({', '.join(list_names([*codes], 10))}); fix the row, or name every tag in "
                    "data.label_names"
                )


def _locate(split: str, number: int, words: list[str] | None) -> str:
    """Say which row it is; its first words help to find it in a file of a word a line."""
    first = " ".join(map(str, (words or [])[:5]))
    return f"{split} row {number} ({first!r}…)"
