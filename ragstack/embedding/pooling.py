"""From hidden states to vectors of length 1, on the device where a backend left them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragstack.embedding.models import Pooling
from ragstack.errors import DeviceMemoryError, TextError
from ragstack.inference.backend import Array
from ragstack.types import Float32Array, Int32Array


def pool(hidden: Array, counts: NDArray[np.int64], pooling: Pooling) -> Array:
    """One vector per text, ``(n, dim) float32``, not yet normalised, from ``(n, longest, dim)`` hidden states.

    ``mean`` averages the ``counts[i]`` tokens of row i, special tokens included; ``cls`` takes the first, ``last`` the
    last of them. Hidden states may be numpy arrays or torch tensors of any float type; the result is of the same kind,
    on the same device, and sums are made in float32. What stands in the rows' padding does not matter. Raises
    DeviceMemoryError where the device has no memory left.
    """
    if not isinstance(hidden, np.ndarray):
        return _pool_tensor(hidden, counts, pooling)
    if pooling == "cls":
        return np.ascontiguousarray(hidden[:, 0], dtype=np.float32)
    if pooling == "last":
        return hidden[np.arange(len(hidden)), counts - 1].astype(np.float32, copy=False)
    mask = (np.arange(hidden.shape[1]) < counts[:, None]).astype(np.float32)
    # Rows may hold NaN in their padding, which 0 * NaN would carry into the sum.
    states = np.where(mask[:, :, None] > 0, hidden, np.zeros((), hidden.dtype)).astype(np.float32, copy=False)
    mean: Float32Array = np.matmul(mask[:, None, :], states)[:, 0] / counts[:, None].astype(np.float32)
    return mean


def _pool_tensor(hidden: Any, counts: NDArray[np.int64], pooling: Pooling) -> Any:
    import torch  # noqa: PLC0415 - only who has a tensor has torch

    try:
        with torch.inference_mode():
            if pooling == "cls":
                return hidden[:, 0].to(torch.float32)
            sizes = torch.from_numpy(counts).to(hidden.device, non_blocking=True)
            if pooling == "last":
                return hidden[torch.arange(len(sizes), device=hidden.device), sizes - 1].to(torch.float32)
            real = torch.arange(hidden.shape[1], device=hidden.device) < sizes[:, None]
            total = torch.where(real[:, :, None], hidden, 0).sum(dim=1, dtype=torch.float32)
            return total / sizes[:, None]
    except torch.OutOfMemoryError as error:
        message = f"{hidden.device} has no memory left to pool {len(counts)} texts: {error}"
    # Outside of the handler, which would keep the tensors of the failed batch.
    raise DeviceMemoryError(message, hint="Lower embedder.max_batch_tokens.")


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
