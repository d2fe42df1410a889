"""BM25 at the true average length, from vectors that were stored for a nominal one. Pure.

A stored weight ``v = tf * (k1 + 1) / (tf + A0)``, with ``A0`` what holds the passage back at the nominal average
length, gives back ``tf = v * A0 / (k1 + 1 - v)``, which is an integer and so survives the rounding of ``v`` to 32 bits.
The weight at the true average follows from it. Nothing but the stored vector and the passage's length is needed.

Against the stored weight that is a factor of ``(tf + A0) / (tf + A)``. Where the true average is the smaller one, this
is below 1; else it is largest for ``tf`` = 1 in the longest passage. So what a store scores at most ``s`` has at
most ``s * largest_factor`` in truth: the bound that tells when the best passages are all among those seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragstack.embedding.bm25 import Bm25Encoder
from ragstack.errors import IndexFormatError
from ragstack.types import SparseVector


@dataclass(frozen=True)
class Bm25Query:
    """A query over one snapshot: its vector (idf times how often each term is asked for), and what lengths mean there.

    ``average_length`` and ``longest`` are those of the snapshot's chunks, in terms; both above 0.
    """

    encoder: Bm25Encoder
    vector: SparseVector
    average_length: float
    longest: int

    def true_weights(self, stored: NDArray[np.float64], term_counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """The weights at the snapshot's average length of stored ones, each of a passage of so many terms."""
        frequencies = self.frequencies(stored, term_counts)
        true = _held_back(self.encoder, term_counts, self.average_length)
        weights: NDArray[np.float64] = frequencies * (self.encoder.k1 + 1) / (frequencies + true)
        return weights

    def frequencies(self, stored: NDArray[np.float64], term_counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """How often the terms with these stored weights occur, each in a passage of so many terms."""
        nominal = _held_back(self.encoder, term_counts, self.encoder.nominal_length)
        # Rounded to 32 bits, the weight of a term of thousands may reach what it only approaches.
        missing = np.maximum(self.encoder.k1 + 1 - stored, np.finfo(np.float32).tiny)
        found: NDArray[np.float64] = np.clip(np.rint(stored * nominal / missing), 1, np.maximum(term_counts, 1))
        return found

    @property
    def largest_factor(self) -> float:
        """By how much at most a passage's true score exceeds the one that its stored vector gives."""
        if self.average_length <= self.encoder.nominal_length:
            return 1.0
        held_back = self.encoder.held_back
        nominal, true = (held_back(self.longest, x) for x in (self.encoder.nominal_length, self.average_length))
        return (1 + nominal) / (1 + true)

    @property
    def least_score_with_all(self) -> float:
        """The least that a store scores a passage with every term of the query: each once, in the longest passage."""
        encoder = self.encoder
        once = (encoder.k1 + 1) / (1 + encoder.held_back(self.longest, encoder.nominal_length))
        return once * float(self.vector.values.sum()) * (1 - 1e-5)

    @property
    def depth_factor(self) -> float:
        """About how many times deeper than asked for to look, so that one search is usually enough.

        Read off SciFact for average lengths of a tenth to ten times the nominal one (docs/bm25.md).
        """
        ratio = self.average_length / self.encoder.nominal_length
        return 1.1 * (math.pow(ratio, 2 * self.encoder.b) if ratio > 1 else math.pow(ratio, -self.encoder.b))


def stored_term_count(payload: Mapping[str, Any], chunk_id: str) -> int:
    """The length of a stored chunk in BM25 terms. Raises IndexFormatError where the payload does not tell it."""
    count = payload.get("term_count")
    if not isinstance(count, int):
        raise IndexFormatError(
            f"the store's record {chunk_id} does not tell its number of terms; this version did not write it.",
            hint="Rebuild the index with: ragstack index --rebuild",
        )
    return count


def _held_back(encoder: Bm25Encoder, lengths: NDArray[np.float64], average_length: float) -> NDArray[np.float64]:
    return encoder.k1 * (1 - encoder.b + encoder.b * lengths / average_length)
