from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.errors import InputError
from ragstack.inference import selection
from ragstack.inference.hardware import Hardware
from ragstack.inference.profiles import ModelFacts, list_profiles, named, preference
from ragstack.inference.role import EMBEDDER, RERANKER
from ragstack.inference.runtimes import ALL_INSTALLED, Runtimes
from ragstack.inference.selection import Judgement, Selection, Wanted, fp32_profiles, select, wanted_by
from tests.unit.inference.made_up_machines import (
    PLAIN_CPU,
    TRUSTING,
    UNCHECKED,
    installed,
    judgements,
    machine,
    machines,
    model,
    models,
    runtimes,
)


def choose(
    facts: ModelFacts,
    hardware: Hardware,
    there: Runtimes = ALL_INSTALLED,
    wanted: Wanted | None = None,
    judgement: Judgement = TRUSTING,
) -> Selection:
    return select(facts, EMBEDDER, hardware, there, wanted or Wanted(), judgement)


def chosen(*names: str, facts: ModelFacts | None = None, **given: object) -> str:
    return choose(facts or model(), machine(*names), **given).selected.name  # type: ignore[arg-type]


def test_the_order_of_runtimes_and_precisions() -> None:
    assert chosen("h100-sxm") == "tensorrt-cuda-fp16"
    assert chosen("h100-sxm", "h100-sxm") == "tensorrt-cuda-fp16-x2"
    assert chosen("t4", there=installed("torch-cuda")) == "torch-cuda-fp16"  # Turing has no bf16
    assert chosen("v100-32gb") == "openvino-cpu-fp32"  # which the runtimes' current wheels have dropped
    assert chosen("h100-sxm", there=installed("onnxruntime-cuda", "torch-cuda")) == "onnxruntime-cuda-fp16"
    assert chosen("h100-sxm", there=installed("torch-cuda")) == "torch-cuda-bf16"
    assert chosen("h100-sxm", there=installed()) == "onnxruntime-cpu-fp32"
    assert chosen(there=installed("openvino-cpu", "torch-cpu")) == "openvino-cpu-fp32"
    assert chosen(facts=model(formats=frozenset({"safetensors"}))) == "torch-cpu-fp32"
    assert chosen("h100-sxm", facts=model(formats=frozenset({"onnx"})), there=installed("torch-cuda")) == (
        "onnxruntime-cpu-fp32"
    )


def test_a_gpu_in_full_precision_stands_behind_every_lower_one() -> None:
    names = [found.name for found in list_profiles(model(), machine("h100-sxm"), ALL_INSTALLED)]
    assert names == [
        "tensorrt-cuda-fp8",
        "tensorrt-cuda-fp16",
        "onnxruntime-cuda-fp16",
        "torch-cuda-bf16",
        "torch-cuda-fp16",
        "tensorrt-cuda-fp32",
        "onnxruntime-cuda-fp32",
        "torch-cuda-fp32",
        "openvino-cpu-int8",
        "openvino-cpu-bf16",
        "openvino-cpu-fp32",
        "onnxruntime-cpu-fp32",
        "torch-cpu-bf16",
        "torch-cpu-fp32",
    ]


def test_lower_precision_is_chosen_only_after_its_check() -> None:
    assert chosen("h100-sxm", judgement=UNCHECKED) == "tensorrt-cuda-fp32"
    fp16_fails = replace(TRUSTING, passes=lambda found: found.profile.precision != "fp16")
    assert chosen("h100-sxm", judgement=fp16_fails) == "torch-cuda-bf16"


def test_checks_are_made_of_the_better_profiles_only() -> None:
    asked = []

    def passes(found: object) -> bool:
        asked.append(found.name)  # type: ignore[attr-defined]
        return len(asked) == 2

    assert chosen("h100-sxm", judgement=replace(TRUSTING, passes=passes)) == asked[1]
    assert asked == ["tensorrt-cuda-fp16", "onnxruntime-cuda-fp16"]


def test_on_a_cpu_nothing_but_fp32_is_chosen_by_itself() -> None:
    best = replace(PLAIN_CPU, features=frozenset({"avx2", "avx512", "vnni", "bf16", "amx"}))
    found = choose(model(), Hardware((), best))
    assert found.selected.name == "openvino-cpu-fp32"
    assert next(profile.name for profile in found.profiles if profile.runnable) == "openvino-cpu-int8"
    asked = Wanted("openvino-cpu-int8", None, "embedder.profile")
    assert choose(model(), Hardware((), best), wanted=asked).selected.name == "openvino-cpu-int8"


