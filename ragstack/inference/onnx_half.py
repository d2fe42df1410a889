"""A model's ONNX in half precision: converted once by the tool that ONNX Runtime ships, kept in the user's cache."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ragstack.errors import MissingExtraError
from ragstack.inference.artifact_cache import cached_artifact
from ragstack.inference.cache_folder import cache_folder
from ragstack.inference.profile import ModelWeights
from ragstack.inference.role import ModelRole

if TYPE_CHECKING:
    import onnx

_LARGEST_MESSAGE = 2**31 - 1


def half_precision(weights: ModelWeights, role: ModelRole) -> bytes:
    """The graph of ``weights`` with weights, arithmetic and outputs in fp16; one that is fp16 already stays as it is.

    Operators that fp16 is not safe for stay in fp32, by the tool's own list. Raises MissingExtraError without the
    package ``onnx``, and the role's error for a model that cannot be converted or is too large for one file.
    """
    key = {"weights": weights.sha256, "precision": "fp16", "onnxruntime": version_of_runtime()}
    return cached_artifact(cache_folder() / "fp16", "onnx", key, lambda: _convert(weights.onnx(), role), role)


def version_of_runtime() -> str:
    """The version of ONNX Runtime, whose CPU and GPU builds are two distributions of one module."""
    import onnxruntime  # type: ignore[import-untyped]  # noqa: PLC0415 - slow to load

    return str(onnxruntime.__version__)


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
        model = onnx.load_from_string(onnx_model) if isinstance(onnx_model, bytes) else _with_shapes(onnx_model)
        kinds = {tensor.data_type for tensor in model.graph.initializer}
        if onnx.TensorProto.FLOAT16 in kinds and onnx.TensorProto.FLOAT not in kinds:
            converted = model
        else:
            has_shapes = isinstance(onnx_model, Path)
            converted = convert_float_to_float16(model, keep_io_types=False, disable_shape_infer=has_shapes)
        if converted.ByteSize() > _LARGEST_MESSAGE:
            raise ValueError("it is larger than 2 GB in fp16, which one ONNX file cannot hold")
        return bytes(converted.SerializeToString())
    except Exception as error:  # the tool and protobuf raise their own classes and bare ones
        raise role.error(
            f"the {role.name} cannot be converted to fp16: {error}",
            hint="Export it to ONNX in fp16, or choose a profile in another precision.",
        ) from error


def _with_shapes(path: Path) -> onnx.ModelProto:
    """A model whose tensors lie beside its graph, with the shapes that the tool needs.

    In memory they can be inferred for models below 2 GB only; and the model's own folder may not be written to.
    """
    import onnx  # noqa: PLC0415
    from onnx.external_data_helper import load_external_data_for_model  # noqa: PLC0415
    from onnx.shape_inference import infer_shapes_path  # noqa: PLC0415

    with TemporaryDirectory() as folder:
        inferred = str(Path(folder) / "model.onnx")
        infer_shapes_path(str(path), inferred)
        model = onnx.load(inferred, load_external_data=False)
    load_external_data_for_model(model, str(path.parent))
    return model
