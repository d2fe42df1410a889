"""A text model on ONNX Runtime: what it reads, what it gives, on how many threads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]

from ragstack.inference.backend import Array, TokenBatch
from ragstack.inference.onnx_inputs import check_inputs, feed
from ragstack.inference.opening import Use
from ragstack.inference.profile import ModelWeights, Profile
from ragstack.inference.role import ModelRole
from ragstack.types import Float32Array


@dataclass(frozen=True)
class OnnxBackend:
    """A :class:`ragstack.inference.backend.Backend` on ONNX Runtime."""

    device: str
    parallel_calls: int
    outputs: tuple[str, ...]
    reads_types: bool
    _session: Any
    _inputs: dict[str, Any]
    _role: ModelRole

    def run(self, batch: TokenBatch, output: str) -> Array:
        """See :class:`ragstack.inference.backend.Backend`."""
        try:
            return self._session.run([output], feed(batch, self._inputs))[0]
        except Exception as error:  # the runtime raises its own classes, which share no base but Exception
            raise self._role.error(
                f"ONNX Runtime failed on a batch of {batch.ids.shape[0]} x {batch.ids.shape[1]} tokens: {error}",
                hint=f"Lower {self._role.key}.max_batch_tokens if memory ran out.",
            ) from error

    def to_host(self, values: Array) -> Float32Array:
        """See :class:`ragstack.inference.backend.Backend`."""
        return np.asarray(values, dtype=np.float32)

    def close(self) -> None:
        """The session goes with the last reference to it."""


def open_backend(
    weights: ModelWeights, profile: Profile, device: str, threads: int, use: Use, role: ModelRole
) -> OnnxBackend:
    """See :func:`ragstack.inference.opening.open_backend`.

    Many calls run on one thread each, as many at a time as there are threads: small batches stay in the cache and need
    no synchronisation (docs/models.md). A single call runs on all threads at once.
    """
    if use == "many_calls":
        return open_onnx(weights.onnx(), 1, role, parallel_calls=threads)
    return open_onnx(weights.onnx(), threads, role)


def open_onnx(weights: bytes | Path, threads: int, role: ModelRole, *, parallel_calls: int = 1) -> OnnxBackend:
    """Load a model on the CPU with ``threads`` threads for each call.

    Raises the role's error when the file is not a model that can be run, or reads inputs other than
    token ids, mask, types and positions.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Shapes differ from batch to batch: remembered memory patterns would pile up, one for each shape.
    options.enable_mem_pattern = False
    # Waiting threads that spin take cores from the other calls of this process and from its neighbours.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(
            weights if isinstance(weights, bytes) else str(weights), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the runtime raises its own classes, which share no base but Exception
        raise role.error(f"ONNX Runtime cannot load the model: {error}", hint="Is model.onnx whole?") from error
    inputs = {node.name: np.int32 if node.type == "tensor(int32)" else np.int64 for node in session.get_inputs()}
    check_inputs(inputs, role)
    outputs = tuple(node.name for node in session.get_outputs())
    return OnnxBackend("cpu", parallel_calls, outputs, "token_type_ids" in inputs, session, inputs, role)
