"""A text model on ONNX Runtime: what it reads, what it gives, on how many threads or on which GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
from numpy.typing import DTypeLike

from ragstack.errors import DeviceMemoryError
from ragstack.inference.backend import Array, TokenBatch
from ragstack.inference.onnx_half import half_precision
from ragstack.inference.onnx_inputs import check_inputs, feed
from ragstack.inference.opening import Use
from ragstack.inference.profile import ModelWeights, Profile
from ragstack.inference.role import ModelRole
from ragstack.types import Float32Array

_PARALLEL_CALLS_ON_GPU = 2  # while one runs, what another gave is read and the next is made
_OUT_OF_MEMORY = ("failed to allocate memory", "out of memory", "bad_alloc", "bad allocation", "alloc_failed")


@dataclass(frozen=True)
class OnnxBackend:
    """A :class:`ragstack.inference.backend.Backend` on ONNX Runtime.

    On a GPU its arrays stay there as torch tensors, where torch is installed, and are numpy's otherwise.
    ``bound_to`` is the kind and number of the device that outputs are left on; None: they are handed over as numpy's.
    """

    device: str
    parallel_calls: int
    outputs: tuple[str, ...]
    reads_types: bool
    _session: Any
    _inputs: Mapping[str, DTypeLike]
    _role: ModelRole
    _bound_to: tuple[str, int] | None = None

    def run(self, batch: TokenBatch, output: str) -> Array:
        """See :class:`ragstack.inference.backend.Backend`."""
        arrays = feed(batch, self._inputs)
        try:
            if self._bound_to is None:
                return self._session.run([output], arrays)[0]
            binding = self._session.io_binding()
            for name, array in arrays.items():
                binding.bind_cpu_input(name, np.ascontiguousarray(array))
            binding.bind_output(output, *self._bound_to)
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            return _as_array(binding.get_outputs()[0])
        except Exception as error:  # the runtime raises its own classes, which share no base but Exception
            size = f"{batch.ids.shape[0]} x {batch.ids.shape[1]} tokens"
            if any(sign in str(error).lower() for sign in _OUT_OF_MEMORY):
                raise DeviceMemoryError(f"{self.device} has no memory for a batch of {size}: {error}") from error
            raise self._role.error(
                f"ONNX Runtime failed on a batch of {size} on {self.device}: {error}",
                hint=f"Lower {self._role.key}.max_batch_tokens if memory ran out.",
            ) from error

    def to_host(self, values: Array) -> Float32Array:
        """See :class:`ragstack.inference.backend.Backend`."""
        on_host = values if isinstance(values, np.ndarray) else values.cpu().numpy()
        return np.asarray(on_host, dtype=np.float32)

    def close(self) -> None:
        """The session goes with the last reference to it."""


def open_backend(
    weights: ModelWeights, profile: Profile, device: str, threads: int, use: Use, role: ModelRole
) -> OnnxBackend:
    """See :func:`ragstack.inference.opening.open_backend`.

    On a CPU many calls run on one thread each, as many at a time as there are threads: small batches stay in the cache
    and need no synchronisation (docs/models.md). A single call runs on all threads at once. On a GPU fp16 weights are
    made of fp32 ones once. Raises InputError where the installed ONNX Runtime has no CUDA.
    """
    if profile.device_type == "cuda":
        _require_cuda(profile, role)
        model = half_precision(weights, role) if profile.precision == "fp16" else weights.onnx()
        return open_on_cuda(model, int(device.partition(":")[2] or 0), role)
    if use == "many_calls":
        return open_onnx(weights.onnx(), 1, role, parallel_calls=threads)
    return open_onnx(weights.onnx(), threads, role)


def open_onnx(weights: bytes | Path, threads: int, role: ModelRole, *, parallel_calls: int = 1) -> OnnxBackend:
    """Load a model on the CPU with ``threads`` threads for each call.

    Raises the role's error when the file is not a model that can be run, or reads inputs other than
    token ids, mask, types and positions.
    """
    options = _options()
    options.intra_op_num_threads = threads
    # Waiting threads that spin take cores from the other calls of this process and from its neighbours.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = _session(weights, options, "CPUExecutionProvider", {}, role)
    return _backend("cpu", parallel_calls, session, role, bound_to=None)


def open_on_cuda(weights: bytes | Path, index: int, role: ModelRole) -> OnnxBackend:
    """Load a model on the GPU ``index``. Raises as :func:`open_onnx`, and DeviceMemoryError."""
    settings = {
        "device_id": index,
        # Fp32 means fp32: no products rounded to 10 bits.
        "use_tf32": "0",
        # Batches differ in size: doubling what is kept would hold twice the memory of the largest one.
        "arena_extend_strategy": "kSameAsRequested",
    }
    session = _session(weights, _options(), "CUDAExecutionProvider", settings, role)
    return _backend(f"cuda:{index}", _PARALLEL_CALLS_ON_GPU, session, role, bound_to=("cuda", index))


def _options() -> Any:
    options = ort.SessionOptions()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Shapes differ from batch to batch: remembered memory patterns would pile up, one for each shape.
    options.enable_mem_pattern = False
    return options


def _session(weights: bytes | Path, options: Any, provider: str, settings: dict[str, Any], role: ModelRole) -> Any:
    model = weights if isinstance(weights, bytes) else str(weights)
    try:
        session = ort.InferenceSession(model, options, providers=[(provider, settings)])
    except Exception as error:  # the runtime raises its own classes, which share no base but Exception
        if any(sign in str(error).lower() for sign in _OUT_OF_MEMORY):
            raise DeviceMemoryError(f"ONNX Runtime cannot load the model: {error}") from error
        raise role.error(f"ONNX Runtime cannot load the model: {error}", hint="Is model.onnx whole?") from error
    if provider not in session.get_providers():  # it goes on with the CPU where CUDA's libraries cannot be loaded
        raise role.error(
            "ONNX Runtime could not load its CUDA provider.",
            hint="Install CUDA and cuDNN for it: pip install 'onnxruntime-gpu[cuda,cudnn]'",
        )
    return session


def _backend(
    device: str, parallel_calls: int, session: Any, role: ModelRole, *, bound_to: tuple[str, int] | None
) -> OnnxBackend:
    inputs = {node.name: np.int32 if node.type == "tensor(int32)" else np.int64 for node in session.get_inputs()}
    check_inputs(inputs, role)
    outputs = tuple(node.name for node in session.get_outputs())
    return OnnxBackend(device, parallel_calls, outputs, "token_type_ids" in inputs, session, inputs, role, bound_to)


def _require_cuda(profile: Profile, role: ModelRole) -> None:
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise role.input_error(
            "profile",
            f"{profile.name}: the ONNX Runtime that is installed has no CUDA.",
            "Its build for GPUs is another distribution of the same module, and takes the place of the first: "
            "pip uninstall onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'",
        )


def _as_array(value: Any) -> Array:
    """The runtime's own value as an array: torch's where it lies if torch is installed, else numpy's on the host."""
    if find_spec("torch") is None:
        return value.numpy()
    from torch.utils.dlpack import from_dlpack  # noqa: PLC0415 - an extra

    return from_dlpack(value)
