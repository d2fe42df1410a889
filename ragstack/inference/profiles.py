"""All profiles of a model: which of them a machine can run, why not the others, and which is better.

A profile is one of :mod:`ragstack.inference.profile`, on GPUs of one architecture and so many of them. What is tried
first: TensorRT before ONNX Runtime and OpenVINO before PyTorch, lower precision before higher, more GPUs before fewer.
Only full precision on a GPU stands behind every lower one, whatever the runtime: it leaves the matrix units idle. A
CPU comes after all GPUs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from ragstack.inference.hardware import Gpu, Hardware
from ragstack.inference.profile import BackendName, DeviceType, ModelWeights, Precision, Profile, WeightsFormat
from ragstack.inference.runtimes import Runtimes
from ragstack.types import canonical_json, sha256_hex

_IMPLEMENTED: dict[tuple[BackendName, DeviceType], tuple[Precision, ...]] = {
    ("tensorrt", "cuda"): ("fp8", "fp16", "fp32"),
    ("onnxruntime", "cuda"): ("fp16", "fp32"),
    ("torch", "cuda"): ("bf16", "fp16", "fp32"),
    ("openvino", "cpu"): ("int8", "bf16", "fp32"),
    ("onnxruntime", "cpu"): ("fp32",),
    ("torch", "cpu"): ("bf16", "fp32"),
}
_READS: dict[BackendName, WeightsFormat] = {
    "tensorrt": "onnx",
    "onnxruntime": "onnx",
    "openvino": "onnx",
    "torch": "safetensors",
}
_BACKENDS: tuple[BackendName, ...] = ("tensorrt", "openvino", "onnxruntime", "torch")
_PRECISIONS: tuple[Precision, ...] = ("fp8", "int8", "bf16", "fp16", "fp32")
_BYTES: dict[Precision, int] = {"fp8": 1, "int8": 1, "bf16": 2, "fp16": 2, "fp32": 4}

# The matrix units that know them came with Ada and Hopper, and with Ampere:
# https://docs.nvidia.com/deeplearning/tensorrt/latest/getting-started/support-matrix.html
_CAPABILITY: dict[Precision, tuple[int, int]] = {"fp8": (8, 9), "bf16": (8, 0)}
# CUDA 13, which the runtimes' current wheels are built with, has dropped what is older than Turing.
_OLDEST = (7, 5)

_WEIGHTS_SHARE = 1.2
"""Memory for the weights and what a runtime makes of them, per byte of weights."""
_GPU_BYTES = 2**30
"""What a GPU needs besides: the CUDA context, and the activations of a small batch."""

ObstacleKind: TypeAlias = Literal["hardware", "memory", "weights", "runtime"]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a profile from running: the machine, its memory, the form of the weights, what is installed."""

    kind: ObstacleKind
    reason: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What must be known of a model to tell its profiles.

    ``sha256`` names the weights; ``parameters`` is how many numbers they hold, 0 where nobody knows.
    """

    sha256: str
    formats: frozenset[WeightsFormat]
    parameters: int

    @classmethod
    def of(cls, weights: ModelWeights) -> ModelFacts:
        """Those of files that are at hand."""
        return cls(weights.sha256, weights.formats, weights.parameters)


@dataclass(frozen=True)
class ModelProfile:
    """One way to run one model on one kind of device.

    ``name`` is what configs and logs call it; ``architecture`` is the GPUs' (``sm90``), ``cpu``, or ``cuda`` where
    there is no GPU to tell. ``devices`` are those it runs on: as many as ``count``, none without a GPU.
    ``memory_bytes`` is what each of them must have, 0 where that is not known.
    """

    weights_sha256: str
    profile: Profile
    architecture: str
    count: int
    devices: tuple[str, ...]
    gpu: str
    memory_bytes: int
    obstacles: tuple[Obstacle, ...]
    name: str

    @cached_property
    def id(self) -> str:
        """64 hex digits that name weights, backend, device type, precision, architecture and count."""
        identity = {
            "weights": self.weights_sha256,
            "backend": self.profile.backend,
            "device_type": self.profile.device_type,
            "precision": self.profile.precision,
            "architecture": self.architecture,
            "count": self.count,
        }
        return sha256_hex(canonical_json(identity).encode())

    @property
    def compatible(self) -> bool:
        """True when the machine can run it, whatever is installed."""
        return not any(obstacle.kind in ("hardware", "memory") for obstacle in self.obstacles)

    @property
    def runnable(self) -> bool:
        """True when it can run now: the machine, the weights and the runtime are here."""
        return not self.obstacles

    @property
    def reason(self) -> str:
        """Why it cannot run; empty where it can."""
        return "; ".join(obstacle.reason for obstacle in self.obstacles)


def list_profiles(
    facts: ModelFacts, hardware: Hardware, runtimes: Runtimes, *, together: bool = False
) -> list[ModelProfile]:
    """Every profile of a model, the better ones first, on GPUs of each architecture of the machine and on its CPU.

    ``together``: the GPUs were chosen, so all of them are used and none left out, of whatever architectures.
    """
    groups = _groups(hardware.gpus, together=together)
    found = []
    for (backend, device_type), precisions in _IMPLEMENTED.items():
        for precision in precisions:
            profile = Profile(backend, device_type, precision)
            if device_type == "cpu":
                found.append(_on_cpu(profile, facts, hardware, runtimes))
                continue
            for gpus in groups:
                suffix = f"-{_architecture(gpus)}" if len(groups) > 1 else ""
                counts = [len(gpus)] if together else _counts(len(gpus))
                found += [_on_gpus(profile, facts, gpus[:count], runtimes, suffix) for count in counts]
            if not groups:
                found.append(_without_gpu(profile, facts, hardware))
    return sorted(found, key=preference)


def preference(found: ModelProfile) -> tuple[bool, bool, int, int, tuple[int, ...], int]:
    """A key that sorts better profiles first."""
    profile = found.profile
    on_gpu = profile.device_type == "cuda"
    digits = re.findall(r"\d+", found.architecture)
    return (
        not on_gpu,
        on_gpu and profile.precision == "fp32",
        _BACKENDS.index(profile.backend),
        _PRECISIONS.index(profile.precision),
        tuple(-int(number) for number in digits),
        -found.count,
    )


def named(found: ModelProfile, wanted: str) -> bool:
    """True when ``wanted`` names the profile: by its id, its name, or its name without GPUs (``torch-cuda-bf16``)."""
    return wanted in (found.id, found.name, found.profile.name)


def _groups(gpus: Sequence[Gpu], *, together: bool) -> list[tuple[Gpu, ...]]:
    if together:
        return [tuple(gpus)] if gpus else []
    newest_first = sorted({gpu.compute_capability for gpu in gpus}, reverse=True)
    return [tuple(gpu for gpu in gpus if gpu.compute_capability == each) for each in newest_first]


def _counts(most: int) -> list[int]:
    """How many of the GPUs profiles are listed for: all, and powers of two below."""
    return sorted({most, *(2**power for power in range(most.bit_length()) if 2**power <= most)}, reverse=True)


def _architecture(gpus: Sequence[Gpu]) -> str:
    return "+".join(sorted({gpu.architecture for gpu in gpus}))


def _on_cpu(profile: Profile, facts: ModelFacts, hardware: Hardware, runtimes: Runtimes) -> ModelProfile:
    needed = int(facts.parameters * _BYTES[profile.precision] * _WEIGHTS_SHARE)
    obstacles = [*_cpu_obstacles(profile, hardware), *_installed(profile, facts, runtimes)]
    if hardware.memory_bytes is not None and needed > hardware.memory_bytes:
        obstacles.append(_too_large(needed, hardware.memory_bytes, "the machine"))
    return ModelProfile(facts.sha256, profile, "cpu", 1, ("cpu",), "", needed, tuple(obstacles), profile.name)


def _on_gpus(profile: Profile, facts: ModelFacts, gpus: Sequence[Gpu], runtimes: Runtimes, suffix: str) -> ModelProfile:
    weights = int(facts.parameters * _BYTES[profile.precision] * _WEIGHTS_SHARE)
    needed = weights + _GPU_BYTES if weights else 0
    least = min(gpus, key=lambda gpu: gpu.compute_capability)
    smallest = min(gpus, key=lambda gpu: gpu.memory_bytes)
    obstacles = [*_gpu_obstacles(profile, least), *_installed(profile, facts, runtimes)]
    if needed > smallest.memory_bytes:
        obstacles.append(_too_large(needed, smallest.memory_bytes, smallest.name))
    return ModelProfile(
        facts.sha256,
        profile,
        _architecture(gpus),
        len(gpus),
        tuple(gpu.device for gpu in gpus),
        " + ".join(sorted({gpu.name for gpu in gpus})),
        needed,
        tuple(obstacles),
        f"{profile.name}{suffix}" + (f"-x{len(gpus)}" if len(gpus) > 1 else ""),
    )


def _without_gpu(profile: Profile, facts: ModelFacts, hardware: Hardware) -> ModelProfile:
    reason = f"there is no GPU ({hardware.remark})" if hardware.remark else "there is no GPU"
    return ModelProfile(facts.sha256, profile, "cuda", 1, (), "", 0, (Obstacle("hardware", reason),), profile.name)


def _cpu_obstacles(profile: Profile, hardware: Hardware) -> Iterator[Obstacle]:
    features = hardware.cpu.features
    if profile.precision == "bf16" and "bf16" not in features:
        yield Obstacle("hardware", "the CPU has no bf16 instructions (AVX-512 BF16, AMX)")
    if profile.precision == "int8" and not features & {"vnni", "dotprod", "i8mm"}:
        yield Obstacle("hardware", "the CPU has no int8 instructions (VNNI, AMX)")


def _gpu_obstacles(profile: Profile, gpu: Gpu) -> Iterator[Obstacle]:
    needed = _CAPABILITY.get(profile.precision, _OLDEST)
    if gpu.compute_capability < needed:
        what = profile.precision if profile.precision in _CAPABILITY else profile.backend
        yield Obstacle(
            "hardware",
            f"{what} needs compute capability {needed[0]}.{needed[1]}; {gpu.name} has"
            f" {gpu.compute_capability[0]}.{gpu.compute_capability[1]}",
        )


def _installed(profile: Profile, facts: ModelFacts, runtimes: Runtimes) -> Iterator[Obstacle]:
    form = _READS[profile.backend]
    if profile.precision == "fp8":
        yield Obstacle("weights", "FP8 takes a graph with FP8 scales, which ragstack does not make yet")
    elif form not in facts.formats:
        yield Obstacle("weights", f"the model has no {'ONNX file' if form == 'onnx' else 'safetensors'}")
    missing = runtimes[profile.backend, profile.device_type]
    if missing:
        yield Obstacle("runtime", missing)


def _too_large(needed: int, there: int, what: str) -> Obstacle:
    return Obstacle("memory", f"it needs about {needed / 2**30:.1f} GiB; {what} has {there / 2**30:.1f}")
