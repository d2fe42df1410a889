"""A text model on TensorRT: an engine built once for this GPU, run on torch's memory and streams.

Not yet run on hardware (docs/tensorrt.md). Tests run all of it but TensorRT itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ragstack.errors import DeviceMemoryError, MissingExtraError
from ragstack.inference.artifact_cache import cached_artifact
from ragstack.inference.backend import Array, TokenBatch
from ragstack.inference.cache_folder import cache_folder
from ragstack.inference.onnx_half import half_precision
from ragstack.inference.onnx_inputs import check_inputs, feed
from ragstack.inference.opening import Use
from ragstack.inference.profile import ModelWeights, Profile
from ragstack.inference.role import ModelRole
from ragstack.inference.tensorrt_shapes import ShapeRange, Slice, shape_ranges, slices
from ragstack.types import Float32Array

if TYPE_CHECKING:
    import tensorrt as trt

    from ragstack.inference.tensorrt_engine import EngineTensor, ErrorLog

_PARALLEL_CALLS = 2  # while one runs, what another gave is read and the next is made
_BUILT_FOR_TOKENS = 131_072  # larger batches run in parts
_FORMAT = 1


@dataclass(frozen=True)
class _Turn:
    """What one call at a time runs with. ``stream`` is torch's; None only where there is no GPU."""

    context: trt.IExecutionContext
    stream: Any

    @property
    def handle(self) -> int:
        return 0 if self.stream is None else int(self.stream.cuda_stream)


@dataclass(frozen=True)
class TensorRtBackend:
    """A :class:`ragstack.inference.backend.Backend` on TensorRT. Its arrays are torch tensors on the device."""

    device: str
    parallel_calls: int
    outputs: tuple[str, ...]
    reads_types: bool
    _ranges: tuple[ShapeRange, ...]
    _inputs: Mapping[str, type[np.integer[Any]]]
    _output_dtypes: Mapping[str, Any]
    _turns: SimpleQueue[_Turn]
    _memory: Any
    _log: ErrorLog
    _role: ModelRole
    _held: list[object]

    def run(self, batch: TokenBatch, output: str) -> Array:
        """See :class:`ragstack.inference.backend.Backend`."""
        import torch  # noqa: PLC0415 - only this backend's extra brings it

        arrays = feed(batch, self._inputs)
        rows, longest = batch.ids.shape
        try:
            parts = slices(self._ranges, rows, longest)
        except ValueError as error:
            raise self._role.error(f"a batch cannot be run: {error}.", hint="Cut the texts.") from error
        with self._turn() as turn:
            try:
                found = [self._run_part(turn, arrays, part, output) for part in parts]
                return found[0] if len(found) == 1 else torch.cat(found)
            except torch.cuda.OutOfMemoryError as error:
                raise DeviceMemoryError(f"{self.device}: no memory for {rows} x {longest} tokens: {error}") from error

    def to_host(self, values: Array) -> Float32Array:
        """See :class:`ragstack.inference.backend.Backend`."""
        found: Float32Array = values.float().cpu().numpy()
        return found

    def close(self) -> None:
        """See :class:`ragstack.inference.backend.Backend`. Waits for the calls under way."""
        if self._held:
            for _ in range(self.parallel_calls):
                self._turns.get()
            self._held.clear()

    @contextmanager
    def _turn(self) -> Iterator[_Turn]:
        turn = self._turns.get()
        try:
            yield turn
        finally:
            self._turns.put(turn)

    def _run_part(self, turn: _Turn, arrays: Mapping[str, NDArray[Any]], part: Slice, output: str) -> Any:
        import torch  # noqa: PLC0415

        context, given = turn.context, {}
        with torch.cuda.stream(turn.stream):
            if context.active_optimization_profile != part.shape_range:
                self._check(context.set_optimization_profile_async(part.shape_range, turn.handle), part)
            for name, array in arrays.items():
                rows = np.ascontiguousarray(array[part.start : part.stop])
                given[name] = torch.from_numpy(rows).to(self._memory, non_blocking=True)
                self._check(context.set_input_shape(name, tuple(rows.shape)), part)
                self._check(context.set_tensor_address(name, given[name].data_ptr()), part)
            made = {}
            for name, dtype in self._output_dtypes.items():
                shape = context.get_tensor_shape(name)[:]
                made[name] = torch.empty(shape, dtype=dtype, device=self._memory)
                self._check(context.set_tensor_address(name, made[name].data_ptr()), part)
            self._check(context.execute_async_v3(turn.handle), part)
        if turn.stream is not None:
            turn.stream.synchronize()  # until then the memory of inputs and outputs is in use
        return made[output]

    def _check(self, went_well: bool, part: Slice) -> None:
        if not went_well:
            one = self._ranges[part.shape_range]
            what = f"failed on {part.stop - part.start} rows of the range {one.max_rows} x {one.max_tokens} tokens"
            raise self._log.error(self._role, what, f"Lower {self._role.key}.max_batch_tokens if memory ran out.")


