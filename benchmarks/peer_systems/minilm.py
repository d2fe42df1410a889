"""all-MiniLM-L6-v2 as sentence-transformers runs it, on ONNX Runtime: for the systems that ragstack is compared with.

The weights are those that ragstack uses. Texts are sorted by length, read in batches of 32, padded to the longest and
cut at 256 tokens, which is the ``max_seq_length`` that the model is published with; what is cut off is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import BertWordPieceTokenizer

_MAX_TOKENS = 256
_BATCH = 32


class MiniLm:
    """Embeds texts; counts the tokens it was given and those it read, special tokens left out."""

    def __init__(self, weights: str, vocabulary: str) -> None:
        self._session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
        self._inputs = {value.name for value in self._session.get_inputs()}
        self._tokenizer = BertWordPieceTokenizer(vocabulary, lowercase=True)
        self.tokens_given = self.tokens_read = 0

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of length 1 for each text."""
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        self.tokens_given += sum(len(ids) - 2 for ids in encoded)
        cut = [ids if len(ids) <= _MAX_TOKENS else [*ids[: _MAX_TOKENS - 1], ids[-1]] for ids in encoded]
        self.tokens_read += sum(len(ids) - 2 for ids in cut)
        vectors: list[Any] = [None] * len(cut)
        order = sorted(range(len(cut)), key=lambda i: -len(cut[i]))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            for i, vector in zip(batch, self._run([cut[i] for i in batch]), strict=True):
                vectors[i] = vector.tolist()
        return vectors

    def _run(self, batch: Sequence[Sequence[int]]) -> Any:
        longest = max(map(len, batch))
        ids = np.array([[*row, *([0] * (longest - len(row)))] for row in batch], dtype=np.int64)
        mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in batch], dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, {name: feeds[name] for name in feeds if name in self._inputs})[0]
        pooled = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
