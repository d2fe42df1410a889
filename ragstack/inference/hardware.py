"""What a machine has to run models on: its GPUs, its CPU, its memory."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ragstack.inference.cpu import Cpu, detect_cpu

_log = logging.getLogger(__name__)

_DRIVER_FILES = ("/dev/nvidiactl", "/usr/lib/wsl/lib/libnvidia-ml.so.1")
"""Linux with NVIDIA's driver, and inside WSL."""
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. ``index`` is CUDA's: what ``cuda:<index>`` means in this process."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int

    @property
    def architecture(self) -> str:
        """What compiled code is for: ``sm90``."""
        major, minor = self.compute_capability
        return f"sm{major}{minor}"

    @property
    def device(self) -> str:
        """As configs name it: ``cuda:0``."""
        return f"cuda:{self.index}"


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine, found or described. ``memory_bytes`` of the host; None where it cannot be told.

    ``remark`` says what kept GPUs from being found, for the log; empty where nothing did.
    """

    gpus: tuple[Gpu, ...]
    cpu: Cpu
    memory_bytes: int | None = None
    remark: str = ""

    def describe(self) -> list[str]:
        """A line for each kind of GPU, and one for the CPU."""
        kinds: dict[tuple[str, str, int], list[int]] = {}
        for gpu in self.gpus:
            kinds.setdefault((gpu.name, gpu.architecture, gpu.memory_bytes), []).append(gpu.index)
        lines = [
            f"{len(indices)} x {name} ({architecture}, {memory / 2**30:.1f} GiB)"
            for (name, architecture, memory), indices in kinds.items()
        ] or [f"no GPU{f': {self.remark}' if self.remark else ''}"]
        return [*lines, self.cpu.describe()]


def detect_hardware() -> Hardware:
    """This machine, as ``CUDA_VISIBLE_DEVICES`` shows it. Looked at once for each value of that variable."""
    return _detected(os.environ.get("CUDA_VISIBLE_DEVICES"))


@lru_cache
def _detected(visible: str | None) -> Hardware:
    gpus, remark = _detect_gpus(visible)
    if remark:
        _log.debug("no GPU: %s", remark)
    return Hardware(gpus, detect_cpu(), _memory_bytes(), remark)


def _detect_gpus(visible: str | None) -> tuple[tuple[Gpu, ...], str]:
    if not _has_driver():  # asked before anything is imported: this is what most machines answer
        return (), "no NVIDIA driver"
    try:
        import pynvml  # noqa: PLC0415 - an optional package, of use where there is a driver
    except ImportError:
        remark = "an NVIDIA driver is here, but not the package that asks it; pip install nvidia-ml-py"
        _log.warning("GPUs are not used: %s", remark)
        return (), remark
    return gpus_of(pynvml, visible)


def gpus_of(nvml: Any, visible: str | None) -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that the module ``pynvml`` tells of, and why there are none.

    ``visible`` is ``CUDA_VISIBLE_DEVICES``: which of them CUDA shows this process, and in which order.
    """
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return (), f"the NVIDIA driver cannot be asked: {error}"
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        if visible is not None and visible.startswith("MIG-"):
            # CUDA uses one instance a process: the first that is named.
            chosen = [nvml.nvmlDeviceGetHandleByUUID(visible.split(",", 1)[0])]
        else:
            uuids = [nvml.nvmlDeviceGetUUID(handle) for handle in handles] if visible else [""] * len(handles)
            chosen = [handles[index] for index in visible_indices(visible, uuids)]
        gpus = tuple(_gpu(nvml, index, handle) for index, handle in enumerate(chosen))
    except nvml.NVMLError as error:
        _log.warning("GPUs are not used: the NVIDIA driver gave an error: %s", error)
        return (), f"the NVIDIA driver gave an error: {error}"
    finally:
        nvml.nvmlShutdown()
    if len({gpu.name for gpu in gpus}) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        _log.warning("GPUs of several kinds: set CUDA_DEVICE_ORDER=PCI_BUS_ID, so that CUDA counts them as listed here")
    hidden = f"CUDA_VISIBLE_DEVICES is {visible!r}" if handles and visible is not None else "the driver has none"
    return gpus, "" if gpus else hidden


def _gpu(nvml: Any, index: int, handle: Any) -> Gpu:
    is_instance = nvml.nvmlDeviceIsMigDeviceHandle(handle)
    whole = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle) if is_instance else handle
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(whole)
    return Gpu(index, nvml.nvmlDeviceGetName(handle), (major, minor), int(nvml.nvmlDeviceGetMemoryInfo(handle).total))


def visible_indices(visible: str | None, uuids: Sequence[str]) -> list[int]:
    """Which of the GPUs with these ``uuids`` CUDA shows, in CUDA's order.

    As CUDA reads the variable: unset shows all; the list ends before the first entry that is not there; a GPU that
    is named twice makes it empty.
    """
    if visible is None:
        return list(range(len(uuids)))
    found: list[int] = []
    for entry in visible.split(","):
        index = _index_of(entry.strip(), uuids)
        if index is None:
            break
        if index in found:
            return []
        found.append(index)
    return found


def _index_of(entry: str, uuids: Sequence[str]) -> int | None:
    if entry.startswith("GPU-"):
        named = [index for index, uuid in enumerate(uuids) if uuid.startswith(entry)]
        return named[0] if len(named) == 1 else None
    return int(entry) if entry.isascii() and entry.isdigit() and int(entry) < len(uuids) else None


def _has_driver() -> bool:
    if sys.platform == "win32":
        return (Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvml.dll").is_file()
    return any(Path(name).exists() for name in _DRIVER_FILES)


def _memory_bytes() -> int | None:
    """Memory of the host, or of the container where that is less."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in _MEMORY_LIMITS:
        try:
            limit = Path(name).read_text(encoding="ascii").strip()
        except OSError:  # another kind of system, or no limit
            continue
        if limit.isdigit():
            total = min(total, int(limit))
    return total
