"""``ragstack profiles``, and what the log and doctor say of profiles."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ragstack.cli.main import main
from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.errors import InputError
from ragstack.inference import selection, self_check
from ragstack.inference.backend import Backend
from ragstack.inference.hardware import Hardware
from ragstack.inference.profile import REFERENCE, Profile
from tests.cross_encoder_kit import write_cross_encoder
from tests.unit.inference.made_up_machines import PLAIN_CPU, installed, machine


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAGSTACK_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["profiles", "--json", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_this_machine_is_listed_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["MODEL PROFILES", "- Model: embedding model all-MiniLM-L6-v2"]
    runnable = lines[lines.index("- Compatible with system and runnable:") + 1]
    assert re.match(r"- [0-9a-f]{64} \([a-z0-9-]+\)", runnable)
    selected = next(line for line in lines if line.startswith("Selected profile: "))
    assert selected.endswith("-cpu-fp32)")
    assert lines[lines.index("Profile metadata:") + 2 :] == ["- precision: fp32", "- device: cpu", "- gpu: none"]


def test_a_described_machine(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys, "--gpu", "h100-sxm", "--gpus", "2", "--cpu", "amx")
    assert [gpu["device"] for gpu in found["system"]["gpus"]] == ["cuda:0", "cuda:1"]
    assert "amx" in found["system"]["cpu"]["features"]
    profiles = {profile["name"]: profile for profile in found["models"][0]["profiles"]}
    assert profiles["tensorrt-cuda-fp16-x2"]["runnable"] and profiles["tensorrt-cuda-fp16-x2"]["gpus"] == 2
    assert profiles["torch-cuda-bf16"]["obstacles"] == [
        {"kind": "weights", "reason": "the model has no safetensors"}  # the packaged model is ONNX alone
    ]
    assert found["models"][0]["selected"]["name"].endswith("-x2")
    assert main(["profiles", "--gpu", "t4"]) == 0
    out = capsys.readouterr().out
    assert "needs compute capability 8.9; Tesla T4 has 7.5" in out and "[ragstack[gpu], unverified]" in out


def test_registered_models_need_no_files(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys, "--model", "Qwen3-Embedding-8B", "--gpu", "a10")["models"][0]
    by_name = {profile["name"]: profile for profile in found["profiles"]}
    assert by_name["torch-cuda-bf16"]["runnable"] and not by_name["torch-cuda-fp32"]["compatible"]
    assert found["selected"]["name"] == "torch-cuda-bf16"
    found = listed(capsys, "--model", "Qwen3-Reranker-4B", "--gpu", "l4", "--gpus", "4")["models"][0]
    assert (found["role"], found["selected"]["name"]) == ("reranker", "torch-cuda-bf16-x4")
    found = listed(capsys, "--model", "Qwen3-Embedding-8B", "--gpu", "t4")["models"][0]
    by_name = {profile["name"]: profile for profile in found["profiles"]}
    assert "it needs about 17.9 GiB; Tesla T4 has 15.0" in by_name["torch-cuda-fp16"]["obstacles"][0]["reason"]
    assert found["selected"]["name"] == "torch-cpu-fp32"


def test_what_cannot_be_selected_is_an_error_in_either_form(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGSTACK_MODEL_PROFILE", "torch-cuda-bf16")
    assert main(["profiles", "--gpu", "t4", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)["models"][0]
    assert found["selected"] is None and "RAGSTACK_MODEL_PROFILE: torch-cuda-bf16 cannot run here" in found["error"]
    assert main(["profiles", "--gpu", "t4"]) == 2
    out, err = capsys.readouterr()
    assert "MODEL PROFILES" in out and "Selected" not in out and "Possible here: tensorrt-cuda-fp16" in err


def test_the_config_and_the_variable_are_heeded(
    in_empty_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_cross_encoder(in_empty_folder / "ranker")
    (in_empty_folder / "ragstack.yaml").write_text(
        f"reranker: {{type: cross_encoder, model: {folder}}}\nembedder: {{profile: onnxruntime-cpu-fp32}}\n"
    )
    models = listed(capsys)["models"]
    assert [found["role"] for found in models] == ["embedder", "reranker"]
    assert models[0]["selected"]["name"] == "onnxruntime-cpu-fp32"
    assert [found["role"] for found in listed(capsys, "--model", str(folder))["models"]] == ["reranker"]
    monkeypatch.setenv("RAGSTACK_RERANKER_PROFILE", "tensorrt-cuda-fp16")
    assert main(["profiles"]) == 2
    out, err = capsys.readouterr()
    assert out.count("MODEL PROFILES") == 2
    assert "RAGSTACK_RERANKER_PROFILE: tensorrt-cuda-fp16 cannot run here" in err and "onnxruntime-cpu-fp32" in err
    (in_empty_folder / "ragstack.yaml").write_text("embedder: {type: hashing}\nreranker: {type: none}\n")
    assert main(["profiles"]) == 2
    assert "names no model that runs on this machine" in capsys.readouterr().err


def test_mistakes_in_the_description(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["--gpus", "2"], "Add --gpu"),
        (["--gpu", "voodoo2"], "h100-sxm"),
        (["--cpu", "z80"], "avx512"),
        (["--gpu", "t4", "--measure"], "Leave out --gpu"),
        (["--model", "nothing-like-it"], "unknown model"),
        (["--model", "bge-m3", "--measure"], "--revision"),
    ):
        assert main(["profiles", *arguments]) == 2
        assert said in capsys.readouterr().err


def test_measuring_decides_what_is_used_from_then_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = {"onnxruntime": 200.0, "openvino": 100.0}
    monkeypatch.setattr(
        "ragstack.inference.self_check.tokens_per_second", lambda backend, probe: speeds[_runtime_of(backend)]
    )
    found = listed(capsys, "--measure")["models"][0]
    checks = {p["name"]: p["check"] for p in found["profiles"] if p["runnable"]}
    assert all(check["passed"] and check["agreement"] > 0.98 for check in checks.values())
    assert {"onnxruntime-cpu-fp32", "openvino-cpu-fp32"} <= checks.keys()
    assert found["selected"]["name"] == "onnxruntime-cpu-fp32"
    embedder = EncoderEmbedder(threads=1)
    assert embedder.profile == "onnxruntime-cpu-fp32"
    embedder.close()
    assert "200 tokens/s" in (main(["profiles"]), capsys.readouterr().out)[1]


def test_doctor_names_the_profile(
    in_empty_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["doctor", "--json"])
    found = {each["check"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert "all-MiniLM-L6-v2: " in found["profile"]["found"] and "-cpu-fp32 on cpu" in found["profile"]["found"]
    assert found["hardware"]["verdict"] == "ok"
    monkeypatch.setenv("RAGSTACK_MODEL_PROFILE", "torch-cuda-bf16")
    assert main(["doctor", "--json"]) == 1
    found = {each["check"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert found["profile"]["verdict"] == "fail" and "RAGSTACK_MODEL_PROFILE" in found["profile"]["found"]


def test_fp32_is_one_fingerprint_and_less_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index made on one CPU, or by one runtime, is valid on another; one made in int8 is not."""
    best = Hardware((), PLAIN_CPU.__class__("", "", frozenset({"avx2", "avx512", "vnni", "bf16", "amx"}), 8))
    plain = Hardware((), PLAIN_CPU)

    def fingerprint(there: Hardware, profile: str | None) -> str:
        monkeypatch.setattr(selection, "detect_hardware", lambda: there)
        embedder = EncoderEmbedder(profile=profile)
        assert embedder.profile == profile or profile is None
        embedder.close()
        return embedder.info.fingerprint

    exact = {fingerprint(there, profile) for there in (best, plain) for profile in (None, "onnxruntime-cpu-fp32")}
    exact |= {fingerprint(best, "openvino-cpu-fp32")}
    assert len(exact) == 1
    lower = {fingerprint(best, "openvino-cpu-bf16"), fingerprint(best, "openvino-cpu-int8")}
    assert len(lower | exact) == 3
    with pytest.raises(InputError, match="the CPU has no int8 instructions"):
        fingerprint(plain, "openvino-cpu-int8")