def test_measured_speeds_decide_between_runtimes_of_a_cpu() -> None:
    speeds = {"openvino": 1000.0, "onnxruntime": 1500.0}
    there = installed("openvino-cpu")

    def measured(**known: float) -> Judgement:
        return replace(TRUSTING, speed=lambda found: known.get(found.profile.backend))

    assert chosen(there=there, judgement=measured(**speeds)) == "onnxruntime-cpu-fp32"
    assert chosen(there=there, judgement=measured(openvino=2000, onnxruntime=1500)) == "openvino-cpu-fp32"
    assert chosen(there=there, judgement=measured(onnxruntime=1500)) == "openvino-cpu-fp32"  # the other is not known
    refused = replace(measured(**speeds), refused=lambda found: found.profile.backend == "onnxruntime")
    assert chosen(there=there, judgement=refused) == "openvino-cpu-fp32"


def test_memory_keeps_large_models_from_small_devices() -> None:
    large = model(8_000)
    assert chosen("t4", facts=large) == "openvino-cpu-fp32"  # 16 GB in fp16 do not fit into 15 GiB
    assert chosen("a10", facts=large) == "tensorrt-cuda-fp16"
    reasons = {f.name: f.reason for f in list_profiles(large, machine("a10", memory_gib=8), ALL_INSTALLED)}
    assert "36.8 GiB; NVIDIA A10 has 22.5" in reasons["torch-cuda-fp32"]
    assert "the machine has 8.0" in reasons["onnxruntime-cpu-fp32"]


def test_gpus_of_several_architectures_have_profiles_of_their_own() -> None:
    found = choose(model(), machine("t4", "h100-sxm", "t4"), there=installed("torch-cuda"))
    assert (found.selected.name, found.selected.devices) == ("torch-cuda-bf16-sm90", ("cuda:1",))
    by_name = {profile.name: profile for profile in found.profiles}
    assert by_name["torch-cuda-fp16-sm75-x2"].devices == ("cuda:0", "cuda:2")
    assert not by_name["torch-cuda-bf16-sm75"].compatible
    asked = Wanted("torch-cuda-fp16", None, "embedder.profile")
    assert choose(model(), machine("t4", "h100-sxm"), wanted=asked).selected.name == "torch-cuda-fp16-sm90"


def test_counts_are_all_and_powers_of_two() -> None:
    names = [
        f.count
        for f in list_profiles(model(), machine(*["l4"] * 6), ALL_INSTALLED)
        if f.profile.name == "torch-cuda-bf16"
    ]
    assert names == [6, 4, 2, 1]


def test_devices_that_are_named_are_used_together() -> None:
    four = machine(*["l4"] * 4)
    assert choose(model(), four, wanted=Wanted(device="cuda:2")).selected.devices == ("cuda:2",)
    pair = choose(model(), four, wanted=Wanted(device=["cuda:3", "cuda:1"])).selected
    assert (pair.devices, pair.name) == (("cuda:3", "cuda:1"), "tensorrt-cuda-fp16-x2")
    mixed = choose(model(), machine("h100-sxm", "t4"), wanted=Wanted(device=["cuda:0", "cuda:1"])).selected
    assert (mixed.name, mixed.architecture) == ("tensorrt-cuda-fp16-x2", "sm75+sm90")  # what the older one can do
    assert choose(model(), four, wanted=Wanted(device="cpu")).selected.devices == ("cpu",)
    assert choose(model(), four, wanted=Wanted(device="cuda")).selected.count == 4
    three = Wanted("torch-cuda-bf16", ["cuda:0", "cuda:1", "cuda:2"], "embedder.profile")
    assert choose(model(), four, wanted=three).selected.count == 3


