"""What this machine's CPU is, and which instructions for matrices it has."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from ragstack.inference.threads import usable_cores

CpuFeature: TypeAlias = Literal["avx2", "avx512", "vnni", "bf16", "amx", "neon", "dotprod", "i8mm", "sve"]

# What each system calls them: all of a group, of any group. https://docs.kernel.org/arch/x86/cpuinfo.html,
# https://docs.kernel.org/arch/arm64/elf_hwcaps.html and, of macOS, `sysctl machdep.cpu hw.optional.arm`.
_FLAGS: dict[CpuFeature, tuple[frozenset[str], ...]] = {
    "avx2": (frozenset({"avx2", "fma"}),),
    "avx512": (frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"}),),
    "vnni": (frozenset({"avx512_vnni"}), frozenset({"avx_vnni"}), frozenset({"avx512vnni"})),
    "bf16": (
        frozenset({"avx512_bf16"}),
        frozenset({"amx_bf16"}),
        frozenset({"bf16", "asimd"}),
        frozenset({"feat_bf16"}),
    ),
    "amx": (frozenset({"amx_tile", "amx_int8"}), frozenset({"amx_tile", "amx_bf16"})),
    "neon": (frozenset({"asimd"}), frozenset({"advsimd"})),
    "dotprod": (frozenset({"asimddp"}), frozenset({"feat_dotprod"})),
    "i8mm": (frozenset({"i8mm", "asimd"}), frozenset({"feat_i8mm"})),
    "sve": (frozenset({"sve"}),),
}
_ARM_IMPLEMENTERS = {"0x41": "ARM", "0x4e": "NVIDIA", "0x51": "Qualcomm", "0x61": "Apple", "0xc0": "Ampere"}
_FIRST_PROCESSOR_BYTES = 8192
"""More than /proc/cpuinfo says of one; of hundreds it takes the kernel a while to tell."""
_WINDOWS_FEATURES: dict[CpuFeature, int] = {"avx2": 40, "avx512": 41, "neon": 19, "dotprod": 43}
"""``IsProcessorFeaturePresent``'s numbers."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """``cores`` that this process may use. ``vendor`` and ``model`` are empty where the system does not tell."""

    vendor: str
    model: str
    features: frozenset[CpuFeature]
    cores: int

    def describe(self) -> str:
        """One line: ``2 CPU cores, AMD EPYC 7B13 (avx2)``."""
        features = ", ".join(name for name in get_args(CpuFeature) if name in self.features)
        return f"{self.cores} CPU cores, {self.model or self.vendor or 'unknown'}" + (
            f" ({features})" if features else ""
        )


def detect_cpu() -> Cpu:
    """This machine's CPU; nothing that it does not say is assumed."""
    if sys.platform == "linux":
        return cpu_from_proc(_read_start(Path("/proc/cpuinfo")), usable_cores())
    if sys.platform == "darwin":
        return cpu_from_sysctl(_sysctl(), usable_cores())
    return Cpu("", platform.processor(), _windows_features(), usable_cores())


def cpu_from_proc(text: str, cores: int) -> Cpu:
    """What Linux's ``/proc/cpuinfo`` says of the first processor."""
    pairs = [line.partition(":") for line in text.split("\n\n", 1)[0].splitlines()]
    told = {key.strip(): value.strip() for key, _, value in pairs}
    vendor = told.get("vendor_id") or _ARM_IMPLEMENTERS.get(told.get("CPU implementer", ""), "")
    model = told.get("model name") or (f"part {told['CPU part']}" if "CPU part" in told else "")
    flags = told.get("flags") or told.get("Features") or ""
    return Cpu(vendor, " ".join(model.split()), _features(flags.split()), cores)


def cpu_from_sysctl(text: str, cores: int) -> Cpu:
    """What macOS's ``sysctl machdep.cpu hw.optional`` prints."""
    told = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    names = [key.rsplit(".", 1)[-1] for key, value in told.items() if key.startswith("hw.optional.") and value == "1"]
    for key in ("machdep.cpu.features", "machdep.cpu.leaf7_features"):
        names += told.get(key, "").split()
    model = told.get("machdep.cpu.brand_string", "")
    vendor = told.get("machdep.cpu.vendor") or ("Apple" if model.startswith("Apple") else "")
    return Cpu(vendor, model, _features(name.lower() for name in names), cores)


def _features(flags: Iterable[str]) -> frozenset[CpuFeature]:
    has = frozenset(flags)
    return frozenset(name for name, groups in _FLAGS.items() if any(group <= has for group in groups))


def _read_start(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_FIRST_PROCESSOR_BYTES).decode("utf-8", "replace")
    except OSError:  # /proc is hidden: nothing is known
        return ""


def _sysctl() -> str:
    try:
        asked = ["sysctl", "machdep.cpu", "hw.optional"]
        return subprocess.run(asked, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _windows_features() -> frozenset[CpuFeature]:
    if sys.platform != "win32":
        return frozenset()
    present = ctypes.windll.kernel32.IsProcessorFeaturePresent
    return frozenset(name for name, number in _WINDOWS_FEATURES.items() if present(number))