def test_a_gpu_profile_is_checked_before_it_is_first_chosen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a made-up machine whose GPU cannot be opened: the check fails, and the next profile is taken."""
    monkeypatch.setattr(selection, "detect_hardware", lambda: machine("h100-sxm"))
    monkeypatch.setattr(selection, "find_runtimes", lambda: installed("tensorrt-cuda"))
    embedder = EncoderEmbedder(device="cpu")
    assert embedder.profile == "onnxruntime-cpu-fp32" and not caplog.text
    embedder = EncoderEmbedder()
    assert "the profile tensorrt-cuda-fp16 is not used" in caplog.text
    assert (embedder.profile, embedder.device) == ("tensorrt-cuda-fp32", "cuda:0")


def test_a_gpu_profile_that_passes_is_chosen_and_not_checked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The same machine with a GPU that gives what the CPU gives."""
    real, opened = self_check.open_backend, []

    def open_backend(weights: Any, profile: Profile, device: str, *rest: Any) -> Backend:
        opened.append((profile.name, device))
        if profile.backend == "tensorrt":
            raise RuntimeError("no kernel image is available for execution on the device")
        return real(weights, REFERENCE, "cpu", *rest)

    monkeypatch.setattr(self_check, "open_backend", open_backend)
    monkeypatch.setattr(selection, "detect_hardware", lambda: machine("l4", "l4"))
    monkeypatch.setattr(selection, "find_runtimes", lambda: installed("tensorrt-cuda", "onnxruntime-cuda"))
    on_gpus = EncoderEmbedder()
    assert (on_gpus.profile, on_gpus.device) == ("onnxruntime-cuda-fp16", "cuda:0,cuda:1")
    assert opened == [
        ("onnxruntime-cpu-fp32", "cpu"),  # the reference, once for all
        ("tensorrt-cuda-fp16", "cuda:0"),  # on two GPUs it is what it is on one
        ("onnxruntime-cuda-fp16", "cuda:0"),
    ]
    assert on_gpus.info.fingerprint != EncoderEmbedder(device="cpu").info.fingerprint
    assert EncoderEmbedder(device="cuda:1").info.fingerprint == on_gpus.info.fingerprint
    assert len(opened) == 3


