"""An ONNX Runtime session of an encoder: what it reads, what it gives, on how many threads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ragstack.errors import EmbeddingError
from ragstack.types import Float32Array

Int64Array: TypeAlias = NDArray[np.int64]

_KNOWN_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids"})
_TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings")


@dataclass(frozen=True)
class EncoderSession:
    """A loaded encoder. :meth:`run` may be called from several threads at once."""

    _session: Any
    _inputs: dict[str, Any]
    _output: str

    def run(self, ids: Int64Array, counts: Int64Array) -> Float32Array:
        """Hidden states ``(n, longest, dim) float32`` of padded ``ids`` ``(n, longest)``.

        Row i holds ``counts[i]`` tokens, special ones included.
        Raises EmbeddingError when the runtime fails.
        """
        positions = np.arange(ids.shape[1])
        feed: dict[str, Any] = {}
        for name, dtype in self._inputs.items():
            value: np.ndarray[Any, Any]
            if name == "input_ids":
                value = ids
            elif name == "attention_mask":
                value = positions < counts[:, None]
            elif name == "token_type_ids":
                value = np.zeros(ids.shape)
            else:
                value = np.broadcast_to(positions, ids.shape)
            feed[name] = value.astype(dtype, copy=False)
        try:
            hidden = self._session.run([self._output], feed)[0]
        except Exception as error:  # the runtime raises its own classes, which share no base but Exception
            raise EmbeddingError(
                f"ONNX Runtime failed on a batch of {ids.shape[0]} x {ids.shape[1]} tokens: {error}",
                hint="Lower embedder.max_batch_tokens if memory ran out.",
            ) from error
        if hidden.ndim != 3:
            raise EmbeddingError(
                f"the model's output {self._output!r} has shape {hidden.shape}, expected (texts, tokens, dim).",
                hint="Export the model for feature extraction, so that it gives one vector per token.",
            )
        return hidden.astype(np.float32, copy=False)  # type: ignore[no-any-return]


def load_session(weights: bytes | Path, threads: int) -> EncoderSession:
    """Load an encoder on the CPU with ``threads`` threads for each call.

    Raises EmbeddingError when the file is not a model that can be run, or reads inputs other than
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
        raise EmbeddingError(f"ONNX Runtime cannot load the model: {error}", hint="Is model.onnx whole?") from error
    inputs = {node.name: np.int32 if node.type == "tensor(int32)" else np.int64 for node in session.get_inputs()}
    unknown = sorted(set(inputs) - _KNOWN_INPUTS)
    if unknown or "input_ids" not in inputs:
        raise EmbeddingError(
            f"the model reads {', '.join(sorted(inputs))}; expected input_ids with any of attention_mask, "
            "token_type_ids, position_ids.",
            hint="Choose a text encoder exported for feature extraction.",
        )
    outputs = [node.name for node in session.get_outputs()]
    output = next((name for name in _TOKEN_OUTPUTS if name in outputs), outputs[0])
    return EncoderSession(session, inputs, output)
