from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.errors import InputError
from ragstack.inference import hardware as hardware_module
from ragstack.inference.cpu import cpu_from_proc, cpu_from_sysctl, detect_cpu
from ragstack.inference.hardware import detect_hardware, gpus_of, visible_indices
from ragstack.inference.known_hardware import KNOWN_CPUS, KNOWN_GPUS, described_gpus, described_hardware
from ragstack.inference.threads import usable_cores

UUIDS = ["GPU-aa11", "GPU-ab22", "GPU-cc33"]


class Nvml:
    """``pynvml`` on a machine with these GPUs: none is here to ask."""

    class NVMLError(Exception):
        """The driver's fault."""

    def __init__(self, *gpus: tuple[str, tuple[int, int], int], fails_at: str = "") -> None:
        self._gpus, self._fails_at = gpus, fails_at
        self.open = 0

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Any:
            if name == self._fails_at:
                raise self.NVMLError(f"{name} failed")
            return getattr(self, f"_{name}")(*args)

        return call

    def _nvmlInit(self) -> None:  # noqa: N802 - pynvml's names
        self.open += 1

    def _nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def _nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self._gpus)

    def _nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        name, capability, mib = self._gpus[index]
        return SimpleNamespace(name=name, capability=capability, mib=mib, uuid=UUIDS[index], mig=False)

    def _nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:  # noqa: N802
        assert uuid == "MIG-1"
        return SimpleNamespace(name="NVIDIA H100 MIG 1g.10gb", mib=9_728, mig=True)

    def _nvmlDeviceIsMigDeviceHandle(self, handle: Any) -> bool:  # noqa: N802
        return bool(handle.mig)

    def _nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: Any) -> Any:  # noqa: N802
        return self._nvmlDeviceGetHandleByIndex(0)

    def _nvmlDeviceGetUUID(self, handle: Any) -> str:  # noqa: N802
        return str(handle.uuid)

    def _nvmlDeviceGetName(self, handle: Any) -> str:  # noqa: N802
        return str(handle.name)

    def _nvmlDeviceGetCudaComputeCapability(self, handle: Any) -> tuple[int, int]:  # noqa: N802
        return handle.capability  # type: ignore[no-any-return]

    def _nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:  # noqa: N802
        return SimpleNamespace(total=handle.mib * 2**20)


H100, T4 = ("NVIDIA H100 80GB HBM3", (9, 0), 81_559), ("Tesla T4", (7, 5), 15_360)


def test_gpus_are_told_in_the_order_in_which_cuda_counts_them() -> None:
    nvml = Nvml(H100, T4)
    gpus, remark = gpus_of(nvml, None)
    assert [(gpu.device, gpu.architecture) for gpu in gpus] == [("cuda:0", "sm90"), ("cuda:1", "sm75")]
    assert (gpus[0].memory_bytes, remark, nvml.open) == (81_559 * 2**20, "", 0)
    gpus, _ = gpus_of(nvml, "1,0")
    assert [(gpu.device, gpu.name) for gpu in gpus] == [("cuda:0", "Tesla T4"), ("cuda:1", "NVIDIA H100 80GB HBM3")]
    gpus, _ = gpus_of(nvml, "MIG-1,MIG-2")
    assert [(gpu.device, gpu.architecture, gpu.memory_bytes) for gpu in gpus] == [("cuda:0", "sm90", 9_728 * 2**20)]


