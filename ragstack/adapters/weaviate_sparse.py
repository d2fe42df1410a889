"""The sparse leg on a store without sparse vectors: candidates by BM25, scores from the vectors themselves. Pure.

A record's sparse vector is kept as it is in one property, and its entries are indexed as words of another:
each entry is one word (its sign and index in hex), repeated in proportion to its weight. With ``b`` next to
0 and a large ``k1``, Weaviate's BM25 of such a text is close to (idf of the word) x (weight), which is what
a query of BM25 weights asks for; so its best are candidates for the best, and the dot products of those are
computed here, in 64-bit floats, in the order of the indices, and rounded once. They depend on what is stored
alone.

A dot product can only be positive where an entry of the query and one of the record share index and sign, so
where the server returned all records that share a word with the query, the result is exact.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragstack.types import SparseVector

BM25_K1 = 1000.0
"""Large against any repetition, so that a word's score grows evenly with it."""
BM25_B = 1e-6
"""Texts of any length count the same; the driver cannot read back a plain 0."""
REPEATS_PER_UNIT = 6
"""Repetitions of a word for a weight of 1."""
_MAX_REPEATS = 48
_MAX_QUERY_REPEATS = 64
_EVEN = 0.75
"""Weights of which none is below this share of the largest, by idf, are asked for once each."""


def encode_sparse(vector: SparseVector) -> str:
    """The vector as text: base64 of the little-endian indices, then the values."""
    data = vector.indices.astype("<u4").tobytes() + vector.values.astype("<f4").tobytes()
    return base64.b64encode(data).decode("ascii")


def decode_sparse(text: str) -> SparseVector:
    """The inverse of :func:`encode_sparse`; ValueError for anything else."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"a stored sparse vector is not base64: {error}") from error
    if len(data) % 8:
        raise ValueError(f"a stored sparse vector has {len(data)} bytes")
    half = len(data) // 2
    return SparseVector(
        np.frombuffer(data[:half], dtype="<u4").astype(np.uint32),
        np.frombuffer(data[half:], dtype="<f4").astype(np.float32),
    )


def words_of_record(vector: SparseVector) -> str:
    """The text that is indexed for a record's sparse vector."""
    return _words(vector, _repeats(vector))


def words_of_query(vector: SparseVector, repeats: NDArray[np.int64] | None = None) -> str:
    """The text to ask for: every entry of a query once, or as often as ``repeats`` says.

    The server multiplies the idf of a word in by itself, and once is right where the weights are the idf.
    """
    return _words(vector, np.ones(len(vector), dtype=np.int64) if repeats is None else repeats)


def _words(vector: SparseVector, repeats: NDArray[np.int64]) -> str:
    return " ".join(
        " ".join([f"{'p' if value > 0 else 'n'}{index:x}"] * count)
        for index, value, count in zip(vector.indices.tolist(), vector.values.tolist(), repeats.tolist(), strict=True)
        if value
    )


def _repeats(vector: SparseVector) -> NDArray[np.int64]:
    counts = np.rint(np.abs(vector.values.astype(np.float64)) * REPEATS_PER_UNIT)
    return np.asarray(np.clip(counts, 1, _MAX_REPEATS), dtype=np.int64)


def fitting_repeats(
    query: SparseVector, stored: Sequence[SparseVector], scores: Sequence[float]
) -> NDArray[np.int64] | None:
    """How often to ask for each word, so that the server's scores go with the dot products; None: once will do.

    The server does not tell the idf of a word. But ``scores`` are what it gave to ``stored`` when each word was
    asked for once: sums of idf x a known share of each word, which are solved for the idf here.
    """
    rows = np.repeat(np.arange(len(stored)), [len(vector) for vector in stored])
    entries = SparseVector(
        np.concatenate([vector.indices for vector in stored]), np.concatenate([vector.values for vector in stored])
    )
    at = np.minimum(np.searchsorted(query.indices, entries.indices), len(query) - 1)
    same = (query.indices[at] == entries.indices) & (query.values[at] * entries.values > 0)
    counts = _repeats(entries)[same]
    shares = np.zeros((len(stored), len(query)))
    shares[rows[same], at[same]] = counts / (counts + BM25_K1) * BM25_K1
    # The normal equations are as many as words: a small system, solved without the threads of a large one.
    given = np.asarray(scores, dtype=np.float64) * BM25_K1
    idf = np.linalg.lstsq(shares.T @ shares, shares.T @ given, rcond=None)[0]
    known = shares.any(axis=0) & (idf > 0)
    if not known.any():
        return None
    wanted = np.abs(query.values[known].astype(np.float64)) / idf[known]
    if wanted.min() >= _EVEN * wanted.max():
        return None
    repeats = np.ones(len(query), dtype=np.int64)
    repeats[known] = np.clip(np.rint(wanted / wanted.max() * _MAX_QUERY_REPEATS), 1, _MAX_QUERY_REPEATS)
    return repeats
