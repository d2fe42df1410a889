"""Models of the true architectures, scaled down, with random weights: made and run by `transformers` itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from ragstack.inference.backend import TokenBatch
from ragstack.inference.profile import WeightsFormat

VOCABULARY = 300
WINDOW = 16  # of layers that see so far only; texts of the tests are longer

_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 200,
}
_ROBERTA = {**_BERT, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}
_LLAMA = {**_BERT, "num_key_value_heads": 2, "pad_token_id": None}
_QWEN = {**_LLAMA, "head_dim": 16, "pad_token_id": 0}

SHAPES: dict[str, dict[str, Any]] = {
    "bert": {**_BERT, "pad_token_id": 0},
    "camembert": _ROBERTA,
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 200},
    "electra": {**_BERT, "embedding_size": 16},
    "ernie": {**_BERT, "pad_token_id": 0},
    "eurobert": {**_LLAMA, "pad_token_id": 0},
    "gemma3_text": {**_QWEN, "sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    "llama": _LLAMA,
    "mistral": {**_LLAMA, "sliding_window": WINDOW, "head_dim": None},
    "modernbert": {
        **_BERT,
        "num_hidden_layers": 4,
        "local_attention": WINDOW,
        "global_attn_every_n_layers": 3,
        "pad_token_id": 0,
        "classifier_pooling": "mean",
    },
    "nomic_bert": {**_BERT, "pad_token_id": 0},
    "qwen2": _QWEN,
    "qwen3": _QWEN,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    # Attention that is given more than a mask, positions relative to each other: run with their padding.
    "deberta-v2": {
        **_BERT,
        "pad_token_id": 0,
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 16,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
    },
    "mpnet": {**_ROBERTA, "type_vocab_size": 2},
}


@dataclass(frozen=True)
class FolderWeights:
    """A :class:`ragstack.inference.profile.ModelWeights` over a folder of a test."""

    root: Path
    label_tokens: tuple[int, ...] = ()

    @property
    def sha256(self) -> str:
        return str(self.root)

    @property
    def formats(self) -> frozenset[WeightsFormat]:
        return frozenset({"safetensors"})

    def onnx(self) -> bytes | Path:
        raise AssertionError("a torch profile reads no ONNX")

    def folder(self) -> Path:
        return self.root


def make_model(folder: Path, model_type: str, kind: str = "base", **settings: Any) -> Any:
    """Save a random model, and give it in evaluation mode, fp32. ``kind``: ``base``, ``classifier`` or ``causal``."""
    torch.manual_seed(7)
    given = {"vocab_size": VOCABULARY, "initializer_range": 0.3, **SHAPES[model_type], **settings}
    config = transformers.CONFIG_MAPPING[model_type](
        **{k: v for k, v in given.items() if v is not None or k == "pad_token_id"}
    )
    auto = {
        "base": transformers.AutoModel,
        "classifier": transformers.AutoModelForSequenceClassification,
        "causal": transformers.AutoModelForCausalLM,
    }[kind]
    model = auto.from_config(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim == 1:  # biases and norms, made as zeros and ones: one that is left out would not be missed
                value.add_(torch.randn_like(value), alpha=0.3)
    model.save_pretrained(folder)
    return model


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def random_batch(lengths: Sequence[int], *, seed: int = 0, padding: int = 3, types: bool = False) -> TokenBatch:
    """Texts of random tokens. ``padding`` is a word like any other: what stands in the padding must not matter."""
    random = np.random.default_rng(seed)
    counts = np.array(lengths, dtype=np.int64)
    ids = np.full((len(lengths), counts.max()), padding, dtype=np.int64)
    type_ids = np.zeros_like(ids)
    for row, count in enumerate(lengths):
        ids[row, :count] = random.integers(5, VOCABULARY, count)
        type_ids[row, count // 2 : count] = 1
    return TokenBatch(ids, counts, type_ids if types else None)


def row(batch: TokenBatch, index: int) -> TokenBatch:
    """One text of a batch, alone."""
    count = batch.counts[index]
    types = None if batch.type_ids is None else batch.type_ids[index : index + 1, :count]
    return TokenBatch(batch.ids[index : index + 1, :count], batch.counts[index : index + 1], types)
