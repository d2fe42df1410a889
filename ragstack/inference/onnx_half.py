"""A model's ONNX in half precision: converted once by the tool that ONNX Runtime ships, kept in the user's cache."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from ragstack.errors import MissingExtraError
from ragstack.inference.artifact_cache import cached_artifact, user_cache_dir
from ragstack.inference.model_files import external_data
from ragstack.inference.role import ModelRole
from ragstack.types import sha256_hex

_LARGEST_MESSAGE = 2**31 - 1


def half_precision(onnx_model: bytes | Path, role: ModelRole) -> bytes:
    """``onnx_model`` with weights, arithmetic and outputs in fp16; one that is fp16 already stays as it is.

    Operators that fp16 is not safe for stay in fp32, by the tool's own list. Raises MissingExtraError without the
    package ``onnx``, and the role's error for a model that cannot be converted or is too large for one file.
    """
    key = {"onnx": content_sha256(onnx_model), "precision": "fp16", "onnxruntime": version_of_runtime()}
    return cached_artifact(user_cache_dir() / "fp16", "onnx", key, lambda: _convert(onnx_model, role), role)


def content_sha256(onnx_model: bytes | Path) -> str:
    """The SHA-256 (hex) of a model's graph and of the file beside it that holds the tensors of a large one."""
    if isinstance(onnx_model, bytes):
        return sha256_hex(onnx_model)
    tensors = external_data(onnx_model)
    parts = [onnx_model, *([tensors] if tensors.is_file() else [])]
    return sha256_hex("".join(_file_sha256(part) for part in parts).encode())


def version_of_runtime() -> str:
    """The version of ONNX Runtime, whose CPU and GPU builds are two distributions of one module."""
    import onnxruntime  # type: ignore[import-untyped]  # noqa: PLC0415 - slow to load

    return str(onnxruntime.__version__)


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _convert(onnx_model: bytes | Path, role: ModelRole) -> bytes:
    try:
        import onnx  # noqa: PLC0415

        searched = list(sys.path)
        try:
            from onnxruntime.transformers.float16 import (  # type: ignore[import-untyped]  # noqa: PLC0415
                convert_float_to_float16,
            )
        finally:
            sys.path[:] = searched  # that package adds its own folder, full of modules with everyday names
    except ImportError as error:
        raise MissingExtraError("a profile in fp16", "gpu") from error
    try:
        model = onnx.load_from_string(onnx_model) if isinstance(onnx_model, bytes) else onnx.load(str(onnx_model))
        kinds = {tensor.data_type for tensor in model.graph.initializer}
        if onnx.TensorProto.FLOAT16 in kinds and onnx.TensorProto.FLOAT not in kinds:
            converted = model
        else:
            converted = convert_float_to_float16(model, keep_io_types=False)
        if converted.ByteSize() > _LARGEST_MESSAGE:
            raise ValueError("it is larger than 2 GB in fp16, which one ONNX file cannot hold")
        return bytes(converted.SerializeToString())
    except Exception as error:  # the tool and protobuf raise their own classes and bare ones
        raise role.error(
            f"the {role.name} cannot be converted to fp16: {error}",
            hint="Export it to ONNX in fp16, or choose a profile in another precision.",
        ) from error
