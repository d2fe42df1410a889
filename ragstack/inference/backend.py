"""The seam between token ids and a runtime: what ONNX Runtime, OpenVINO, PyTorch and TensorRT have in common.

Batching, tokenisation, pooling, prompts and Matryoshka truncation live above it, once, for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ragstack.types import Float32Array

Int64Array: TypeAlias = NDArray[np.int64]

Array: TypeAlias = Any
"""A numpy array or a runtime's own (a torch tensor on a GPU), which pooling works on where it lies."""


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Padded texts. ``ids`` ``(n, longest)``; row i holds ``counts[i]`` tokens, special ones included, then padding.

    ``counts`` ``(n,)``, each at least 1. ``type_ids`` ``(n, longest)`` tell the two texts of a pair apart; None: all 0.
    """

    ids: Int64Array
    counts: Int64Array
    type_ids: Int64Array | None = None


class Backend(Protocol):
    """A loaded model on one device. :meth:`run` may be called from several threads at once.

    ``device`` is ``cpu`` or ``cuda:<index>``. ``parallel_calls`` is how many calls at a time use it best.
    ``outputs`` names what the model gives; ``reads_types``: it tells the two texts of a pair apart by ``type_ids``.
    """

    @property
    def device(self) -> str: ...

    @property
    def parallel_calls(self) -> int: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    @property
    def reads_types(self) -> bool: ...

    def run(self, batch: TokenBatch, output: str) -> Array:
        """One of the ``outputs``: hidden states ``(n, longest, dim)`` or logits ``(n, labels)``, where they were made.

        What stands in the rows' padding is undefined, and may be NaN. Raises DeviceMemoryError where a smaller batch
        may do, and the role's error (EmbeddingError, RerankingError) for every other failure of the runtime.
        """

    def to_host(self, values: Array) -> Float32Array:
        """An array that :meth:`run` gave, or what was computed of it, as numpy's float32."""

    def close(self) -> None:
        """Release the device's memory. Idempotent."""


def chosen_output(backend: Backend, preferred: Sequence[str]) -> str:
    """The first of the ``preferred`` outputs that the model has, else its first one."""
    return next((name for name in preferred if name in backend.outputs), backend.outputs[0])
