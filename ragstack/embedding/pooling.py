"""From hidden states to vectors of length 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ragstack.embedding.models import Pooling
from ragstack.errors import TextError
from ragstack.types import Float32Array, Int32Array


def pool(hidden: Float32Array, counts: NDArray[np.int64], pooling: Pooling) -> Float32Array:
    """One vector per text, ``(n, dim) float32``, not yet normalised, from ``(n, longest, dim)`` hidden states.

    ``mean`` averages the ``counts[i]`` tokens of row i, special tokens included; ``cls`` takes the first.
    """
    if pooling == "cls":
        return np.ascontiguousarray(hidden[:, 0])
    mask = (np.arange(hidden.shape[1]) < counts[:, None]).astype(np.float32)
    # Rows may hold NaN in their padding, which 0 * NaN would carry into the sum.
    total = np.matmul(mask[:, None, :], np.where(mask[:, :, None] > 0, hidden, np.float32(0)))[:, 0]
    mean: Float32Array = total / counts[:, None].astype(np.float32)
    return mean


def unit_rows(vectors: Float32Array, indices: Int32Array, what: str) -> Float32Array:
    """Rows ``(n, dim)`` brought to length 1. Row i belongs to the text ``indices[i]``.

    Raises TextError that names the text whose row holds NaN or infinity, or is zero.
    """
    norms = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(bad):
        row = int(bad[0])
        kind = "zero" if norms[row] == 0 else "not finite (NaN or infinity)"
        raise TextError(
            int(indices[row]),
            f"the {what} vector is {kind}.",
            hint="Numbers may be too large for fp16 or int8: choose a profile with bf16 or fp32 (embedder.profile)."
            " With fp32 the weights are damaged, or the model cannot read this text.",
        )
    unit: Float32Array = vectors / norms[:, None]
    return unit
