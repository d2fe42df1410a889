"""A text model on OpenVINO, on the CPU: one stream a thread for many batches, all threads for a single one."""

from __future__ import annotations

import sys
from queue import SimpleQueue
from typing import Any

import numpy as np

from ragstack.errors import MissingExtraError
from ragstack.inference.backend import Array, TokenBatch
from ragstack.inference.onnx_inputs import check_inputs, feed
from ragstack.inference.opening import Use
from ragstack.inference.profile import ModelWeights, Precision, Profile
from ragstack.inference.role import ModelRole
from ragstack.types import Float32Array

_TELEMETRY = "openvino_telemetry"
_hides_telemetry = _TELEMETRY not in sys.modules
if _hides_telemetry:
    # Importing OpenVINO reports the import to Google Analytics, from a process of its own. Where this package cannot be
    # imported it has a stand-in that reports nothing (openvino/tools/ovc/telemetry_utils.py).
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
try:
    import openvino as ov
    from openvino.passes import ConstantFolding, Manager
except ImportError as error:
    raise MissingExtraError("the backend openvino", "openvino") from error
finally:
    if _hides_telemetry:
        del sys.modules[_TELEMETRY]

_ARITHMETIC: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoBackend:
    """A :class:`ragstack.inference.backend.Backend` on OpenVINO."""

    device = "cpu"
    packs = False

    def __init__(self, compiled: ov.CompiledModel, parallel_calls: int, role: ModelRole) -> None:
        self.parallel_calls = parallel_calls
        self.outputs = tuple(port.get_any_name() for port in compiled.outputs)
        self._role = role
        self._inputs = {port.get_any_name(): port.get_element_type().to_dtype() for port in compiled.inputs}
        self.reads_types = "token_type_ids" in self._inputs
        # A request works on one call at a time; a call beyond these waits, as it would for a core.
        self._requests: SimpleQueue[ov.InferRequest] = SimpleQueue()
        for _ in range(parallel_calls):
            self._requests.put(compiled.create_infer_request())

    def run(self, batch: TokenBatch, output: str) -> Array:
        """See :class:`ragstack.inference.backend.Backend`."""
        request = self._requests.get()
        try:
            request.infer(feed(batch, self._inputs), share_inputs=True, share_outputs=True)
            # The request's own memory is written again by the next call.
            return np.array(request.get_tensor(output).data, dtype=np.float32)
        except Exception as error:  # the runtime raises RuntimeError and others, none of them its own
            n, longest = batch.ids.shape
            raise self._role.error(
                f"OpenVINO failed on a batch of {n} x {longest} tokens: {error}",
                hint=f"Lower {self._role.key}.max_batch_tokens if memory ran out.",
            ) from error
        finally:
            self._requests.put(request)

    def to_host(self, values: Array) -> Float32Array:
        """See :class:`ragstack.inference.backend.Backend`."""
        return np.asarray(values, dtype=np.float32)

    def close(self) -> None:
        """See :class:`ragstack.inference.backend.Backend`. To be called when no call is running."""
        while not self._requests.empty():
            self._requests.get()


def open_backend(
    weights: ModelWeights, profile: Profile, device: str, threads: int, use: Use, role: ModelRole
) -> OpenVinoBackend:
    """See :func:`ragstack.inference.opening.open_backend`. ``device`` is ``cpu``."""
    streams = threads if use == "many_calls" else 1
    model = weights.onnx()
    try:
        core = ov.Core()
        graph = core.read_model(model)
        if profile.precision != "int8":
            _unpack_weights(graph)
        compiled = core.compile_model(graph, "CPU", _settings(profile.precision, streams, threads))
    except Exception as error:  # the runtime raises RuntimeError and others, none of them its own
        raise role.error(
            f"OpenVINO cannot load the model: {error}",
            hint=f"Is model.onnx whole? Set {role.key}.profile to onnxruntime-cpu-fp32 for a model that it can't read.",
        ) from error
    check_inputs((port.get_any_name() for port in compiled.inputs), role)
    return OpenVinoBackend(compiled, streams, role)


def _unpack_weights(graph: ov.Model) -> None:
    """Compute now what depends on weights alone: packed ones would be unpacked in each call, and not in fp32."""
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(graph)


def _settings(precision: Precision, streams: int, threads: int) -> dict[str, Any]:
    return {
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
        # Left to itself it computes in bf16 where the CPU can: other vectors on other machines.
        "INFERENCE_PRECISION_HINT": _ARITHMETIC[precision],
        # Every model of this process, and of others, would be bound to the same cores.
        "ENABLE_CPU_PINNING": False,
        # So many activations share a scale: a text's vector then depends on no other text of its batch. 0: no int8.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32 if precision == "int8" else 0,
    }
