"""An ONNX Runtime session of a text model: what it reads, what it gives, on how many threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ragstack.inference.role import ModelRole
from ragstack.types import Float32Array

Int64Array: TypeAlias = NDArray[np.int64]

_KNOWN_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids"})


@dataclass(frozen=True)
class TextModelSession:
    """A loaded model. :meth:`run` may be called from several threads at once."""

    outputs: tuple[str, ...]
    reads_types: bool
    _session: Any
    _inputs: dict[str, Any]
    _role: ModelRole

    def output(self, preferred: Sequence[str]) -> str:
        """The first of the ``preferred`` outputs that the model has, else its first one."""
        return next((name for name in preferred if name in self.outputs), self.outputs[0])

    def run(self, output: str, ids: Int64Array, counts: Int64Array, type_ids: Int64Array | None = None) -> Float32Array:
        """The ``output`` for padded ``ids`` ``(n, longest)``, float32, its first axis the texts.

        Row i holds ``counts[i]`` tokens, special ones included. ``type_ids`` ``(n, longest)`` tell the two texts of a
        pair apart; None: all 0. Raises the role's error when the runtime fails.
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
                value = np.zeros(ids.shape) if type_ids is None else type_ids
            else:
                value = np.broadcast_to(positions, ids.shape)
            feed[name] = value.astype(dtype, copy=False)
        try:
            found = self._session.run([output], feed)[0]
        except Exception as error:  # the runtime raises its own classes, which share no base but Exception
            raise self._role.error(
                f"ONNX Runtime failed on a batch of {ids.shape[0]} x {ids.shape[1]} tokens: {error}",
                hint=f"Lower {self._role.key}.max_batch_tokens if memory ran out.",
            ) from error
        return found.astype(np.float32, copy=False)  # type: ignore[no-any-return]


def open_session(weights: bytes | Path, threads: int, role: ModelRole) -> TextModelSession:
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
    unknown = sorted(set(inputs) - _KNOWN_INPUTS)
    if unknown or "input_ids" not in inputs:
        raise role.error(
            f"the model reads {', '.join(sorted(inputs))}; expected input_ids with any of attention_mask, "
            "token_type_ids, position_ids.",
            hint=f"Choose a text encoder exported for {role.task}.",
        )
    outputs = tuple(node.name for node in session.get_outputs())
    return TextModelSession(outputs, "token_type_ids" in inputs, session, inputs, role)
