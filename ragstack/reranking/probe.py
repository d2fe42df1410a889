"""What a cross-encoder is asked in a self-check (:mod:`ragstack.inference.self_check`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Encoding

from ragstack.inference.backend import Backend, TokenBatch, chosen_output
from ragstack.inference.check_texts import CHECK_QUERY, CHECK_TEXTS, long_text
from ragstack.inference.self_check import Probe
from ragstack.reranking.cross_encoder_files import CrossEncoderFiles
from ragstack.types import Float32Array

_OUTPUTS = ("logits", "scores")
_MEASURED_PAIRS, _MEASURED_TOKENS = 2, 256


def pair_probe(files: CrossEncoderFiles) -> Probe:
    """A question with passages about it and about other things; their relevances are compared."""
    tokenizer = files.tokenizer()
    most = files.max_tokens

    def batch(passages: Sequence[str], limit: int) -> TokenBatch:
        return _batch([tokenizer.encode(CHECK_QUERY, passage) for passage in passages], limit, files.pad_id)

    def read(backend: Backend, asked: TokenBatch) -> Float32Array:
        return relevances(backend.to_host(backend.run(asked, chosen_output(backend, _OUTPUTS))))

    long = long_text(_MEASURED_TOKENS)
    batches = (batch(CHECK_TEXTS, most), batch(CHECK_TEXTS[-1:], most))
    return Probe(batches, batch([long] * _MEASURED_PAIRS, min(most, _MEASURED_TOKENS)), read, "relevance")


def relevances(logits: Float32Array) -> Float32Array:
    """Each pair's share of each label ``(n, labels)``: the logistic function of one logit, the softmax of several."""
    rows = logits.reshape(len(logits), -1).astype(np.float64)
    if rows.shape[1] == 1:
        return np.asarray(1 / (1 + np.exp(-np.clip(rows, -500, 500))), dtype=np.float32)
    shares = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float32)


def _batch(encodings: Sequence[Encoding], limit: int, pad_id: int) -> TokenBatch:
    counts = np.array([min(len(encoding.ids), limit) for encoding in encodings], dtype=np.int64)
    shape = (len(encodings), int(counts.max()))
    ids, type_ids = np.full(shape, pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, encoding in enumerate(encodings):
        count = int(counts[row])
        ids[row, :count], type_ids[row, :count] = encoding.ids[:count], encoding.type_ids[:count]
    return TokenBatch(ids, counts, type_ids)
