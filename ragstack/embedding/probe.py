"""What an encoder is asked in a self-check (:mod:`ragstack.inference.self_check`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragstack.embedding.model_files import ResolvedModel
from ragstack.embedding.pooling import pool, unit_rows
from ragstack.inference.backend import Backend, TokenBatch, chosen_output
from ragstack.inference.check_texts import CHECK_TEXTS, long_text
from ragstack.inference.self_check import Probe
from ragstack.types import Float32Array

_OUTPUTS = ("last_hidden_state", "token_embeddings")
_MEASURED_TEXTS, _MEASURED_TOKENS = 2, 256


def encoder_probe(model: ResolvedModel) -> Probe:
    """Short and long texts together, and the longest one alone; their dense vectors are compared."""
    tokenizer, pooling = model.tokenizer, model.card.pooling
    most = model.card.max_tokens + tokenizer.specials
    ids = [found[:most] for found in tokenizer.input_ids(CHECK_TEXTS)]
    longest = tokenizer.input_ids([long_text(_MEASURED_TOKENS)])[0][: min(most, _MEASURED_TOKENS)]

    def read(backend: Backend, batch: TokenBatch) -> Float32Array:
        hidden = backend.run(batch, chosen_output(backend, _OUTPUTS))
        dense = backend.to_host(pool(hidden, batch.counts, pooling))
        return unit_rows(dense, np.arange(len(dense), dtype=np.int32), "dense")

    batches = (_batch(ids), _batch([max(ids, key=len)]))
    return Probe(batches, _batch([longest] * _MEASURED_TEXTS), read, "cosine")


def _batch(texts: Sequence[Sequence[int]]) -> TokenBatch:
    counts = np.array([len(ids) for ids in texts], dtype=np.int64)
    ids = np.zeros((len(texts), int(counts.max())), dtype=np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
    return TokenBatch(ids, counts)
