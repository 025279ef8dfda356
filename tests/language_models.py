"""Language modelling in small: its tasks, a few texts as rows, tokenizers and loaders."""

from functools import lru_cache
from pathlib import Path

from architectures import ARCHITECTURES, DECODERS, ONE_STACK
from datasets import Dataset, DatasetDict
from toys import make_rows
from transformers import PreTrainedTokenizerBase

from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import Loader
from tunetrail.tasks.causal_lm import CausalLM
from tunetrail.tasks.language_modelling import LanguageModelling
from tunetrail.tasks.masked_lm import MaskedLM

ENCODERS = sorted(set(ONE_STACK) - DECODERS)
LENGTH = 16
CAUSAL = CausalLM(max_length=LENGTH, num_samples=3, main_metric="perplexity", max_new_tokens=4)
MASKED = MaskedLM(max_length=LENGTH, num_samples=3, main_metric="perplexity", mask_share=0.3)
# One token, a few, more than one window, more than three.
TEXTS = ["a", "it was a good day", " ".join(text for text, _ in make_rows(4)),
         " ".join(text for text, _ in make_rows(12, seed=1))]  # fmt: skip


@lru_cache
def tokenizer_of(architecture: str) -> PreTrainedTokenizerBase:
    tokenizer = ARCHITECTURES[architecture].tokenizer()
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def loader(folder: Path) -> Loader:
    return Loader(Checkpoint(str(folder), origin="a test"))


def canonical(texts: list[str], task: LanguageModelling = CAUSAL) -> Dataset:
    rows = DatasetDict({"train": Dataset.from_dict({"text": texts})})
    return task.canonicalise(rows, {"text": "text"}, label_names=None)["train"]