def open_backend(
    weights: ModelWeights, profile: Profile, device: str, threads: int, use: Use, role: ModelRole
) -> TensorRtBackend:
    """See :func:`ragstack.inference.opening.open_backend`. The first time, the engine is built: some minutes.

    ``threads`` and ``use`` make no difference on a GPU.
    """
    if profile.precision not in ("fp32", "fp16"):
        raise role.input_error(
            "profile",
            f"{profile.name}: TensorRT engines are built in fp32 or fp16 here.",
            "Choose tensorrt-cuda-fp16, or a PyTorch profile for other precisions.",
        )
    torch = _require_runtime()
    from ragstack.inference import tensorrt_engine as engines  # noqa: PLC0415 - needs TensorRT

    log = engines.ErrorLog()
    memory = torch.device(device)
    ranges = shape_ranges(weights.max_tokens, _BUILT_FOR_TOKENS)
    with torch.cuda.device(memory if memory.type == "cuda" else -1):
        data = _engine_bytes(weights, profile, memory, ranges, log, role)
        runtime, engine = engines.load_engine(data, log, role)
        tensors = engines.tensors_of(engine)
        inputs = _inputs(tensors, role)
        turns: SimpleQueue[_Turn] = SimpleQueue()
        for _ in range(_PARALLEL_CALLS):
            stream = torch.cuda.Stream(memory) if memory.type == "cuda" else None
            turns.put(_Turn(engines.new_context(engine, log, role), stream))
    outputs = {tensor.name: _torch_dtype(tensor, torch) for tensor in tensors if not tensor.is_input}
    return TensorRtBackend(
        device,
        _PARALLEL_CALLS,
        tuple(outputs),
        "token_type_ids" in inputs,
        ranges,
        inputs,
        outputs,
        turns,
        memory,
        log,
        role,
        [runtime, engine],
    )


def engine_key(
    weights_sha256: str,
    profile: Profile,
    ranges: tuple[ShapeRange, ...],
    tensorrt_version: str,
    gpu: str,
    capability: str,
) -> dict[str, object]:
    """All that an engine depends on: its file in the cache is named by the hash of this."""
    return {
        "format": _FORMAT,
        "weights": weights_sha256,
        "precision": profile.precision,
        "shapes": [[one.best_rows, one.best_tokens, one.max_rows, one.max_tokens] for one in ranges],
        "tensorrt": tensorrt_version,
        "gpu": gpu,
        "compute_capability": capability,
    }


def _engine_bytes(
    weights: ModelWeights,
    profile: Profile,
    memory: Any,
    ranges: tuple[ShapeRange, ...],
    log: ErrorLog,
    role: ModelRole,
) -> bytes:
    import tensorrt  # noqa: PLC0415
    import torch  # noqa: PLC0415

    from ragstack.inference.tensorrt_engine import build_engine  # noqa: PLC0415

    on_gpu = memory.type == "cuda"
    gpu = torch.cuda.get_device_name(memory) if on_gpu else "none"
    capability = "{}.{}".format(*torch.cuda.get_device_capability(memory)) if on_gpu else "0.0"
    key = engine_key(weights.sha256, profile, ranges, tensorrt.__version__, gpu, capability)

    def make() -> bytes:
        graph: bytes | Path = half_precision(weights, role) if profile.precision == "fp16" else weights.onnx()
        return build_engine(graph, ranges, log, role, tf32=False)

    return cached_artifact(cache_folder() / "tensorrt", "engine", key, make, role)


def _require_runtime() -> Any:
    try:
        import tensorrt  # noqa: PLC0415
        import torch  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("a TensorRT profile", "tensorrt") from error
    if not hasattr(tensorrt, "Builder"):  # its type stubs make a folder of that name
        raise MissingExtraError("a TensorRT profile", "tensorrt")
    return torch


def _inputs(tensors: list[EngineTensor], role: ModelRole) -> dict[str, type[np.integer[Any]]]:
    """The engine's inputs with the types of their arrays. Raises the role's error for what no text model reads."""
    import tensorrt  # noqa: PLC0415

    known: dict[Any, type[np.integer[Any]]] = {tensorrt.DataType.INT32: np.int32, tensorrt.DataType.INT64: np.int64}
    found = {tensor.name: tensor.dtype for tensor in tensors if tensor.is_input}
    check_inputs(found, role)
    for name, dtype in found.items():
        if dtype not in known:
            raise role.error(f"the model reads {name} as {dtype}; expected int32 or int64.")
    return {name: known[dtype] for name, dtype in found.items()}


def _torch_dtype(tensor: EngineTensor, torch: Any) -> Any:
    import tensorrt  # noqa: PLC0415

    known = {
        tensorrt.DataType.FLOAT: torch.float32,
        tensorrt.DataType.HALF: torch.float16,
        tensorrt.DataType.BF16: torch.bfloat16,
        tensorrt.DataType.INT32: torch.int32,
        tensorrt.DataType.INT64: torch.int64,
    }
    return known[tensor.dtype]
