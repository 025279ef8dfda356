"""A checkpoint of each architecture: two layers of width 32, and a tokenizer of the kind it has."""

import string
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing
from toys import make_rows, make_tagged
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

# Tokens that each of them reads.
MAX_LENGTH = 64
_TEXTS = [
    *(text for text, _ in make_rows(300)),
    *(" ".join(words) for words, _ in make_tagged(300)),
    # Every character that tests use is known to all of them.
    " ".join(string.ascii_letters + ".,:-'()"),
]


def _trained(name: str) -> Callable[[], PreTrainedTokenizerBase]:
    """Train a tokenizer of a class of transformers anew."""

    def train() -> PreTrainedTokenizerBase:
        tokenizer = getattr(transformers, name)()
        if isinstance(tokenizer.backend_tokenizer.pre_tokenizer, Metaspace):
            # As sentencepiece trains: no token stands for parts of two words.
            tokenizer.backend_tokenizer.pre_tokenizer.split = True
        return tokenizer.train_new_from_iterator(_TEXTS, 400, show_progress=False)

    return train


def _modernbert_tokenizer() -> PreTrainedTokenizerBase:
    """Byte-level BPE with BERT's special tokens; it has no class of its own."""
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    special |= {"unk_token": "[UNK]", "mask_token": "[MASK]"}
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        _TEXTS, vocab_size=400, special_tokens=[*special.values()], show_progress=False
    )
    bpe._tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(name, bpe.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, **special)


@dataclass(frozen=True)
class Architecture:
    """How a checkpoint is made.

    Args:
        tokenizer: trains one.
        config: the class of the model's config.
        settings: of the config, beside size and vocabulary.
        auto: what the checkpoint was pretrained as.

    """

    tokenizer: Callable[[], PreTrainedTokenizerBase]
    config: type
    settings: dict[str, Any] = field(default_factory=dict)
    auto: Any = transformers.AutoModelForMaskedLM

    def save(self, folder: Path) -> Path:
        """Draw weights and save them with the tokenizer, as ``save_pretrained`` does."""
        tokenizer = self.tokenizer()
        tokenizer.model_max_length = MAX_LENGTH
        ids = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
        config = self.config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            # RoBERTa counts positions from 2.
            max_position_embeddings=MAX_LENGTH + 2,
            **{name: getattr(tokenizer, name) for name in ids},
            **self.settings,
        )
        torch.manual_seed(0)
        self.auto.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder


_INNER = {"intermediate_size": 64}
_DECODER = {**_INNER, "num_key_value_heads": 1}
_CAUSAL = transformers.AutoModelForCausalLM
ARCHITECTURES = {
    "bert": Architecture(_trained("BertTokenizer"), transformers.BertConfig, _INNER),
    "distilbert": Architecture(
        _trained("DistilBertTokenizer"), transformers.DistilBertConfig, {"hidden_dim": 64}
    ),
    "roberta": Architecture(_trained("RobertaTokenizer"), transformers.RobertaConfig, _INNER),
    "deberta-v2": Architecture(
        _trained("DebertaV2Tokenizer"),
        transformers.DebertaV2Config,
        # As version 3 has it.
        {
            **_INNER,
            "relative_attention": True,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
    ),
    "modernbert": Architecture(
        _modernbert_tokenizer, transformers.ModernBertConfig, {**_INNER, "local_attention": 16}
    ),
    "gpt2": Architecture(_trained("GPT2Tokenizer"), transformers.GPT2Config, auto=_CAUSAL),
    # Its tokenizer pads on the left.
    "llama": Architecture(_trained("LlamaTokenizer"), transformers.LlamaConfig, _DECODER, _CAUSAL),
    "t5": Architecture(
        _trained("T5Tokenizer"),
        transformers.T5Config,
        {"d_ff": 64, "d_kv": 16, "num_decoder_layers": 2, "decoder_start_token_id": 0},
        transformers.AutoModelForSeq2SeqLM,
    ),
    "bart": Architecture(
        _trained("BartTokenizer"),
        transformers.BartConfig,
        {
            **{f"{part}_ffn_dim": 64 for part in ("encoder", "decoder")},
            **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
            "encoder_layers": 2,
            "decoder_layers": 2,
            "decoder_start_token_id": 3,
            "forced_eos_token_id": None,
        },
        transformers.AutoModelForSeq2SeqLM,
    ),
    # Its head has no weights of its own, as that of GPT-2; Llama's has.
    "qwen2": Architecture(
        _trained("Qwen2Tokenizer"),
        transformers.Qwen2Config,
        {**_DECODER, "tie_word_embeddings": True},
        _CAUSAL,
    ),
}
DECODERS = {name for name, found in ARCHITECTURES.items() if found.auto is _CAUSAL}
ENCODER_DECODERS = {"t5", "bart"}
ONE_STACK = [name for name in ARCHITECTURES if name not in ENCODER_DECODERS]
# It has a head that labels texts, and none that tags words.
NO_TAGGER = Architecture(
    _trained("GPT2Tokenizer"),
    transformers.OPTConfig,
    {"ffn_dim": 64, "word_embed_proj_dim": 32},
    _CAUSAL,
)
