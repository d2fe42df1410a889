"""A text model on PyTorch, through the classes of ``transformers``: CPU and CUDA, fp32, bf16 and fp16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ragstack.errors import DeviceMemoryError, MissingExtraError
from ragstack.inference.backend import Array, TokenBatch
from ragstack.inference.opening import Use
from ragstack.inference.profile import ModelWeights, Precision, Profile
from ragstack.inference.role import ModelRole
from ragstack.types import Float32Array

try:
    import torch

    from ragstack.inference.torch_attention import VarlenKernel, pack, to_device, varlen_kernel
    from ragstack.inference.torch_models import TextModel, load_model
except ImportError as missing:
    raise MissingExtraError("a torch profile", "torch") from missing

_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CUDA_CALLS = 2  # while one batch is computed, the next is prepared and the last one's vectors are taken
_NO_MEMORY = "DefaultCPUAllocator"  # what the message of a failed allocation of main memory names


@dataclass
class TorchBackend:
    """A :class:`ragstack.inference.backend.Backend` on PyTorch.

    Texts are computed without their padding where the architecture is known to allow it
    (:data:`ragstack.inference.architectures.PACKED`).
    """

    device: str
    parallel_calls: int
    outputs: tuple[str, ...]
    reads_types: bool
    _model: TextModel | None
    _kernel: VarlenKernel | None
    _threads: int
    _role: ModelRole

    def run(self, batch: TokenBatch, output: str) -> Array:
        """See :class:`ragstack.inference.backend.Backend`."""
        model = self._model
        if model is None:
            raise self._role.error(f"the {self._role.name} was closed.", hint="Make a new one.")
        size = f"a batch of {batch.ids.shape[0]} x {batch.ids.shape[1]} tokens"
        try:
            with torch.inference_mode(), _cpu_threads(self._threads):
                return self._forward(model, batch)
        except torch.OutOfMemoryError as error:
            reason = _first_line(error)
        except Exception as error:  # a model's own code may raise anything
            reason = _first_line(error)
            if _NO_MEMORY not in str(error):
                raise self._role.error(
                    f"PyTorch failed on {size}: {type(error).__name__}: {reason}",
                    hint="Report this with the model's name, or choose a profile of another runtime.",
                ) from error
        # Raised outside of the handlers: the error they handle would keep the failed batch's tensors in memory.
        if self.device != "cpu":
            torch.cuda.empty_cache()
        raise DeviceMemoryError(
            f"{self.device} has no memory left for {size}: {reason}", hint=f"Lower {self._role.key}.max_batch_tokens."
        )

    def to_host(self, values: Array) -> Float32Array:
        """See :class:`ragstack.inference.backend.Backend`."""
        if values.device.type == "cpu":
            return np.asarray(values.to(torch.float32).numpy())
        host = torch.empty(values.shape, dtype=torch.float32, pin_memory=True)
        host.copy_(values.to(torch.float32), non_blocking=True)
        # Waits for what was asked of the device up to here, not for the batches that other threads asked for since.
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(values.device))
        done.synchronize()
        return host.numpy()

    def close(self) -> None:
        """See :class:`ragstack.inference.backend.Backend`."""
        self._model = None
        if self.device != "cpu":
            # PyTorch keeps what was freed for itself; another process may need it.
            torch.cuda.empty_cache()

    def _forward(self, model: TextModel, batch: TokenBatch) -> torch.Tensor:
        device = torch.device(self.device)
        longest = batch.ids.shape[1]
        real = np.arange(longest) < batch.counts[:, None]
        ids = to_device(np.where(real, batch.ids, model.pad_id), device)
        types = None
        if self.reads_types:
            types = to_device(np.zeros_like(batch.ids) if batch.type_ids is None else batch.type_ids, device)
        packing = pack(batch.counts, longest, device, self._kernel) if model.packs else None
        return model.forward(ids, to_device(real, device), types, packing)


def open_backend(
    weights: ModelWeights, profile: Profile, device: str, threads: int, use: Use, role: ModelRole
) -> TorchBackend:
    """See :func:`ragstack.inference.opening.open_backend`.

    On a CPU many calls run on one thread each, a single one on all; on a GPU two calls take turns, so that it does not
    wait for this process.
    """
    dtype = _DTYPES.get(profile.precision)
    if dtype is None:
        raise role.error(
            f"PyTorch does not run {profile.precision} here.", hint=f"Choose one of {', '.join(_DTYPES)} for torch."
        )
    where = torch.device(device)
    if where.type == "cuda" and not 0 <= (where.index or 0) < torch.cuda.device_count():
        raise role.error(
            f"PyTorch sees {torch.cuda.device_count()} GPUs, so it cannot use {device}.",
            hint="Choose another device, or install a build of torch that fits the driver (nvidia-smi shows it).",
        )
    model = load_model(weights, where, dtype, role)
    alone = use == "one_call"
    on_cpu = where.type == "cpu"
    calls = (1 if alone else threads) if on_cpu else _CUDA_CALLS
    return TorchBackend(
        device=device,
        parallel_calls=calls,
        outputs=(model.output,),
        reads_types=model.reads_types,
        _model=model,
        _kernel=varlen_kernel(where, dtype),
        _threads=max(1, threads // calls) if on_cpu else 0,
        _role=role,
    )


@contextmanager
def _cpu_threads(threads: int) -> Iterator[None]:
    """Compute on so many threads when called from this one; 0: leave it as it is."""
    before = torch.get_num_threads()
    if threads in (0, before):
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no reason given").splitlines()[0]
