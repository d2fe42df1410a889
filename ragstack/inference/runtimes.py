"""Which runtimes are installed. Found, not imported: torch alone takes seconds to start."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from ragstack.inference.opening import BACKEND_MODULES
from ragstack.inference.profile import BackendName, DeviceType

Runtimes: TypeAlias = Mapping[tuple[BackendName, DeviceType], str]
"""Why a backend cannot run on a kind of device with what is installed; empty where it can."""

_EXTRAS: dict[tuple[BackendName, DeviceType], str] = {
    ("tensorrt", "cuda"): "tensorrt",
    ("onnxruntime", "cuda"): "gpu",
    ("torch", "cuda"): "torch",
    ("openvino", "cpu"): "openvino",
    ("onnxruntime", "cpu"): "",
    ("torch", "cpu"): "torch",
}
_PACKAGES: dict[tuple[BackendName, DeviceType], tuple[str, ...]] = {
    ("tensorrt", "cuda"): ("tensorrt", "torch", "onnx"),
    ("onnxruntime", "cuda"): ("onnxruntime", "onnx"),
    ("torch", "cuda"): ("torch", "transformers", "safetensors"),
    ("openvino", "cpu"): ("openvino",),
    ("onnxruntime", "cpu"): ("onnxruntime",),
    ("torch", "cpu"): ("torch", "transformers", "safetensors"),
}
_DISTRIBUTIONS: dict[BackendName, tuple[str, ...]] = {
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "torch": ("torch",),
}

ALL_INSTALLED: Runtimes = dict.fromkeys(_EXTRAS, "")


@lru_cache
def find_runtimes() -> Runtimes:
    """What is installed here."""
    return {kind: _missing(*kind) for kind in _EXTRAS}


@lru_cache
def runtime_version(backend: BackendName) -> str:
    """The version of an installed runtime, ``unknown`` where its package does not say."""
    return next(filter(None, map(_version, _DISTRIBUTIONS[backend])), "unknown")


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def extra_of(backend: BackendName, device_type: DeviceType) -> str:
    """The extra of ragstack that installs a runtime; empty where every installation has it."""
    return _EXTRAS[backend, device_type]


def _missing(backend: BackendName, device_type: DeviceType) -> str:
    absent = [name for name in _PACKAGES[backend, device_type] if not _is_there(name)]
    if absent:
        return f"{absent[0]} is not installed (pip install 'ragstack[{_EXTRAS[backend, device_type]}]')"
    if find_spec(BACKEND_MODULES[backend]) is None:
        return f"this version of ragstack does not run {backend}"
    if device_type == "cpu":
        return ""
    if backend == "onnxruntime" and not _onnxruntime_has_cuda():
        return "the installed onnxruntime runs on CPUs only (pip uninstall onnxruntime; pip install onnxruntime-gpu)"
    if backend == "torch" and not _torch_has_cuda():
        return "the installed torch runs on CPUs only (see pytorch.org for a build with CUDA)"
    return ""


def _is_there(package: str) -> bool:
    spec = find_spec(package)
    return spec is not None and spec.origin is not None  # a folder of type stubs alone has none


def _folder(package: str) -> Path | None:
    spec = find_spec(package)
    places = None if spec is None else spec.submodule_search_locations
    return Path(places[0]) if places else None


def _onnxruntime_has_cuda() -> bool:
    folder = _folder("onnxruntime")
    return folder is not None and any((folder / "capi").glob("*onnxruntime_providers_cuda*"))


def _torch_has_cuda() -> bool:
    folder = _folder("torch")
    try:
        text = "" if folder is None else (folder / "version.py").read_text(encoding="utf-8")
    except OSError:  # a build that is laid out otherwise: whether it can is seen when it is opened
        return True
    return re.search(r"^cuda\b[^=\n]*=\s*['\"]", text, re.MULTILINE) is not None
