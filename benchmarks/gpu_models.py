"""Models of the true shapes with random weights, as the folders that ragstack and sentence-transformers both read.

What a model costs does not depend on its weights, and these can't be had where there is no network. The tokenizer is a
list of words, one token each, so that texts have exactly the lengths asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
WORDS = 2000

_XLM_R = {
    "vocab_size": 250_002,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "max_position_embeddings": 8194,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}
_LLAMA = {
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 8192,
    "max_position_embeddings": 8192,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "is_causal": False,
}
_SMALL = {
    "vocab_size": 4000,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 16,
    "intermediate_size": 128,
}


@dataclass(frozen=True)
class Shape:
    """A model's shape. ``pooling`` is None for a cross-encoder.

    ``target`` is what one H200 must reach: tokens a second, or pairs of 512 tokens.
    """

    name: str
    model_type: str
    settings: Mapping[str, Any]
    pooling: Literal["cls", "mean"] | None
    target: float


SHAPES = (
    Shape("bge-m3", "xlm-roberta", _XLM_R, "cls", 600_000),
    Shape("llama-3.2-1b-bidirectional", "llama", _LLAMA, "mean", 180_000),
    Shape("bge-reranker-v2-m3", "xlm-roberta", _XLM_R, None, 1_200),
)


@dataclass(frozen=True)
class MadeModel:
    """A saved model. ``multiplications`` ``(a, b)`` so that a text of L tokens takes ``a L + b L²`` of them."""

    folder: Path
    multiplications: tuple[int, int]

    def flops(self, lengths: list[int]) -> float:
        """Floating point operations of texts of so many tokens: two for each multiplication, which is added too."""
        per_token, per_pair = self.multiplications
        return 2.0 * sum(per_token * length + per_pair * length * length for length in lengths)


def make_model(shape: Shape, folder: Path, *, device: str, dtype: torch.dtype, small: bool) -> MadeModel:
    """Save the model with random weights; ``small``: its architecture at a size that a CPU runs in no time."""
    folder.mkdir(parents=True)
    settings = {**shape.settings, **(_SMALL if small else {})}
    if "num_key_value_heads" in settings and small:
        settings["num_key_value_heads"] = 2
    config = transformers.CONFIG_MAPPING[shape.model_type](**settings)
    if shape.pooling is None:
        config.num_labels = 1
    auto = transformers.AutoModel if shape.pooling else transformers.AutoModelForSequenceClassification
    with torch.device(device):
        model = auto.from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    _write_tokenizer(folder)
    if shape.pooling:
        _write_modules(folder, shape.pooling, config.hidden_size)
    encoder = model.base_model
    linear = sum(
        value.numel()
        for name, value in encoder.named_parameters()
        if value.ndim == 2 and "embed" not in name and "pooler" not in name
    )
    # Of each pair of tokens, queries with keys and weights with values.
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 2 * config.num_hidden_layers * config.num_attention_heads * head_dim
    return MadeModel(folder, (linear, attention))


def _write_tokenizer(folder: Path) -> None:
    vocabulary = {word: at for at, word in enumerate((*SPECIALS, *(f"w{n}" for n in range(WORDS))))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 512,
        **dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), SPECIALS, strict=True)),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _write_modules(folder: Path, pooling: str, dim: int) -> None:
    parts = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{name}"}
        for at, (name, path) in enumerate(parts.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 512, "do_lower_case": False}))
    for part in ("1_Pooling", "2_Normalize"):
        (folder / part).mkdir()
    modes = {f"pooling_mode_{mode}": mode.startswith(pooling) for mode in ("cls_token", "mean_tokens")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": dim, **modes}))