def test_the_log_of_a_run_shows_the_profiles(in_empty_folder: Path) -> None:
    (in_empty_folder / "docs").mkdir()
    (in_empty_folder / "docs" / "a.txt").write_text("Records are kept for ten years.\n")
    (in_empty_folder / "ragstack.yaml").write_text("observability: {log_level: info}\n")
    command = [sys.executable, "-m", "ragstack", "index", "docs"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.partition(": ")[2] for line in done.stderr.splitlines() if " ragstack.inference.selection: " in line]
    assert lines[0] == "MODEL PROFILES" and "- Compatible with system and runnable:" in lines
    assert any(re.fullmatch(r"Selected profile: [0-9a-f]{64} \([a-z]+-cpu-fp32\)", line) for line in lines)
    assert "- precision: fp32" in lines[lines.index("Profile metadata:") :]


def test_a_question_is_answered_by_what_starts_first_and_texts_by_what_is_fastest() -> None:
    code = (
        "import sys; from ragstack.embedding.encoder import EncoderEmbedder; made = EncoderEmbedder(threads=1)\n"
        "one = made.embed(['a cat'], 'query').dense; print('openvino' in sys.modules)\n"
        "many = made.submit(['a cat', 'a dog'], 'query').result().dense; print('openvino' in sys.modules)\n"
        "print(float(one[0] @ many[0]) > 0.99999)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"]


def test_nothing_heavy_is_imported_to_choose_a_profile() -> None:
    code = (
        "import sys; from ragstack.embedding.encoder import EncoderEmbedder; EncoderEmbedder().info;"
        "print([name for name in ('torch', 'openvino', 'transformers', 'pynvml', 'tensorrt') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_openvino_reports_to_nobody() -> None:
    code = (
        "import sys, ragstack.inference.openvino_backend\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "print(telemetry_utils.tm.__name__, 'openvino_telemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "False"]


def _runtime_of(backend: Any) -> str:
    return "openvino" if "openvino" in type(backend).__module__ else "onnxruntime"
