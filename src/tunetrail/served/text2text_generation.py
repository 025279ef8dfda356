"""Answer with a model that generates text: prompts in, what it writes out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerBase,
)

from . import base
from .blank import is_blank
from .language import find_frame, tokenize

# Stands for a template: a prompt is what a user says, written with the model's chat template.
CHAT = "chat"
# Where the prompt goes in any other template.
SLOT = "{prompt}"
ROLES = ("system", "user", "assistant")
# What transformers takes where a model's own settings name no number.
_NEW_TOKENS = 20

Turn = dict[str, str]


def find_fault_of_turns(turns: object) -> str | None:
    """Say why a conversation cannot be read; None where it can."""
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return f"no list of messages but {json.dumps(turns, default=str)[:60]}"
    if not turns:
        return "no message"
    for number, turn in enumerate(turns, start=1):
        if turn.get("role") not in ROLES:
            return f"message {number} has the role {turn.get('role')!r} (known: {', '.join(ROLES)})"
        content = turn.get("content")
        if not isinstance(content, str) or is_blank(content):
            return f"message {number} has no text in 'content'"
    return None


def write_turns(turns: Sequence[Turn]) -> str:
    """Write what stands before an answer as one text: what a single user says, else JSON."""
    if len(turns) == 1 and turns[0]["role"] == "user" and read_turns(turns[0]["content"]) == turns:
        return str(turns[0]["content"])
    return json.dumps(turns, ensure_ascii=False)


def read_turns(prompt: str) -> list[Turn]:
    """Read what :func:`write_turns` wrote."""
    if prompt.startswith("[{"):
        try:
            turns = json.loads(prompt)
        except ValueError:
            turns = None
        if find_fault_of_turns(turns) is None:
            return [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    return [{"role": "user", "content": prompt}]


def render(turns: Sequence[Turn], tokenizer: PreTrainedTokenizerBase, *, ask: bool) -> str:
    """Write a conversation with the model's chat template.

    Args:
        turns: of the conversation.
        tokenizer: has the template.
        ask: whether an answer is to follow.

    """
    text = tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=ask)
    assert isinstance(text, str)
    return text


def encode_prompts(
    prompts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, template: str
) -> list[list[int]]:
    """Return the tokens of prompts, without what an encoder reads after a text."""
    if template == CHAT:
        return tokenize([render(read_turns(p), tokenizer, ask=True) for p in prompts], tokenizer)
    before, _ = find_frame(tokenizer)
    texts = [template.replace(SLOT, prompt) for prompt in prompts]
    return [[*before, *ids] for ids in tokenize(texts, tokenizer)]


def generate(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
) -> list[str]:
    """Return what a model writes, by the most probable token each time, all in one batch.

    Args:
        prompts: tokens as :func:`encode_prompts` returns them.
        max_new_tokens: an answer is shorter where the model ends it.

    """
    has_encoder = model.config.is_encoder_decoder
    after = find_frame(tokenizer)[1] if has_encoder else []
    batch = tokenizer.pad(
        {"input_ids": [[*ids, *after] for ids in prompts]},
        # A decoder goes on after the last token, so padding must come before the prompt.
        padding_side="right" if has_encoder else "left",
        return_tensors="pt",
    ).to(next(model.parameters()).device)
    with torch.inference_mode():
        found = model.generate(
            **batch, do_sample=False, num_beams=1, max_new_tokens=max_new_tokens, use_cache=True
        )
    new = found if has_encoder else found[:, batch["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(new, skip_special_tokens=True)
    return [text.strip() for text in texts]


def generate_all(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
) -> list[str]:
    """Return what a model writes for prompts of any number, the longest first, in batches."""
    texts = [""] * len(prompts)
    lengths = [len(ids) + max_new_tokens for ids in prompts]
    order = np.argsort(lengths, kind="stable")[::-1].tolist()
    while order:
        size = max(base.BATCH_TOKENS // lengths[order[0]], 1)
        chosen, order = order[:size], order[size:]
        found = generate(
            model, tokenizer, [prompts[i] for i in chosen], max_new_tokens=max_new_tokens
        )
        for i, text in zip(chosen, found, strict=True):
            texts[i] = text
    return texts


class GenerativeModel:
    """Loads a decoder or an encoder-decoder, whichever the config names."""

    @staticmethod
    def from_pretrained(folder: Path, **options: Any) -> Any:
        """Load a model, with the options of ``from_pretrained`` of transformers."""
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        return auto.from_pretrained(folder, **options)


class ServedModel(base.ServedModel):
    """A prompt is a text or, for a model of conversations, a list of messages.

    The last message of such a list is left out where it is the assistant's: it is the answer.
    """

    auto: ClassVar[Any] = GenerativeModel
    purpose: ClassVar[str] = "generate text"
    served_columns: ClassVar[dict[str, str]] = {"generated_text": "string"}

    def __init__(self, model_dir: Path, tokenizer_dir: Path, **options: Any) -> None:
        super().__init__(model_dir, tokenizer_dir, **options)
        self.columns = {"prediction": "string"}
        self._template = str(base.read_settings(self.model.config).get("template", SLOT))
        if self._template == CHAT:
            self.inputs = {"text": ("text", "messages")}
        self._new_tokens = self.model.generation_config.max_new_tokens or _NEW_TOKENS
        room = self._max_length - self._new_tokens
        self.no_answer = f"the prompt has no token, or more than {room} of them"

    def answer(self, inputs: Sequence[Any]) -> list[dict[str, Any] | None]:
        """Return what the model writes for each prompt; None for one longer than it reads."""
        prompts = [self._read(prompt) for prompt in inputs]
        with self._lock:
            found = encode_prompts(prompts, self.tokenizer, template=self._template)
            empty = [not ids for ids in tokenize(prompts, self.tokenizer)]
        room = self._max_length - self._new_tokens
        features = [
            {"input_ids": [] if is_empty or len(ids) > room else ids}
            for ids, is_empty in zip(found, empty, strict=True)
        ]
        return [
            None if text is None else {"prediction": text}
            for text in self.run(features, self._generate)
        ]

    def serve(self, answer: dict[str, Any]) -> dict[str, Any]:
        return {"generated_text": answer["prediction"]}

    def describe_use(self, name: str) -> str:
        """Describe in Markdown how transformers alone uses an export in the directory ``name``."""
        has_encoder = self.model.config.is_encoder_decoder
        auto = "AutoModelForSeq2SeqLM" if has_encoder else "AutoModelForCausalLM"
        if self._template == CHAT:
            text = (
                'tokenizer.apply_chat_template(\n    [{"role": "user", "content": "a prompt"}], '
                "tokenize=False, add_generation_prompt=True\n)"
            )
        else:
            text = repr(self._template.replace(SLOT, "a prompt"))
        special = ", add_special_tokens=False" if self._template == CHAT and not has_encoder else ""
        start = "" if has_encoder else '[len(inputs["input_ids"][0]) :]'
        return f"""```python
from transformers import AutoTokenizer, {auto}

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = {auto}.from_pretrained("{name}")
text = {text}
inputs = tokenizer(text, return_tensors="pt"{special})
answer = model.generate(**inputs)[0]{start}
tokenizer.decode(answer, skip_special_tokens=True)
```

It writes at most {self._new_tokens} tokens, the most probable one each time, and was trained on
prompts and answers of {self._max_length} tokens together: give it no prompt of more than
{self._max_length - self._new_tokens}."""

    def _read(self, prompt: Any) -> str:
        if isinstance(prompt, str):
            return prompt
        answered = prompt[-1]["role"] == "assistant" and len(prompt) > 1
        return write_turns(prompt[:-1] if answered else prompt)

    def _generate(self, features: list[dict[str, Any]]) -> list[str]:
        prompts = [row["input_ids"] for row in features]
        return generate(self.model, self.tokenizer, prompts, max_new_tokens=self._new_tokens)
