"""Text generation: a prompt in, a completion out, with a decoder or an encoder-decoder."""

import copy
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from matplotlib.figure import Figure
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    DataCollatorForSeq2Seq,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunetrail.config.arguments import require_count
from tunetrail.data.columns import count_of
from tunetrail.errors import InputError
from tunetrail.models.loading import Kind, Loader
from tunetrail.served.language import NOT_COUNTED, find_frame, score_tokens
from tunetrail.served.text2text_generation import (
    CHAT,
    SLOT,
    encode_prompts,
    generate_all,
)
from tunetrail.served.text_generation import score_next_tokens
from tunetrail.tasks.base import (
    Array,
    Baseline,
    Collator,
    Metric,
    TrainedAsMeasured,
    length_for,
    sum_losses,
)
from tunetrail.tasks.conversations import (
    encode_rows,
    find_answer,
    read_rows,
)
from tunetrail.tasks.metrics.generation import generation
from tunetrail.tasks.metrics.labels import divide
from tunetrail.tasks.metrics.language_modelling.language_modelling import MOST_NATS

log = logging.getLogger(__name__)

# Fewer rows say nothing of a model.
_FEWEST = 10
# Where a sentence of a prompt ends, and what is read of a prompt to compare it with a completion.
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_MOST_READ = 5_000


