"""How busy and how full the machine's NVIDIA GPUs are, where there are any."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_log = logging.getLogger(__name__)

GPU_METRICS = {
    "ragstack_gpu_utilization_ratio": "Share of the last sample period in which the GPU was busy.",
    "ragstack_gpu_memory_used_bytes": "Memory in use on the GPU, by all processes.",
    "ragstack_gpu_memory_total_bytes": "Memory of the GPU.",
}
"""The metrics that a machine with a GPU adds, each with the label ``gpu`` (the index)."""


class GpuCollector(Collector):
    """Asks NVML whenever metrics are read."""

    def __init__(self, nvml: Any) -> None:
        """``nvml`` is the module ``pynvml``, initialised."""
        self._nvml = nvml

    @classmethod
    def open(cls) -> GpuCollector | None:
        """None without the package nvidia-ml-py (extra ``gpu-metrics``) and on a machine without an NVIDIA driver."""
        try:
            import pynvml  # noqa: PLC0415 - an optional package, of use on few machines
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            _log.debug("no GPU metrics: %s", error)
            return None
        return cls(pynvml)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample a GPU; a figure that the GPU does not give is left out."""
        families = {name: GaugeMetricFamily(name, text, labels=["gpu"]) for name, text in GPU_METRICS.items()}
        try:
            for index in range(self._nvml.nvmlDeviceGetCount()):
                self._read(index, self._nvml.nvmlDeviceGetHandleByIndex(index), families)
        except self._nvml.NVMLError as error:  # a lost driver must not take the other metrics along
            _log.warning("the GPUs cannot be asked: %s", error)
        yield from families.values()

    def _read(self, index: int, handle: Any, families: dict[str, GaugeMetricFamily]) -> None:
        nvml, gpu = self._nvml, [str(index)]
        try:
            busy = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
            families["ragstack_gpu_utilization_ratio"].add_metric(gpu, busy)
        except nvml.NVMLError as error:
            _log.debug("GPU %d tells no utilisation: %s", index, error)
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            families["ragstack_gpu_memory_used_bytes"].add_metric(gpu, memory.used)
            families["ragstack_gpu_memory_total_bytes"].add_metric(gpu, memory.total)
        except nvml.NVMLError as error:
            _log.debug("GPU %d tells no memory: %s", index, error)