@pytest.mark.parametrize("device", ["cuda:4", ["cuda:0", "cuda:0"], ["cpu", "cuda:0"], ["cuda", "cuda:1"]])
def test_impossible_devices_say_what_is_here(device: object) -> None:
    with pytest.raises(InputError, match=r"^embedder\.device: ") as raised:
        choose(model(), machine("l4", "l4"), wanted=Wanted(device=device))  # type: ignore[arg-type]
    assert "cuda:1" in raised.value.hint and "cpu" in raised.value.hint
    with pytest.raises(InputError, match="no NVIDIA driver"):
        choose(model(), Hardware((), PLAIN_CPU, remark="no NVIDIA driver"), wanted=Wanted(device="cuda"))


def test_a_model_that_nothing_can_run_says_what_is_missing() -> None:
    with pytest.raises(InputError, match="nothing can run it here") as raised:
        choose(model(formats=frozenset({"safetensors"})), machine(), installed())
    assert "torch-cpu-fp32: torch is not installed" in raised.value.hint
    assert raised.value.hint.count("there is no GPU") <= 3  # said once for all profiles that lack the same
    with pytest.raises(InputError, match="must have passed its self-check") as raised:
        choose(model(8_000), machine("a10", memory_gib=16), installed("torch-cuda"), judgement=UNCHECKED)
    assert "torch-cuda-bf16" in raised.value.hint


def test_the_variable_of_each_role_outranks_its_config() -> None:
    environ = {"RAGSTACK_MODEL_PROFILE": "torch-cpu-fp32"}
    assert wanted_by(EMBEDDER, "openvino-cpu-fp32", "cpu", environ) == Wanted(
        "torch-cpu-fp32", "cpu", "RAGSTACK_MODEL_PROFILE"
    )
    assert wanted_by(RERANKER, None, None, environ) == Wanted(None, None, "")
    assert wanted_by(EMBEDDER, "x", None, {"RAGSTACK_MODEL_PROFILE": ""}) == Wanted("x", None, "embedder.profile")
    with pytest.raises(InputError, match=r"^RAGSTACK_MODEL_PROFILE: torch-cuda-fp16 cannot run here: there is no GPU"):
        choose(model(), machine(), wanted=Wanted("torch-cuda-fp16", None, "RAGSTACK_MODEL_PROFILE"))


def test_ids_tell_everything_apart_that_makes_another_profile() -> None:
    two = machine("h100-sxm", "h100-sxm")
    listed = [*list_profiles(model(), two, ALL_INSTALLED), *list_profiles(model(), machine("l4"), ALL_INSTALLED)]
    other_weights = list_profiles(replace(model(), sha256="cd" * 32), two, ALL_INSTALLED)
    gpu_ids = [found.id for found in [*listed, *other_weights] if found.profile.device_type == "cuda"]
    assert len(set(gpu_ids)) == len(gpu_ids) and all(len(each) == 64 for each in gpu_ids)
    # A CPU's id is the same everywhere, and so is that of one of two GPUs and of a lone one.
    alone = {found.id for found in list_profiles(model(), machine("h100-pcie"), installed())}
    assert alone <= {found.id for found in list_profiles(model(), two, ALL_INSTALLED)}


@given(models, machines, runtimes, judgements())
def test_whatever_is_chosen_can_run_and_nothing_better_was_left_out(
    facts: ModelFacts, hardware: Hardware, there: Runtimes, judgement: Judgement
) -> None:
    listed = list_profiles(facts, hardware, there)
    assert listed == sorted(listed, key=preference)
    eligible = [
        found
        for found in listed
        if found.runnable
        and (
            judgement.passes(found) and found.devices != ("cpu",)
            if found.profile.precision != "fp32"
            else found.devices == ("cpu",) or not judgement.refused(found)
        )
    ]
    try:
        found = choose(facts, hardware, there, judgement=judgement).selected
    except InputError as error:
        assert not eligible
        assert all(profile.name in error.message + error.hint for profile in listed if profile.runnable)
        return
    assert found in eligible
    if found.profile.device_type == "cuda":
        assert found == eligible[0]
    else:
        assert all(profile.profile.device_type == "cpu" for profile in eligible)
        if not judgement.refused(found):
            rivals = [profile for profile in eligible if not judgement.refused(profile)]
            speeds = [judgement.speed(profile) for profile in rivals]
            if None not in speeds:
                assert judgement.speed(found) == max(speeds)  # type: ignore[type-var]
            else:
                assert found == rivals[0]
    assert set(found.devices) <= {"cpu", *(gpu.device for gpu in hardware.gpus)} and len(found.devices) == found.count


