"""Machines that are described instead of found: GPUs and CPUs by name."""

from __future__ import annotations

import re

from ragstack.errors import InputError
from ragstack.inference.cpu import Cpu, CpuFeature
from ragstack.inference.hardware import Gpu, Hardware
from ragstack.registry import known_names

# Name, compute capability (https://developer.nvidia.com/cuda-gpus), MiB as nvidia-smi reports them: with ECC a little
# less than the label says, and a driver may keep a few more.
_GPUS: dict[str, tuple[str, tuple[int, int], int]] = {
    "v100-16gb": ("Tesla V100-SXM2-16GB", (7, 0), 16_384),
    "v100-32gb": ("Tesla V100-SXM2-32GB", (7, 0), 32_768),
    "t4": ("Tesla T4", (7, 5), 15_360),
    "a10": ("NVIDIA A10", (8, 6), 23_028),
    "a10g": ("NVIDIA A10G", (8, 6), 23_028),
    "a30": ("NVIDIA A30", (8, 0), 24_576),
    "a40": ("NVIDIA A40", (8, 6), 46_068),
    "a100-40gb": ("NVIDIA A100-SXM4-40GB", (8, 0), 40_960),
    "a100-80gb": ("NVIDIA A100-SXM4-80GB", (8, 0), 81_920),
    "l4": ("NVIDIA L4", (8, 9), 23_034),
    "l40": ("NVIDIA L40", (8, 9), 46_068),
    "l40s": ("NVIDIA L40S", (8, 9), 46_068),
    "h100-pcie": ("NVIDIA H100 PCIe", (9, 0), 81_559),
    "h100-sxm": ("NVIDIA H100 80GB HBM3", (9, 0), 81_559),
    "h100-nvl": ("NVIDIA H100 NVL", (9, 0), 95_830),
    "h200": ("NVIDIA H200", (9, 0), 143_771),
    "h200-nvl": ("NVIDIA H200 NVL", (9, 0), 143_771),
    "gh200": ("NVIDIA GH200 480GB", (9, 0), 97_871),
    "b200": ("NVIDIA B200", (10, 0), 183_359),
    "rtx-3090": ("NVIDIA GeForce RTX 3090", (8, 6), 24_576),
    "rtx-4090": ("NVIDIA GeForce RTX 4090", (8, 9), 24_564),
    "rtx-5090": ("NVIDIA GeForce RTX 5090", (12, 0), 32_607),
    "rtx-a6000": ("NVIDIA RTX A6000", (8, 6), 49_140),
    "rtx-6000-ada": ("NVIDIA RTX 6000 Ada Generation", (8, 9), 49_140),
}
_SHORT = {"v100": "v100-32gb", "a100": "a100-80gb", "h100": "h100-sxm", "gh200-96gb": "gh200"}
_ANY_GPU = re.compile(r"(\d{1,2})\.(\d):(\d{1,4})\Z")

_CPUS: dict[str, tuple[CpuFeature, ...]] = {
    "baseline": (),
    "avx2": ("avx2",),
    "avx512": ("avx2", "avx512"),
    "vnni": ("avx2", "avx512", "vnni"),
    "amx": ("avx2", "avx512", "vnni", "bf16", "amx"),
    "neon": ("neon", "dotprod"),
}

KNOWN_GPUS = tuple(_GPUS)
KNOWN_CPUS = tuple(_CPUS)


def described_gpus(name: str, count: int) -> tuple[Gpu, ...]:
    """``count`` GPUs of a known name (``h100-sxm``), or of any compute capability and GiB (``8.9:24``).

    Raises InputError for a name that is not known; the message lists those that are.
    """
    key = re.sub(r"[\s_]+", "-", name.strip().lower()).removeprefix("nvidia-")
    key = re.sub(r"\Artx-?(?=\d)", "rtx-", key)
    found = _GPUS.get(_SHORT.get(key, key))
    own = _ANY_GPU.match(key)
    if found is None and own is not None:
        major, minor, gib = (int(part) for part in own.groups())
        found = (f"GPU with {gib} GiB", (major, minor), gib * 1024)
    if found is None:
        raise InputError(
            f"--gpu: {name!r} is not known.",
            hint=f"{known_names(key, _GPUS)} Or its compute capability and GiB, as in 8.9:24.",
        )
    label, capability, mib = found
    return tuple(Gpu(index, label, capability, mib * 2**20) for index in range(count))


def described_cpu(name: str, cores: int) -> Cpu:
    """A CPU with what a name stands for: ``avx2``, ``avx512``, ``vnni``, ``amx``, ``neon``, or none of these.

    Raises InputError for another name.
    """
    features = _CPUS.get(name.strip().lower())
    if features is None:
        raise InputError(f"--cpu: {name!r} is not known.", hint=known_names(name, _CPUS))
    return Cpu("", f"CPU with {name.strip().lower()}", frozenset(features), cores)


def described_hardware(here: Hardware, gpu: str | None, gpus: int, cpu: str | None) -> Hardware:
    """The machine that the names describe: without ``gpu`` it has none, without ``cpu`` the one that is ``here``.

    How much memory its host has is not known.
    """
    return Hardware(
        described_gpus(gpu, gpus) if gpu is not None else (),
        here.cpu if cpu is None else described_cpu(cpu, here.cpu.cores),
    )
