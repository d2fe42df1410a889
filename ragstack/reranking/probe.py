"""What a cross-encoder is asked in a self-check (:mod:`ragstack.inference.self_check`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragstack.inference.backend import Backend, TokenBatch, chosen_output
from ragstack.inference.check_texts import CHECK_QUERY, CHECK_TEXTS, long_text
from ragstack.inference.self_check import Probe
from ragstack.reranking.base import RerankCandidate
from ragstack.reranking.cross_encoder_files import CrossEncoderFiles
from ragstack.reranking.pairs import Pair
from ragstack.types import Chunk, Float32Array

_OUTPUTS = ("logits", "scores")
_MEASURED_PAIRS, _MEASURED_WORDS = 2, 200


def pair_probe(files: CrossEncoderFiles) -> Probe:
    """A question with passages about it and about other things; their relevances are compared."""
    encoder = files.encoder(windows=True)

    def pairs(passages: Sequence[str]) -> list[Pair]:
        return encoder.pairs(CHECK_QUERY, [_candidate(*numbered) for numbered in enumerate(passages)])

    def read(backend: Backend, batch: TokenBatch) -> Float32Array:
        return relevances(backend.to_host(backend.run(batch, chosen_output(backend, _OUTPUTS))))

    asked = pairs(CHECK_TEXTS)
    together = [] if files.pad_id is None or files.scales_with_its_batch else [asked]
    batches = tuple(_batch(part, files.pad_id) for part in (*together, *([pair] for pair in asked)))
    measured = pairs([long_text(_MEASURED_WORDS)])[:1] * _MEASURED_PAIRS
    return Probe(batches, _batch(measured, files.pad_id), read, "relevance")


def relevances(logits: Float32Array) -> Float32Array:
    """Each pair's share of each label ``(n, labels)``: the logistic function of one logit, the softmax of several."""
    rows = logits.reshape(len(logits), -1).astype(np.float64)
    if rows.shape[1] == 1:
        return np.asarray(1 / (1 + np.exp(-np.clip(rows, -500, 500))), dtype=np.float32)
    shares = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), dtype=np.float32)


def _candidate(number: int, passage: str) -> RerankCandidate:
    return RerankCandidate(Chunk(str(number), "", "", 0, len(passage.encode()), passage, 0), None, None)


def _batch(pairs: Sequence[Pair], pad_id: int | None) -> TokenBatch:
    counts = np.array([len(pair.ids) for pair in pairs], dtype=np.int64)
    shape = (len(pairs), int(counts.max()))
    ids, type_ids = np.full(shape, pad_id or 0, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, pair in enumerate(pairs):
        ids[row, : counts[row]], type_ids[row, : counts[row]] = pair.ids, pair.type_ids
    return TokenBatch(ids, counts, type_ids)