@given(models, machines, runtimes, st.data())
def test_what_is_asked_for_is_taken_or_refused_with_what_is_possible(
    facts: ModelFacts, hardware: Hardware, there: Runtimes, data: st.DataObject
) -> None:
    listed = list_profiles(facts, hardware, there)
    name = data.draw(
        st.one_of(
            st.sampled_from([found.name for found in listed]),
            st.sampled_from([found.id for found in listed]),
            st.sampled_from(["torch-cuda-bf16", "no-such-profile", "0" * 64]),
        )
    )
    possible = [found for found in listed if found.runnable]
    wanted = Wanted(name, None, "embedder.profile")
    try:
        found = choose(facts, hardware, there, wanted, UNCHECKED)
    except InputError as error:
        assert not any(named(profile, name) for profile in possible)
        assert error.message.startswith("embedder.profile: ")
        assert all(profile.name in error.hint for profile in possible)
        return
    assert found.selected in possible and named(found.selected, name) and found.asked_by == "embedder.profile"


def test_references_are_exact_and_the_plainest_comes_first() -> None:
    found = fp32_profiles(model(), machine("h100-sxm"), ALL_INSTALLED)
    assert [profile.name for profile in found][:2] == ["onnxruntime-cpu-fp32", "torch-cpu-fp32"]
    assert {profile.profile.precision for profile in found} == {"fp32"}
    assert fp32_profiles(model(300), machine("h200", memory_gib=1), ALL_INSTALLED)[0].devices == ("cuda:0",)
    large = fp32_profiles(model(4_000), machine("h200", "h200"), ALL_INSTALLED)
    assert (large[0].name, large[-1].profile.device_type) == ("onnxruntime-cuda-fp32", "cpu")


def test_the_log_says_what_there_is_and_what_was_chosen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAGSTACK_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(selection, "detect_hardware", lambda: machine("h100-sxm", "h100-sxm"))
    monkeypatch.setattr(selection, "find_runtimes", lambda: installed("torch-cuda"))
    selection._announce_once.cache_clear()
    weights = _Weights()
    with caplog.at_level(logging.INFO, "ragstack"):
        for _ in range(2):
            placement = selection.select_placement(weights, EMBEDDER, threads=2, environ={})  # type: ignore[arg-type]
    assert placement.devices == ("cuda:0", "cuda:1")  # unchecked, so in fp32
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "MODEL PROFILES" and lines.count("MODEL PROFILES") == 1
    runnable = lines[lines.index("- Compatible with system and runnable:") + 1 :][:8]
    names = ["torch-cuda-bf16-x2", "torch-cuda-bf16", "torch-cuda-fp16-x2", "torch-cuda-fp16", "torch-cuda-fp32-x2"]
    assert [line.split(" ")[2] for line in runnable][:5] == [f"({name})" for name in names]
    assert all(len(line.split(" ")[1]) == 64 for line in runnable[:5])
    assert "(torch-cuda-fp32-x2)" in next(line for line in lines if line.startswith("Selected profile: "))
    assert lines[lines.index("Profile metadata:") + 1 :] == [
        "- backend: torch",
        "- precision: fp32",
        "- device: cuda:0, cuda:1",
        "- gpu: NVIDIA H100 80GB HBM3",
        "- gpus: 2",
        "- architecture: sm90",
    ]


def test_a_single_call_on_a_cpu_is_not_kept_waiting_by_a_slower_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "detect_hardware", machine)
    monkeypatch.setattr(selection, "find_runtimes", lambda: installed("openvino-cpu"))

    def single(profile: str | None = None) -> tuple[str, str | None]:
        placement = selection.select_placement(_Weights(), EMBEDDER, profile=profile, environ={})  # type: ignore[arg-type]
        return placement.profile.name, placement.stand_in and placement.stand_in.name

    assert single() == ("openvino-cpu-fp32", "onnxruntime-cpu-fp32")
    assert single("openvino-cpu-fp32") == ("openvino-cpu-fp32", None)
    monkeypatch.setattr(selection, "find_runtimes", installed)
    assert single() == ("onnxruntime-cpu-fp32", None)


class _Weights:
    sha256 = "ab" * 32
    formats = frozenset({"onnx", "safetensors"})
    parameters = 22_000_000
