"""Sparse scores that depend on what is stored alone, for engines whose sums depend on their order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragstack.types import Float32Array, SparseVector


class SharedEntries(NamedTuple):
    """The entries that stored vectors share with a query, one of each array for each: vector by vector, by index.

    ``rows`` says which vector an entry is of, ``at`` which entry of the query it meets; ``values`` are the stored ones.
    """

    rows: NDArray[np.int64]
    at: NDArray[np.int64]
    values: NDArray[np.float64]


def shared_entries(query: SparseVector, stored: Sequence[SparseVector]) -> SharedEntries:
    """The entries of the ``stored`` vectors whose index is in the query."""
    if not len(query) or not stored:
        empty = np.empty(0, dtype=np.int64)
        return SharedEntries(empty, empty, np.empty(0))
    rows = np.repeat(np.arange(len(stored)), [len(vector) for vector in stored])
    indices = np.concatenate([vector.indices for vector in stored])
    values = np.concatenate([vector.values for vector in stored]).astype(np.float64)
    at = np.minimum(np.searchsorted(query.indices, indices), len(query) - 1)
    shared = query.indices[at] == indices
    return SharedEntries(rows[shared], at[shared], values[shared])


def dot_products(query: SparseVector, stored: Sequence[SparseVector]) -> Float32Array:
    """``(n,) float32`` dot products of the query with each vector, whatever their order and company."""
    return summed(query, shared_entries(query, stored), len(stored))


def summed(query: SparseVector, entries: SharedEntries, count: int) -> Float32Array:
    """``(count,) float32`` sums of the entries' products with the query, by row.

    Products are summed in 64-bit floats in the order of the indices, and rounded once.
    """
    products = entries.values * query.values[entries.at].astype(np.float64)
    return np.bincount(entries.rows, weights=products, minlength=count).astype(np.float32)
