"""The machine and the software that figures were taken on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ragstack.inference.threads import usable_cores
from ragstack.version import __version__

_PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tokenizers", "torch", "transformers")


def describe_machine() -> dict[str, Any]:
    """CPU, cores that this process may use, memory, GPUs, and the versions of what runs models."""
    return {
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "gpus": [],
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


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
