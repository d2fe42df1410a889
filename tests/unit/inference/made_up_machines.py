"""Machines, models and installations that are not here, for tests of what is chosen on them."""

from __future__ import annotations

from hypothesis import strategies as st

from ragstack.inference.cpu import Cpu
from ragstack.inference.hardware import Gpu, Hardware
from ragstack.inference.known_hardware import KNOWN_CPUS, KNOWN_GPUS, described_cpu, described_gpus
from ragstack.inference.profile import WeightsFormat
from ragstack.inference.profiles import ModelFacts, ModelProfile
from ragstack.inference.runtimes import ALL_INSTALLED, Runtimes
from ragstack.inference.selection import Judgement

BOTH: frozenset[WeightsFormat] = frozenset({"onnx", "safetensors"})
PLAIN_CPU = Cpu("AuthenticAMD", "AMD EPYC 7B13", frozenset({"avx2"}), 2)

TRUSTING = Judgement(passes=lambda found: True, refused=lambda found: False, speed=lambda found: None)
"""Every check passes, nothing was measured."""
UNCHECKED = Judgement(passes=lambda found: False, refused=lambda found: False, speed=lambda found: None)
"""No check was or can be made."""


def machine(*names: str, cpu: Cpu = PLAIN_CPU, memory_gib: int | None = None) -> Hardware:
    """A machine with known GPUs, numbered in this order."""
    gpus = [described_gpus(name, 1)[0] for name in names]
    numbered = tuple(Gpu(index, g.name, g.compute_capability, g.memory_bytes) for index, g in enumerate(gpus))
    return Hardware(numbered, cpu, None if memory_gib is None else memory_gib * 2**30)


def model(millions: int = 22, formats: frozenset[WeightsFormat] = BOTH) -> ModelFacts:
    """A model of so many million parameters."""
    return ModelFacts("ab" * 32, formats, millions * 1_000_000)


def installed(*names: str) -> Runtimes:
    """Only these runtimes, and ONNX Runtime on the CPU, which every installation has: ``torch-cuda``."""
    return {
        kind: "" if "-".join(kind) in (*names, "onnxruntime-cpu") else f"{kind[0]} is not installed"
        for kind in ALL_INSTALLED
    }


machines = st.builds(
    lambda names, cpu, memory: machine(*names, cpu=described_cpu(cpu, 4), memory_gib=memory),
    st.lists(st.sampled_from(KNOWN_GPUS), max_size=4),
    st.sampled_from(KNOWN_CPUS),
    st.sampled_from([None, 2, 16, 512]),
)
models = st.builds(
    model,
    st.sampled_from([0, 22, 568, 4_000, 8_000, 70_000]),
    st.sets(st.sampled_from(["onnx", "safetensors"]), min_size=1).map(frozenset),
)
runtimes = st.sets(st.sampled_from(["-".join(kind) for kind in ALL_INSTALLED])).map(lambda names: installed(*names))


@st.composite
def judgements(draw: st.DrawFn) -> Judgement:
    """Checks that pass or fail by profile, and speeds that may be known."""
    failing = draw(st.sets(st.sampled_from(["fp8", "bf16", "fp16"])))
    refused = draw(st.sets(st.sampled_from(["openvino", "torch"])))
    speeds = draw(st.dictionaries(st.sampled_from(["openvino", "onnxruntime", "torch"]), st.floats(1, 1e6)))

    def speed(found: ModelProfile) -> float | None:
        return speeds.get(found.profile.backend)

    return Judgement(
        lambda found: found.profile.precision not in failing, lambda found: found.profile.backend in refused, speed
    )
