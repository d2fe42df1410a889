"""BM25 as sparse vectors, for any store that can take a dot product.

The BM25 score of a passage for a query is a sum over their common terms of a factor that depends on the
passage alone (how often the term occurs, how long the passage is) and one that depends on the query and the
corpus (how rare the term is). The first is stored, the second is put into the query's vector. Stored vectors
therefore never change when other passages come or go; their average length is a setting, not a statistic.

A term's index is the first 32 bits of its BLAKE2b hash. Among V distinct terms, a given term shares its index
with another one with probability about V / 2**32: 1 in 43,000 for V = 100,000, 1 in 4,300 for a million. Two terms
that share an index count as one term; ranking suffers by less than one match.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ragstack.embedding.terms import TermAnalyzer
from ragstack.types import SparseVector, UInt32Array

DocumentFrequency: TypeAlias = Callable[[Sequence[int]], Sequence[int]] | Mapping[int, int]
_CACHE_LIMIT = 100_000  # about 20 MB
_FORMAT = 1


def term_index(term: str) -> int:
    """The uint32 index of a term: the first 4 bytes of its BLAKE2b hash, little-endian; equal on every machine."""
    return int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "little")


@dataclass(frozen=True)
class Bm25Encoder:
    """Encodes passages and queries; the dot product of the two is the BM25 score.

    ``language`` names a Snowball stemmer (None: no stemming, no stop words). ``k1`` says how soon repeating
    a term stops to count, ``b`` (0 to 1) how much long passages are held back. ``avg_len`` is the length, in
    terms, of a usual passage: a constant of the pipeline. Raises InputError for an unknown language
    and ValueError for numbers out of range. Safe to call from several threads.
    """

    language: str | None = "english"
    k1: float = 1.2
    b: float = 0.75
    avg_len: float = 100.0
    _analyzer: TermAnalyzer = field(init=False, repr=False, compare=False)
    _ids: dict[str, tuple[int, ...]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.k1 > 0 and 0 <= self.b <= 1 and self.avg_len > 0):
            raise ValueError(
                f"BM25 needs k1 > 0, 0 <= b <= 1 and avg_len > 0; got k1={self.k1}, b={self.b}, avg_len={self.avg_len}"
            )
        object.__setattr__(self, "_analyzer", TermAnalyzer(self.language))

    @property
    def fingerprint(self) -> dict[str, object]:
        """What changes the stored vectors, as JSON-able values."""
        return {"bm25": _FORMAT, "language": self.language, "k1": self.k1, "b": self.b, "avg_len": self.avg_len}

    def encode_passage(self, text: str) -> SparseVector:
        """The vector that is stored: ``tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / avg_len))`` for each term.

        ``tf`` counts the term in the text, ``length`` all terms of it. Empty for a text without words.
        """
        indices, counts = self._counts(text)
        held_back = self.k1 * (1 - self.b + self.b * counts.sum() / self.avg_len)
        return SparseVector(indices, (counts * (self.k1 + 1) / (counts + held_back)).astype(np.float32))

    def encode_query_terms(self, text: str) -> SparseVector:
        """How often each term occurs in a query; :meth:`encode_query` multiplies these by the terms' idf."""
        indices, counts = self._counts(text)
        return SparseVector(indices, counts.astype(np.float32))

    def encode_query(self, text: str, document_frequency: DocumentFrequency, document_count: int) -> SparseVector:
        """The query's vector: how often each term occurs in it, times ``ln(1 + (N - df + 0.5) / (df + 0.5))``.

        ``document_frequency`` gives, for term indices, in how many passages each occurs: a function of a
        sequence of indices, or a mapping (absent: 0). ``document_count`` is N. Raises ValueError when a
        frequency is negative or above N.
        """
        indices, counts = self._counts(text)
        ids: list[int] = indices.tolist()
        if isinstance(document_frequency, Mapping):
            frequencies: Sequence[int] = [document_frequency.get(i, 0) for i in ids]
        else:
            frequencies = document_frequency(ids)
        if len(frequencies) != len(ids):
            raise ValueError(f"document_frequency gave {len(frequencies)} numbers for {len(ids)} terms")
        weights = np.array([idf(df, document_count) for df in frequencies], dtype=np.float64)
        return SparseVector(indices, (counts * weights).astype(np.float32))

    def term_ids(self, text: str) -> UInt32Array:
        """The distinct term indices of a text, ``(n,) uint32``, ascending: what document frequencies count."""
        return self._counts(text)[0]

    def _counts(self, text: str) -> tuple[UInt32Array, NDArray[np.float64]]:
        known = self._ids
        if len(known) >= _CACHE_LIMIT:
            known.clear()
        found: list[tuple[int, ...]] = []
        for token in self._analyzer.tokens(text):
            ids = known.get(token)
            if ids is None:
                ids = tuple(term_index(term) for term in self._analyzer.terms_of(token))
                known[token] = ids
            found.append(ids)
        counts = Counter(chain.from_iterable(found))
        indices = np.fromiter(counts.keys(), dtype=np.uint32, count=len(counts))
        values = np.fromiter(counts.values(), dtype=np.float64, count=len(counts))
        order = np.argsort(indices)
        return indices[order], values[order]


def idf(document_frequency: int, document_count: int) -> float:
    """Inverse document frequency, ``ln(1 + (N - df + 0.5) / (df + 0.5))``: always above 0.

    Raises ValueError when ``document_frequency`` is not between 0 and ``document_count``.
    """
    if not 0 <= document_frequency <= document_count:
        raise ValueError(
            f"a term cannot occur in {document_frequency} of {document_count} passages; "
            "the corpus statistics do not belong to one snapshot"
        )
    return math.log(1 + (document_count - document_frequency + 0.5) / (document_frequency + 0.5))
