"""The machine and the software that figures were taken on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, get_args

from ragstack.inference.cpu import CpuFeature
from ragstack.inference.hardware import detect_hardware
from ragstack.version import __version__

_PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tokenizers", "torch", "transformers")


def describe_machine() -> dict[str, Any]:
    """CPU and its instructions, cores that this process may use, memory, GPUs, versions of what runs models."""
    found = detect_hardware()
    return {
        "description": found.describe(),
        "cpu": found.cpu.model,
        "cpu_features": [name for name in get_args(CpuFeature) if name in found.cpu.features],
        "cores": found.cpu.cores,
        "memory_bytes": found.memory_bytes,
        "gpus": [
            {"name": gpu.name, "architecture": gpu.architecture, "memory_bytes": gpu.memory_bytes} for gpu in found.gpus
        ],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {"ragstack": __version__, **_versions()},
    }


def _versions() -> dict[str, str]:
    return {name: found for name in _PACKAGES if (found := _version(name)) is not None}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # an optional one
        return None
