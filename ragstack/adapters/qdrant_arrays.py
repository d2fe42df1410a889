"""The lists of numbers that Qdrant's drivers give, as arrays. Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ragstack.types import Float32Array, SparseVector


def dense_of(values: Sequence[float]) -> Float32Array:
    """``(n,) float32``."""
    vector: Float32Array = _array(values, "f")
    return vector


def sparse_of(indices: Sequence[int], values: Sequence[float]) -> SparseVector:
    """A sparse vector sorted by index, from lists in any order."""
    if list(indices) != sorted(indices):
        order = sorted(range(len(indices)), key=indices.__getitem__)
        indices, values = [indices[at] for at in order], [values[at] for at in order]
    return SparseVector(_array(indices, "I"), _array(values, "f"))


def _array(values: Sequence[float], kind: Literal["f", "I"]) -> Any:
    """An array of 32-bit floats or unsigned integers, in half the time that ``np.asarray`` takes for a list."""
    array = np.empty(len(values), dtype=kind)
    struct.pack_into(f"{len(values)}{kind}", array.data, 0, *values)
    return array
