"""TensorRT's own API: a builder that makes an engine of an ONNX graph, and what an engine says of itself.

Imported only where TensorRT is installed. Networks are strongly typed: an engine computes in the precision that the
graph is written in.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tensorrt as trt

from ragstack.errors import DeviceMemoryError, RagstackError
from ragstack.inference.role import ModelRole
from ragstack.inference.tensorrt_shapes import ShapeRange

_OUT_OF_MEMORY = ("out of memory", "outofmemory", "cudaerrormemoryallocation", "failed_allocation")
_KEPT_ERRORS = 8
_log = logging.getLogger(__name__)


class ErrorLog(trt.ILogger):
    """What TensorRT logs, where its calls return nothing but False: the last errors, each until it was told."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._errors: deque[str] = deque(maxlen=_KEPT_ERRORS)
        self._writing = threading.Lock()

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Called by TensorRT, from any of its threads."""
        if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
            with self._writing:
                self._errors.append(msg)
        elif severity == trt.ILogger.Severity.WARNING:
            _log.warning("TensorRT: %s", msg)

    def error(self, role: ModelRole, what: str, hint: str) -> RagstackError:
        """The error for a call that failed: DeviceMemoryError where memory ran out, else the role's."""
        with self._writing:
            told = "; ".join(self._errors) or "no reason was given"
            self._errors.clear()
        if any(sign in told.lower() for sign in _OUT_OF_MEMORY):
            return DeviceMemoryError(f"TensorRT {what}: {told}")
        return role.error(f"TensorRT {what}: {told}", hint=hint)


@dataclass(frozen=True, slots=True)
class EngineTensor:
    """An input or output of an engine."""

    name: str
    is_input: bool
    dtype: trt.DataType


def build_engine(
    onnx_model: bytes | Path, ranges: Sequence[ShapeRange], log: ErrorLog, role: ModelRole, *, tf32: bool
) -> bytes:
    """The engine of a graph whose inputs are all ``(rows, tokens)``, for batches in these ``ranges``.

    It runs on GPUs of the model on which it was built. ``tf32`` lets products of fp32 be rounded to 10 bits. Raises the
    role's error for a graph that TensorRT cannot run, DeviceMemoryError where building takes more memory than there is.
    """
    hint = "Choose a profile of another backend; trtexec --onnx says more."
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    from_file = isinstance(onnx_model, Path)
    parsed = parser.parse_from_file(str(onnx_model)) if from_file else parser.parse(bytes(onnx_model))
    if not parsed:
        reasons = "; ".join(str(parser.get_error(number)) for number in range(parser.num_errors))
        raise role.error(f"TensorRT cannot read the {role.name}'s graph: {reasons}", hint=hint)
    config = builder.create_builder_config()
    if not tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    names = [network.get_input(number).name for number in range(network.num_inputs)]
    for one in ranges:
        profile = builder.create_optimization_profile()
        for name in names:
            least, best, most = (1, 1), (one.best_rows, one.best_tokens), (one.max_rows, one.max_tokens)
            profile.set_shape(name, trt.Dims(list(least)), trt.Dims(list(best)), trt.Dims(list(most)))
        if config.add_optimization_profile(profile) < 0:
            raise log.error(role, f"refuses batches of {one.max_rows} x {one.max_tokens} tokens", hint)
    made = builder.build_serialized_network(network, config)
    if made is None:
        raise log.error(role, f"could not build an engine of the {role.name}", hint)
    return bytes(made)


def load_engine(data: bytes, log: ErrorLog, role: ModelRole) -> tuple[trt.Runtime, trt.ICudaEngine]:
    """An engine on the current device, and the runtime that must live as long. Raises as :func:`build_engine`."""
    runtime = trt.Runtime(log)
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise log.error(role, f"could not load the engine of the {role.name}", "Delete the file and build it again.")
    return runtime, engine


def tensors_of(engine: trt.ICudaEngine) -> list[EngineTensor]:
    """The engine's inputs and outputs, in its order."""
    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    is_input = trt.TensorIOMode.INPUT
    return [
        EngineTensor(name, engine.get_tensor_mode(name) == is_input, engine.get_tensor_dtype(name)) for name in names
    ]


def new_context(engine: trt.ICudaEngine, log: ErrorLog, role: ModelRole) -> trt.IExecutionContext:
    """What runs one call at a time. It holds the memory that the shapes in use need, not the most of all."""
    context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE)
    if context is None:
        raise log.error(role, f"has no memory to run the {role.name}", "Free memory on the device.")
    return context
