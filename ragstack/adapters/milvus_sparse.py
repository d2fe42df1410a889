"""Sparse search that is exact on an engine that takes only positive weights. Pure.

Milvus refuses negative weights, empty vectors and the index 2**32 - 1, and sums in 32-bit floats in an order
of its own. So its column ``sparse`` holds a vector whose dot product with the query's positive part is at
least the true one: negative weights left out, the last indices merged, something small where nothing is
left. Hits come in the order of that bound, and are scored again from the vector that was given, until no
further one can be among the best. The bound fails only for a record with negative weights asked with
negative weights; those records carry :data:`NEGATIVE_TERM` and are looked at one by one.
"""

from __future__ import annotations

import numpy as np

from ragstack.types import SparseVector

NEGATIVE_TERM = "negative-weights"
"""Term of the records that have a negative weight."""
_PLACEHOLDER = 2**32 - 2
_LAST = 2**32 - 3
_TINY = 1e-30


def bounding_weights(vector: SparseVector) -> dict[int, float]:
    """What is stored for the engine: index to positive weight, never empty."""
    return positive_weights(vector) or {_PLACEHOLDER: _TINY}


def positive_weights(vector: SparseVector) -> dict[int, float]:
    """The positive part, in the engine's range of indices; may be empty."""
    indices, values = vector.indices.tolist(), vector.values.tolist()
    if not indices or (indices[-1] <= _LAST and min(values) > 0):  # as good as all are
        return dict(zip(indices, values, strict=True))
    weights: dict[int, float] = {}
    for index, value in zip(indices, values, strict=True):
        if value > 0:
            at = min(index, _LAST)
            weights[at] = weights.get(at, 0.0) + value
    return weights


def bound_error(query: SparseVector, bound: float) -> float:
    """By how much the engine's 32-bit sum may be below the true bound."""
    return 4 * float(np.finfo(np.float32).eps) * (len(query) + 2) * abs(bound)
