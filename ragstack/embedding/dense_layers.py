"""Layers between pooling and the vector: sentence-transformers' Dense module, in numpy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ragstack.errors import EmbeddingError
from ragstack.inference.digests import file_digest
from ragstack.inference.model_files import positive, read_json
from ragstack.inference.role import EMBEDDER
from ragstack.types import Float32Array

_MOST_HEADER_BYTES = 100_000_000  # as the safetensors library has it

_ACTIVATIONS: Mapping[str, Callable[[Float32Array], Float32Array]] = {
    "torch.nn.modules.linear.Identity": lambda x: x,
    "torch.nn.modules.activation.Tanh": np.tanh,
    "torch.nn.modules.activation.ReLU": lambda x: np.maximum(x, np.float32(0)),
}


@dataclass(frozen=True, eq=False)
class DenseLayer:
    """One layer. ``weight`` ``(out, in) float32``, ``bias`` ``(out,) float32``; ``sha256`` (hex) names its files."""

    weight: Float32Array
    bias: Float32Array
    activation: Callable[[Float32Array], Float32Array]
    sha256: str

    def apply(self, vectors: Float32Array) -> Float32Array:
        """``(n, in) float32`` to ``(n, out) float32``."""
        return self.activation(vectors @ self.weight.T + self.bias)


def read_dense_layer(folder: Path) -> DenseLayer:
    """The layer in a module's ``folder``: ``config.json`` and ``model.safetensors``.

    Raises EmbeddingError for files that are missing or damaged, weights that are no safetensors, and layers that are
    computed otherwise.
    """
    path = folder / "config.json"
    config = read_json(path, EMBEDDER)
    shape = positive(config, "out_features", path, EMBEDDER), positive(config, "in_features", path, EMBEDDER)
    # Without the key, sentence-transformers takes the hyperbolic tangent.
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    between = {config.get("module_input_name", "sentence_embedding"), config.get("module_output_name")}
    if activation not in _ACTIVATIONS or config.get("use_residual") or between - {"sentence_embedding", None}:
        raise EmbeddingError(
            f"{path}: a layer that cannot be run; expected {', '.join(_ACTIVATIONS)} over the pooled vector, found"
            f" {activation}" + (" with a residual." if config.get("use_residual") else "."),
            hint="Choose another model, or serve this one with an embedding server and set embedder.type to remote.",
        )
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise EmbeddingError(
            f"{folder}: the layer has no model.safetensors.",
            hint="A pytorch_model.bin is a pickle, which can run code and is never loaded: save the model again with a"
            " newer sentence-transformers.",
        )
    tensors = read_safetensors(weights)
    weight = tensors.get("linear.weight")
    bias = tensors.get("linear.bias", np.zeros(shape[0], dtype=np.float32))
    if weight is None or weight.shape != shape or bias.shape != shape[:1]:
        found = {name: tensor.shape for name, tensor in tensors.items()}
        raise EmbeddingError(
            f"{weights}: expected linear.weight {shape} and linear.bias, found {found}.",
            hint="Download the model again.",
        )
    sha256 = f"{file_digest(path, EMBEDDER)} {file_digest(weights, EMBEDDER)}"
    return DenseLayer(weight, bias, _ACTIVATIONS[activation], sha256)


def read_safetensors(path: Path) -> dict[str, Float32Array]:
    """Every tensor of a safetensors file as float32. For small files: all of it is read.

    The format is 8 bytes of header length, a JSON header, and raw little-endian data
    (https://github.com/huggingface/safetensors#format). Raises EmbeddingError for a file that is damaged, or holds
    other numbers than F32, F16 and BF16.
    """
    try:
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        if length > min(_MOST_HEADER_BYTES, len(data) - 8):
            raise ValueError("the header is longer than the file")
        header: dict[str, Any] = json.loads(data[8 : 8 + length])
        return {
            name: _tensor(entry, memoryview(data)[8 + length :])
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror or error}."
        raise EmbeddingError(message, hint="Check its permissions, or download the model again.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{path}: not a safetensors file of floating-point numbers: {error}."
        raise EmbeddingError(message, hint="Download the model again.") from error


def _tensor(entry: Mapping[str, Any], data: memoryview) -> Float32Array:
    start, end = entry["data_offsets"]
    raw = data[start:end]
    kind = entry["dtype"]
    if kind == "BF16":  # the upper half of a float32
        values = (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    elif kind in ("F32", "F16"):
        values = np.frombuffer(raw, dtype="<f4" if kind == "F32" else "<f2").astype(np.float32)
    else:
        raise ValueError(f"a tensor of {kind}")
    found: Float32Array = values.reshape(entry["shape"])
    return found