@dataclass(frozen=True)
class TextGeneration(TrainedAsMeasured):
    """Prompts with completions, or conversations, in ``messages``, that end with an answer.

    The loss is of completions alone: of conversations all that the assistant says, as trl's
    ``assistant_only_loss``. What is generated and scored is the last answer.

    Args:
        template: what the model reads of a prompt, with ``{prompt}`` in it; ``chat`` writes it with
            the model's chat template.
        chat_template: in Jinja, for a model that has none, or instead of its own.
        max_length: tokens of prompt and completion together.
        too_long: ``error``, or ``drop`` to leave out rows that are longer.
        max_new_tokens: of a generated text.
        num_generated: of how many rows of each split texts are generated and scored; None: of all.
            The loss is of all rows.
        num_samples: of how many rows of validation the run shows what is generated.
        main_metric: chooses the best weights; shown beside the loss on curves and in the summary.

    """

    template: str
    chat_template: str | None
    max_length: int
    too_long: str
    max_new_tokens: int
    num_generated: int | None
    num_samples: int
    main_metric: str

    pipeline_tag: ClassVar[str] = "text2text-generation"
    is_language_model: ClassVar[bool] = True
    unsuited: ClassVar[Mapping[Kind, str]] = {
        "encoder": "it cannot generate text; use a decoder or an encoder-decoder, model=smollm2"
    }
    metrics: ClassVar[Mapping[str, Metric]] = {
        "rougeL": Metric(),
        "chrf": Metric(is_share=False),
        "exact_match": Metric(),
        "f1": Metric(),
        "bleu": Metric(is_share=False),
        "rouge1": Metric(),
        "rouge2": Metric(),
        "verbatim_match": Metric(),
        "perplexity": Metric(greater_is_better=False, is_share=False),
    }
    columns: ClassVar[tuple[str, ...]] = ("prompt", "completion", "messages")

    def __post_init__(self) -> None:
        """Check the values of the config."""
        for name in ("max_length", "max_new_tokens"):
            require_count(f"task.{name}", getattr(self, name))
        if self.num_samples != 0:
            require_count("task.num_samples", self.num_samples, remedy=", or 0 for none")
        if self.num_generated is not None:
            require_count("task.num_generated", self.num_generated, remedy=", or null for all")
            if self.num_generated < _FEWEST:
                raise InputError(
                    f"task.num_generated={self.num_generated}: must be {_FEWEST} or more, or null"
                )
        if self.too_long not in ("error", "drop"):
            raise InputError(f"task.too_long={self.too_long}: must be error or drop")
        if self.template != CHAT and SLOT not in self.template:
            raise InputError(
                f"task.template={self.template!r}: must hold {SLOT}, or be {CHAT} for the model's "
                "chat template"
            )
        if self.chat_template is not None and self.template != CHAT:
            raise InputError(f"task.chat_template is used with task.template={CHAT} alone")

    def canonicalise(
        self, rows: DatasetDict, columns: Mapping[str, str], *, label_names: Sequence[Any] | None
    ) -> DatasetDict:
        """Read prompts and completions, or conversations; which of them, the columns say."""
        del label_names
        return read_rows(rows, columns, template=self.template)

    def require_learnable(self, train: Dataset) -> None:
        del train  # any text can be learnt

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """Encode prompt and completion one after the other; only the latter has labels.

        Raises:
            InputError: rows are longer than the model reads, the tokenizer has no token that ends
                a text or no chat template, or the template cannot write a conversation.

        """
        self._prepare(tokenizer)
        length = self._length(tokenizer)
        kept, too_long, cut = [], [], 0
        for index, row in enumerate(encode_rows(rows, tokenizer, template=self.template)):
            _, answer = find_answer(row["labels"])
            prompt = len(row["input_ids"]) - len(answer)
            cut += len(answer) > self.max_new_tokens
            if max(prompt + self.max_new_tokens, len(row["input_ids"])) <= length:
                kept.append({**row, "index": index})
            else:
                too_long.append((index, prompt, len(answer)))
        if too_long:
            self._say_too_long(rows, too_long, length)
        if not kept:
            raise InputError(
                f"all {len(rows):,} rows are longer than the model reads; raise task.max_length"
            )
        if cut:
            log.info(
                "longer than task.max_new_tokens=%s: %s of %s; what is generated ends before",
                self.max_new_tokens, count_of(cut, "completion"), f"{len(rows):,}",
            )  # fmt: skip
        return Dataset.from_list(kept)

    def _say_too_long(
        self, rows: Dataset, found: Sequence[tuple[int, int, int]], length: int
    ) -> None:
        index, prompt, answer = found[0]
        what = (
            f"{count_of(len(found), 'row')} of {len(rows):,} are longer than the model reads: row "
            f"{rows['row'][index]} (from 0) has a prompt of {prompt} tokens and a completion of "
            f"{answer}, and there is room for {length} together, {self.max_new_tokens} of them for "
            "what is generated"
        )
        if self.too_long == "error":
            raise InputError(
                f"{what}; raise task.max_length, lower task.max_new_tokens, or set "
                "task.too_long=drop"
            )
        log.warning("%s; left out (task.too_long=drop)", what)

    def _prepare(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Give the tokenizer the chat template, and check what generation needs of it."""
        if tokenizer.eos_token_id is None:
            raise InputError("task=text_generation: the tokenizer has no token that ends a text")
        if self.chat_template is not None:
            tokenizer.chat_template = self.chat_template
        if self.template == CHAT and not tokenizer.chat_template:
            raise InputError(
                f"task.template={CHAT}: the model's tokenizer has no chat template; set "
                f"task.chat_template, or for prompts task.template='{SLOT}\\n'"
            )
        if self.max_new_tokens >= self._length(tokenizer):
            raise InputError(
                f"task.max_new_tokens={self.max_new_tokens}: the model reads "
                f"{self._length(tokenizer)} tokens, and a prompt needs room; set fewer"
            )

    def _length(self, tokenizer: PreTrainedTokenizerBase) -> int:
        return length_for(tokenizer, self.max_length)

    def load_model(
        self, load: Loader, tokenizer: PreTrainedTokenizerBase, train: Dataset
    ) -> PreTrainedModel:
        """Load the model, and set how it generates: greedily, whatever its own settings say."""
        del train
        self._prepare(tokenizer)
        has_encoder = load.kind == "encoder-decoder"
        auto = AutoModelForSeq2SeqLM if has_encoder else AutoModelForCausalLM
        model = load(auto, pad_token_id=int(tokenizer.pad_token_id))
        own = model.generation_config
        ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
        model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=self.max_new_tokens,
            eos_token_id=sorted({int(tokenizer.eos_token_id), *(e for e in ends if e is not None)}),
            pad_token_id=int(tokenizer.pad_token_id),
            bos_token_id=own.bos_token_id,
            decoder_start_token_id=own.decoder_start_token_id,
            forced_bos_token_id=own.forced_bos_token_id,
        )
        return model

    def build_collator(
        self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
    ) -> Collator:
        # Outputs are read by the position of their tokens, so padding must come after them.
        padding = copy.deepcopy(tokenizer)
        padding.padding_side = "right"
        pad = DataCollatorForSeq2Seq(padding, label_pad_token_id=NOT_COUNTED)
        if not model.config.is_encoder_decoder:
            return pad
        before, after = find_frame(tokenizer)

        def collate(features: list[dict[str, Any]]) -> dict[str, Any]:
            batch = []
            for row in features:
                place, answer = find_answer(row["labels"])
                labels = [*before, *answer]
                batch.append({"input_ids": [*row["input_ids"][:place], *after], "labels": labels})
            found: dict[str, Any] = pad(batch)
            return found

        return collate

    def predict(self, model: Any, batch: Mapping[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Keep the loss of each completion and its tokens, shape (batch, 2)."""
        score = score_tokens if model.config.is_encoder_decoder else score_next_tokens
        losses = score(outputs["logits"], batch["labels"])[..., 0]
        return sum_losses(losses, counted=losses != NOT_COUNTED)

    def losses(
        self, batch: Mapping[str, torch.Tensor], outputs: Any, kept: torch.Tensor
    ) -> torch.Tensor:
        del batch, outputs
        return kept

    def complete(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        rows: Dataset,
        encoded: Dataset,
        outputs: Array,
    ) -> Array:
        """Add what the model generates, shape (inputs, 3); None for rows that are left out."""
        chosen = self._choose(len(rows))
        places = [place for place, index in enumerate(encoded["index"]) if index in chosen]
        chosen_texts = rows.select([encoded["index"][place] for place in places])["text"][:]
        prompts = encode_prompts(chosen_texts, tokenizer, template=self.template)
        texts = generate_all(model, tokenizer, prompts, max_new_tokens=self.max_new_tokens)
        completed = np.full((len(outputs), 3), None, dtype=object)
        completed[:, :2] = outputs
        completed[places, 2] = texts
        return completed

    def _choose(self, number: int) -> set[int]:
        """Choose the rows that texts are generated for, by the number of all alone."""
        # What the legacy generator draws never changes; numpy's newer ones may change.
        order = np.random.RandomState(0).permutation(number)
        return {int(index) for index in order[: self.num_generated]}

    def statistics(self, rows: Dataset, encoded: Dataset, outputs: Array) -> Array:
        found = np.zeros((len(rows), 2 + generation.NUM_STATISTICS))
        index = np.asarray(encoded["index"])
        found[index, :2] = outputs[:, :2].astype(float)
        chosen = [place for place, text in enumerate(outputs[:, 2]) if text is not None]
        targets = [rows["target"][int(i)] for i in index[chosen]]
        found[index[chosen], 2:] = generation.statistics(outputs[chosen, 2].tolist(), targets)
        return found

    def score(self, sums: Array) -> dict[str, Array]:
        loss = divide(sums[..., 0], sums[..., 1])
        scores = {
            **generation.score(sums[..., 2:]),
            "perplexity": np.exp(np.minimum(loss, MOST_NATS)),
            "loss": loss,
        }
        return {name: scores[name] for name in (*self.metrics, "loss")}

    def break_down(self, rows: Dataset, sums: Array) -> pd.DataFrame:
        """There are no labels."""
        del rows, sums
        return pd.DataFrame()

    def tabulate(self, rows: Dataset, encoded: Dataset, outputs: Array) -> pd.DataFrame:
        """Return one line a row, with what was generated and its scores, where it was."""
        statistics = self.statistics(rows, encoded, outputs)
        texts = np.full(len(rows), None, dtype=object)
        texts[np.asarray(encoded["index"])] = outputs[:, 2]
        scores = self.score(statistics)
        frame = pd.DataFrame(
            {
                **{name: rows[name][:] for name in ("row", "text", "target")},
                "prediction": texts,
                "tokens": statistics[:, 1].astype(int),
                "perplexity": np.where(statistics[:, 1] > 0, scores["perplexity"], np.nan),
            }
        )
        for name in ("exact_match", "f1", "rougeL", "chrf"):
            frame[name] = np.where(statistics[:, 2] > 0, scores[name], np.nan)
        return frame.sort_values("row", ignore_index=True)

    def sample(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, rows: Dataset
    ) -> pd.DataFrame | None:
        """Answer a few prompts."""
        chosen = rows.select(range(min(self.num_samples, len(rows))))
        if not len(chosen):
            return None
        room = self._length(tokenizer) - self.max_new_tokens
        prompts = encode_prompts(chosen["text"][:], tokenizer, template=self.template)
        places = [place for place, ids in enumerate(prompts) if len(ids) <= room]
        texts = generate_all(
            model, tokenizer, [prompts[i] for i in places], max_new_tokens=self.max_new_tokens
        )
        shown = chosen.select(places)
        return pd.DataFrame(
            {
                "row": shown["row"][:],
                "prompt": shown["text"][:],
                "generated": texts,
                "target": shown["target"][:],
            }
        )

    def answers(self, table: pd.DataFrame) -> pd.DataFrame:
        return table[["prediction"]].rename(columns={"prediction": "generated_text"})

    def baselines(self, train: Dataset, rows: Dataset) -> Iterator[Baseline]:
        """Copy the prompt, or always give the same answer, the better first; or its first sentence.

        Perplexity has no simple baseline.
        """
        if self.main_metric == "perplexity":
            return
        commonest = str(pd.Series(train["target"][:]).mode()[0])
        chosen = sorted(self._choose(len(rows)))
        shown = rows.select(chosen)
        prompts, targets = [text[:_MOST_READ] for text in shown["text"]], shown["target"][:]

        def count(key: str, name: str, texts: list[str]) -> tuple[float, Baseline]:
            counted = np.zeros((len(rows), 2 + generation.NUM_STATISTICS))
            counted[chosen, 2:] = generation.statistics(texts, targets)
            score = float(self.score(counted.sum(axis=0))[self.main_metric])
            return -score, Baseline(key, name, counted)

        always = "the most frequent completion of train"
        found = [count("copy", "a copy of the prompt", prompts)]
        found.append(count("commonest", always, [commonest] * len(chosen)))
        yield from (one for _, one in sorted(found, key=lambda pair: pair[0]))
        leads = [_SENTENCE.split(text, maxsplit=1)[0] for text in prompts]
        yield count("lead", "the first sentence of the prompt", leads)[1]

    def plot(
        self, rows: Dataset, table: pd.DataFrame, by_label: pd.DataFrame, *, split: str
    ) -> dict[str, Figure]:
        del rows, table, by_label, split
        return {}

    def limits(self) -> list[str]:
        return [
            f"It reads prompts of up to {self.max_length - self.max_new_tokens} tokens.",
            f"It writes at most {self.max_new_tokens} tokens.",
            "What it writes may be wrong: scores compare it with one right text for each prompt.",
            "ROUGE and F1 count words; ROUGE knows only Latin letters without accents.",
        ]

    def serving_config(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        return {"max_length": self._length(tokenizer), "template": self.template}
