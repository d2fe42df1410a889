"""How many numbers a model's weights hold, told by its files without reading the weights."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragstack.inference.model_files import external_data
from ragstack.inference.role import ModelRole

_LONGEST_HEADER = 100_000_000
"""Bytes: the limit of the safetensors library."""
_ONNX_BYTES = 4


def count_parameters(onnx: Path | None, safetensors: Sequence[Path], role: ModelRole) -> int:
    """The numbers in ``safetensors`` (one file, or all shards), by their headers; without any, a guess by ``onnx``.

    An ONNX file is taken to hold fp32: of a quantised one the guess is too low. Raises the role's error for a file
    that is no safetensors.
    """
    if safetensors:
        return sum(_numbers(path, role) for path in safetensors)
    if onnx is None:
        return 0
    beside = external_data(onnx)
    size = onnx.stat().st_size + (beside.stat().st_size if beside.is_file() else 0)
    return size // _ONNX_BYTES


def _numbers(path: Path, role: ModelRole) -> int:
    """A safetensors file begins with its header's length, 8 bytes, and the header, JSON.

    https://huggingface.co/docs/safetensors/index#format
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(min(length, _LONGEST_HEADER)))
        return sum(math.prod(told["shape"]) for name, told in header.items() if name != "__metadata__")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise role.error(f"{path}: no safetensors file: {error}.", hint="Download the model again.") from error