def test_gpus_of_several_kinds_get_a_warning_about_their_order(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    gpus_of(Nvml(H100, T4), None)
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in caplog.text
    caplog.clear()
    gpus_of(Nvml(H100, H100), None)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    gpus_of(Nvml(H100, T4), None)
    assert not caplog.text


@pytest.mark.parametrize("visible", ["", "-1", "7", "none", "0,0", "GPU-zz"])
def test_gpus_that_are_hidden_are_not_there(visible: str) -> None:
    gpus, remark = gpus_of(Nvml(H100, H100), visible)
    assert gpus == () and f"CUDA_VISIBLE_DEVICES is {visible!r}" in remark


def test_the_variable_is_read_as_cuda_reads_it() -> None:
    assert visible_indices(None, UUIDS) == [0, 1, 2]
    assert visible_indices("2, 0", UUIDS) == [2, 0]
    assert visible_indices("1,9,0", UUIDS) == [1]  # it ends before what is not there
    assert visible_indices("GPU-cc,GPU-aa11", UUIDS) == [2, 0]
    assert visible_indices("GPU-a", UUIDS) == []  # which of the two?
    assert visible_indices("GPU-aa,0", UUIDS) == []  # the same GPU twice


@given(st.text(alphabet="0123-,GPUabc ", max_size=20), st.integers(0, 3))
def test_any_value_names_different_gpus_that_are_there(visible: str, count: int) -> None:
    found = visible_indices(visible, UUIDS[:count])
    assert len(set(found)) == len(found) and set(found) <= set(range(count))


@pytest.mark.parametrize("fault", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetMemoryInfo"])
def test_a_driver_that_fails_means_no_gpu(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    nvml = Nvml(H100, fails_at=fault)
    gpus, remark = gpus_of(nvml, None)
    assert gpus == () and f"{fault} failed" in remark
    assert nvml.open == 0


def test_a_machine_without_driver_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hardware_module, "_has_driver", lambda: False)
    hardware_module._detected.cache_clear()
    with caplog.at_level(logging.DEBUG, "ragstack"):
        found = detect_hardware()
    assert found.gpus == () and found.describe()[0] == "no GPU: no NVIDIA driver"
    assert "no NVIDIA driver" in caplog.text and "WARNING" not in caplog.text
    assert found.cpu.cores == usable_cores() and (found.memory_bytes or 2**40) > 2**28
    hardware_module._detected.cache_clear()


def test_a_driver_without_the_package_that_asks_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hardware_module, "_has_driver", lambda: True)
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert hardware_module._detect_gpus(None)[0] == ()
    assert "pip install nvidia-ml-py" in caplog.text


@pytest.mark.parametrize(
    ("told", "features"),
    [
        ("flags : fpu avx2 fma avx512f avx512bw avx512dq avx512vl avx512_vnni", {"avx2", "avx512", "vnni"}),
        ("flags : avx2 fma avx_vnni", {"avx2", "vnni"}),
        ("flags : avx2 fma avx512f", {"avx2"}),  # Knights Landing had the first part of AVX-512 alone
        ("flags : amx_tile amx_int8 amx_bf16 avx512_bf16", {"amx", "bf16"}),
        ("flags : bf16", set()),
        ("Features : fp asimd asimddp bf16 i8mm sve", {"neon", "dotprod", "bf16", "i8mm", "sve"}),
        ("", set()),
    ],
)
def test_features_of_a_cpu_on_linux(told: str, features: set[str]) -> None:
    text = (
        f"processor : 0\nvendor_id : AuthenticAMD\nmodel name : AMD  EPYC 7B13\n{told}\n\nprocessor : 1\nflags : sse\n"
    )
    found = cpu_from_proc(text, 4)
    assert (found.vendor, found.model, found.cores, found.features) == ("AuthenticAMD", "AMD EPYC 7B13", 4, features)


def test_arm_and_macos_name_their_cpus_otherwise() -> None:
    found = cpu_from_proc("CPU implementer : 0xc0\nCPU part : 0xac3\nFeatures : asimd\n", 8)
    assert (found.vendor, found.model) == ("Ampere", "part 0xac3")
    assert cpu_from_proc("", 1).describe() == "1 CPU cores, unknown"
    told = "machdep.cpu.brand_string: Apple M3\nhw.optional.AdvSIMD: 1\nhw.optional.arm.FEAT_BF16: 1\n"
    told += "hw.optional.arm.FEAT_I8MM: 0\nhw.optional.arm.FEAT_DotProd: 1\n"
    found = cpu_from_sysctl(told, 8)
    assert (found.vendor, found.features) == ("Apple", {"neon", "bf16", "dotprod"})
    intel = "machdep.cpu.vendor: GenuineIntel\nmachdep.cpu.features: FPU FMA\nmachdep.cpu.leaf7_features: AVX2 BMI2\n"
    assert cpu_from_sysctl(intel, 8).features == {"avx2"}


def test_this_machine_is_told() -> None:
    found = detect_cpu()
    assert found.cores >= 1 and found.describe()


def test_machines_can_be_described() -> None:
    here = detect_hardware()
    assert [gpu.device for gpu in described_gpus("H100 SXM", 2)] == ["cuda:0", "cuda:1"]
    assert described_gpus("rtx4090", 1) == described_gpus("NVIDIA RTX 4090", 1) == described_gpus("rtx_4090", 1)
    own = described_gpus("8.9:24", 1)[0]
    assert (own.architecture, own.memory_bytes) == ("sm89", 24 * 2**30)
    assert described_hardware(here, None, 1, "amx").gpus == ()
    assert "amx" in described_hardware(here, "t4", 1, "amx").cpu.features
    assert described_hardware(here, "t4", 1, None).cpu == here.cpu
    for name in KNOWN_GPUS:
        gpu = described_gpus(name, 1)[0]
        assert gpu.compute_capability >= (7, 0) and 14 * 2**30 < gpu.memory_bytes < 200 * 2**30
    for cpu in KNOWN_CPUS:
        described_hardware(here, None, 1, cpu)
    with pytest.raises(InputError, match="--gpu: 'h1000' is not known") as raised:
        described_gpus("h1000", 1)
    assert "h100-sxm" in raised.value.hint
    with pytest.raises(InputError, match="--cpu: 'z80' is not known"):
        described_hardware(here, None, 1, "z80")
