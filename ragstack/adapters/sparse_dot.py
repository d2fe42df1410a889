"""Sparse scores that depend on what is stored alone, for engines whose sums depend on their order. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragstack.types import Float32Array, SparseVector


def dot_products(query: SparseVector, stored: Sequence[SparseVector]) -> Float32Array:
    """``(n,) float32`` dot products of the query with each vector, whatever their order and company.

    Products are summed in 64-bit floats in the order of the indices, and rounded once.
    """
    if not len(query) or not stored:
        return np.zeros(len(stored), dtype=np.float32)
    rows = np.repeat(np.arange(len(stored)), [len(vector) for vector in stored])
    indices = np.concatenate([vector.indices for vector in stored])
    values = np.concatenate([vector.values for vector in stored]).astype(np.float64)
    at = np.minimum(np.searchsorted(query.indices, indices), len(query) - 1)
    shared = query.indices[at] == indices
    products = values[shared] * query.values[at[shared]].astype(np.float64)
    return np.bincount(rows[shared], weights=products, minlength=len(stored)).astype(np.float32)
