"""Sparse scores that do not depend on the order of insertion. Pure.

The driver sums a dot product in 32-bit floats, in an order of terms that depends on which term it saw
first. Here the products are summed in 64-bit floats in the order of the indices and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import qdrant_edge as qdrant

from ragstack.adapters.qdrant_records import SPARSE
from ragstack.types import Float32Array, SparseVector


def rescored(query: SparseVector, points: Sequence[qdrant.ScoredPoint]) -> tuple[Float32Array, float]:
    """See :func:`rescored_vectors`, for points read with their sparse vectors."""
    return rescored_vectors(query, [point.vector[SPARSE] for point in points if isinstance(point.vector, dict)])


def rescored_vectors(query: SparseVector, stored: Sequence[Any]) -> tuple[Float32Array, float]:
    """``(n,) float32`` dot products of the query with ``stored`` (``indices`` and ``values``), and an error bound.

    The bound is the most by which two of the driver's own scores may be out of their true order.
    """
    columns = [vector.indices for vector in stored]
    rows = np.repeat(np.arange(len(stored)), [len(column) for column in columns])
    indices = np.array(list(chain.from_iterable(columns)), dtype=np.uint32)
    values = np.array(list(chain.from_iterable(vector.values for vector in stored)), dtype=np.float64)
    at = np.minimum(np.searchsorted(query.indices, indices), len(query) - 1)
    shared = query.indices[at] == indices
    rows, indices = rows[shared], indices[shared]
    products = values[shared] * query.values[at[shared]].astype(np.float64)
    order = np.lexsort((indices, rows))
    rows, products = rows[order], products[order]
    scores = np.bincount(rows, weights=products, minlength=len(stored))
    magnitudes = np.bincount(rows, weights=np.abs(products), minlength=len(stored))
    unit = float(np.finfo(np.float32).eps)
    error = 2 * unit * (len(query) + 1) * float(magnitudes.max(initial=0.0))
    return scores.astype(np.float32), error
