"""Sparse scores that do not depend on the order of insertion. Pure.

The driver sums a dot product in 32-bit floats, in an order of terms that depends on which term it saw
first. Here the products are summed in 64-bit floats in the order of the indices and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np

from ragstack.adapters.sparse_dot import shared_entries, summed
from ragstack.types import Float32Array, SparseVector


class Rescored(NamedTuple):
    """Stored vectors, their ``(n,) float32`` dot products with the query, and an error bound.

    The bound is the most by which two of the driver's own scores may be out of their true order.
    """

    vectors: list[SparseVector]
    scores: Float32Array
    error: float


def rescored_vectors(query: SparseVector, stored: Sequence[Any]) -> Rescored:
    """Score ``stored``, the driver's vectors (``indices`` and ``values``), again."""
    vectors = _read(stored)
    entries = shared_entries(query, vectors)
    scores = summed(query, entries, len(vectors))
    products = np.abs(entries.values * query.values[entries.at].astype(np.float64))
    magnitudes = np.bincount(entries.rows, weights=products, minlength=len(vectors))
    unit = float(np.finfo(np.float32).eps)
    return Rescored(vectors, scores, 2 * unit * (len(query) + 1) * float(magnitudes.max(initial=0.0)))


def _read(stored: Sequence[Any]) -> list[SparseVector]:
    """All vectors at once: a hundred small arrays would cost more than the search."""
    columns = [vector.indices for vector in stored]
    ends = np.cumsum([0, *map(len, columns)])
    rows = np.repeat(np.arange(len(stored)), np.diff(ends))
    indices = np.array(list(chain.from_iterable(columns)), dtype=np.uint32)
    values = np.array(list(chain.from_iterable(vector.values for vector in stored)), dtype=np.float32)
    if not np.all((indices[:-1] < indices[1:]) | (rows[:-1] < rows[1:])):
        order = np.lexsort((indices, rows))
        indices, values = indices[order], values[order]
    cuts = ends.tolist()
    return [SparseVector(indices[start:end], values[start:end]) for start, end in pairwise(cuts)]
