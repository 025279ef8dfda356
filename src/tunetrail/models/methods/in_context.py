"""In-context learning: nothing is trained, examples stand at the beginning of the prompt."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunetrail.errors import InputError
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import Kind, Loader, is_causal
from tunetrail.models.methods.base import Examples
from tunetrail.served.in_context_classification import (
    KEY,
    Prompt,
    PromptedClassifier,
    describe_prompt,
    read_prompt,
)
from tunetrail.served.language import find_frame, tokenize

_Normalisation = Literal["sum", "mean", "pmi", "calibrated"]
_DECODER = "method=in_context needs a decoder, such as model=smollm2"


@dataclass(frozen=True)
class InContext:
    """Score each label by how probable its words are after a prompt with examples.

    Brown et al., "Language Models are Few-Shot Learners", arXiv:2005.14165.

    Args:
        instruction: stands once at the beginning; ``{labels}`` is the words of all labels.
        template: of each example, and of the text that is asked for up to its ``{label}``.
        verbalizers: label -> words; a label that is not there is its own word. None: all are.
        normalisation: ``sum`` of the log-probabilities of a label's tokens, or their ``mean``
            (Brown et al., section 2.4); ``pmi``: the sum, minus that after the end of the template
            alone (there, and Holtzman et al., arXiv:2104.08315); ``calibrated``: the sum, minus the
            logarithm of the label's share after texts that say nothing (Zhao et al.,
            arXiv:2102.09690).
        blanks: the texts that say nothing.

    Raises:
        InputError: a value that cannot be used.

    """

    name: str
    instruction: str
    template: str
    verbalizers: dict[str, str] | None
    normalisation: _Normalisation
    blanks: list[str]

    trains: ClassVar[bool] = False
    unsuited: ClassVar[Mapping[Kind, str]] = {"encoder": _DECODER, "encoder-decoder": _DECODER}

    def __post_init__(self) -> None:
        """Check what a person may have set."""
        known = get_args(_Normalisation)
        if self.normalisation not in known:
            raise InputError(
                f"method.normalisation={self.normalisation}: must be one of {', '.join(known)}"
            )
        _, text, rest = self.template.partition("{text}")
        between, label, after = rest.partition("{label}")
        if not (text and label and between.strip()) or "{text}" in rest or "{label}" in after:
            raise InputError(
                f"method.template={self.template!r}: must hold {{text}} once, then words that ask "
                "for the label, then {label} once"
            )
        for key, words in (self.verbalizers or {}).items():
            if not isinstance(words, str) or not words.strip():
                raise InputError(f"method.verbalizers.{key}={words!r}: must be one word or more")
        if self.normalisation == "calibrated" and not self.blanks:
            raise InputError(
                "method.blanks=[]: method.normalisation=calibrated needs a text that says nothing, "
                "such as N/A"
            )

    def serve_as(self, pipeline_tag: str) -> str:
        if pipeline_tag != "text-classification":
            raise InputError(
                f"method=in_context chooses a label for a text; the task is {pipeline_tag}: use "
                "task=text_classification"
            )
        return "in-context-classification"

    def choose_loader(
        self, load: Loader, tokenizer: PreTrainedTokenizerBase, examples: Examples | None
    ) -> Loader:
        assert examples is not None
        return _PromptLoader(
            load.checkpoint,
            load.weights,
            load.new,
            method=self,
            tokenizer=tokenizer,
            examples=examples,
        )

    def prepare(self, model: PreTrainedModel, *, new: Collection[str] = ()) -> PreTrainedModel:
        del new
        return model

    def describe(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> Mapping[str, str]:
        return {"prompt.txt": describe_prompt(model.prompt, tokenizer)}

    def hold(self, model: Any, dtype: torch.dtype) -> None:
        del model, dtype

    def restore(self, model: Any, reload: Callable[[], PreTrainedModel]) -> None:
        del model, reload

    def finish(self, model: Any) -> PreTrainedModel:
        """Return the language model; its config holds the prompt."""
        inner: PreTrainedModel = model.model
        return inner

    def reopen(self, model: PreTrainedModel) -> Any:
        return PromptedClassifier(model, read_prompt(model.config))

    def save_adapter(self, model: PreTrainedModel, folder: Path, checkpoint: Checkpoint) -> bool:
        del model, folder, checkpoint
        return False

    def build_prompt(
        self,
        tokenizer: PreTrainedTokenizerBase,
        label_names: Sequence[str],
        examples: Examples,
        *,
        limit: int,
    ) -> Prompt:
        """Build the prompt in tokens.

        Args:
            tokenizer: of the model.
            label_names: in the order of the model's labels.
            examples: those that stand in it, in their order.
            limit: tokens that the model reads.

        Raises:
            InputError: the words of labels cannot be told apart, or are of a label that is unknown.

        """
        words = self._choose_words(label_names)
        before, _, rest = self.template.partition("{text}")
        between, _, after = rest.partition("{label}")
        head, tail = find_frame(tokenizer)
        texts = [ids[len(head) : len(ids) - len(tail)] for ids in examples.texts]
        # What stands between two texts is encoded in one piece, as the model has read such texts.
        shown = [between + words[label] + after + before for label in examples.labels]
        instruction = self.instruction.replace("{labels}", ", ".join(words))
        first, *ends = tokenize([instruction + before, *shown], tokenizer)
        prefix = [*head, *first]
        for ids, end in zip(texts, ends, strict=True):
            prefix += [*ids, *end]
        middle, labels = _split_labels(between, words, tokenizer)
        return Prompt(
            prefix=prefix,
            middle=middle,
            labels=labels,
            frame=[len(head), len(tail)],
            max_text=limit - len(prefix) - len(middle) - max(map(len, labels)) + len(head + tail),
            normalisation=self.normalisation,
            premise=[*head, *middle],
            blanks=tokenize(self.blanks, tokenizer),
        )

    def _choose_words(self, label_names: Sequence[str]) -> list[str]:
        chosen = self.verbalizers or {}
        unknown = [name for name in chosen if name not in label_names]
        if unknown:
            raise InputError(
                f"method.verbalizers.{unknown[0]}: there is no such label (found: "
                f"{', '.join(label_names)})"
            )
        return [chosen.get(name, name) for name in label_names]


def _split_labels(
    between: str, words: Sequence[str], tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[list[int]]]:
    """Return the tokens between text and label, and those of each label.

    A space before a label is part of the label's first token in most vocabularies. So a label
    begins where its tokens differ from those of what stands before it alone.
    """
    alone, *whole = tokenize([between, *(between + word for word in words)], tokenizer)
    size = 0
    while size < len(alone) and all(ids[size : size + 1] == [alone[size]] for ids in whole):
        size += 1
    labels = [ids[size:] for ids in whole]
    for word, ids in zip(words, labels, strict=True):
        for other, longer in zip(words, labels, strict=True):
            if ids == longer[: len(ids)] and other != word:
                raise InputError(
                    f"method.verbalizers: the tokens of {word!r} are those with which {other!r} "
                    "begins, so it can never be less probable; give one of them other words"
                )
    if len(set(words)) < len(words):
        [(word, _)] = Counter(words).most_common(1)
        raise InputError(f"method.verbalizers: two labels are {word!r}; give them different words")
    return alone[:size], labels


@dataclass(frozen=True, kw_only=True)
class _PromptLoader(Loader):
    """Loads a causal language model with a prompt where a task asks for a classifier."""

    method: InContext
    tokenizer: PreTrainedTokenizerBase
    examples: Examples

    def __call__(self, auto: Any, *, label_names: list[str] | None = None, **config: Any) -> Any:
        """Load the model.

        Raises:
            InputError: the prompt is longer than the model reads, or the model cannot go on from
                what it has read.

        """
        assert auto is AutoModelForSequenceClassification
        assert label_names is not None
        if config.get("problem_type") == "multi_label_classification":
            raise InputError(
                "method=in_context chooses one label for a text, not several: use "
                "task=text_classification"
            )
        most = getattr(self.read_config(), "max_position_embeddings", None)
        limit = min(self.tokenizer.model_max_length, most or self.tokenizer.model_max_length)
        prompt = self.method.build_prompt(self.tokenizer, label_names, self.examples, limit=limit)
        self._require_room(prompt, limit)
        model = super().__call__(AutoModelForCausalLM, **config)
        if model._is_stateful or not is_causal(model):  # noqa: SLF001 - it has no public name
            raise InputError(
                f"{type(model).__name__} cannot go on from a prompt that it has read; {_DECODER}"
            )
        model.config.id2label = dict(enumerate(label_names))
        model.config.label2id = {name: index for index, name in enumerate(label_names)}
        setattr(model.config, KEY, asdict(prompt))
        return PromptedClassifier(model, prompt)

    def _require_room(self, prompt: Prompt, limit: int) -> None:
        if self.examples.longest <= prompt.max_text:
            return
        number = len(self.examples.labels)
        most = max(Counter(self.examples.labels).values(), default=0)
        needed = limit + self.examples.longest - prompt.max_text
        remedy = "lower data.per_label" if number else "shorten method.instruction"
        raise InputError(
            f"data.per_label: a prompt of {number} examples ({most} of a label) has "
            f"{len(prompt.prefix)} tokens, {needed} with the longest text and label, and the model "
            f"reads {limit}; {remedy}, or lower task.max_length, after which texts are cut"
        )
