"""What runs on a GPU with ONNX Runtime, run on the CPU as far as it can be; CUDA itself is not covered."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from ragstack.errors import DeviceMemoryError, InputError, MissingExtraError, RerankingError
from ragstack.inference import onnx_backend, onnx_half
from ragstack.inference.backend import TokenBatch
from ragstack.inference.onnx_backend import open_backend, open_onnx
from ragstack.inference.onnx_half import half_precision
from ragstack.inference.profile import Profile
from ragstack.inference.role import RERANKER
from ragstack.reranking.cross_encoder_files import CrossEncoderFiles, find_cross_encoder
from tests.cross_encoder_kit import write_cross_encoder

ON_GPU = Profile("onnxruntime", "cuda", "fp32")
IDS = np.array([[101, 2312, 102, 2312, 3000, 102], [101, 2400, 102, 2500, 102, 0]])
BATCH = TokenBatch(IDS, np.array([6, 5]), np.array([[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0]]))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoderFiles:
    return find_cross_encoder(str(write_cross_encoder(tmp_path_factory.mktemp("toy"))))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGSTACK_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("with_torch", [True, False])
def test_bound_outputs_are_the_same(
    weights: CrossEncoderFiles, monkeypatch: pytest.MonkeyPatch, with_torch: bool
) -> None:
    plain = open_onnx(weights.onnx(), 1, RERANKER)
    bound = dataclasses.replace(plain, _bound_to=("cpu", 0))
    if with_torch:
        pytest.importorskip("torch")
    else:
        monkeypatch.setattr(onnx_backend, "find_spec", lambda name: None)
    found = bound.run(BATCH, "logits")
    assert isinstance(found, np.ndarray) is not with_torch
    assert bound.to_host(found) == pytest.approx(plain.run(BATCH, "logits"), abs=1e-6)
    assert bound.to_host(found).dtype == np.float32


def test_half_precision_is_made_once_and_close(weights: CrossEncoderFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    converted = half_precision(weights, RERANKER)
    kinds = {tensor.data_type for tensor in onnx.load_from_string(converted).graph.initializer}
    assert TensorProto.FLOAT16 in kinds
    monkeypatch.setattr(onnx_half, "_convert", lambda *_: pytest.fail("it was converted already"))
    assert half_precision(weights, RERANKER) == converted
    half, full = open_onnx(converted, 1, RERANKER), open_onnx(weights.onnx(), 1, RERANKER)
    logits = half.to_host(half.run(BATCH, "logits"))
    assert logits.dtype == np.float32
    assert logits == pytest.approx(full.run(BATCH, "logits"), abs=0.05)


def test_a_model_in_half_precision_stays_as_it_is(weights: CrossEncoderFiles, tmp_path: Path) -> None:
    model = onnx.load_from_string(half_precision(weights, RERANKER))
    for tensor in list(model.graph.initializer):  # what the tool leaves in fp32 for safety would be converted again
        if tensor.data_type == TensorProto.FLOAT:
            model.graph.initializer.remove(tensor)
    folder = write_cross_encoder(tmp_path / "half")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    again = half_precision(find_cross_encoder(str(folder)), RERANKER)
    assert onnx.load_from_string(again) == model


def test_a_model_with_tensors_in_a_file_beside_the_graph_is_converted(
    weights: CrossEncoderFiles, tmp_path: Path
) -> None:
    folder = write_cross_encoder(tmp_path / "large")
    model = onnx.load(str(folder / "model.onnx"))
    (folder / "model.onnx").unlink()
    onnx.save(model, str(folder / "model.onnx"), save_as_external_data=True, location="model.onnx_data")
    large = find_cross_encoder(str(folder))
    assert isinstance(large.onnx(), Path)
    folder.chmod(0o500)
    try:
        half, small = half_precision(large, RERANKER), half_precision(weights, RERANKER)
    finally:
        folder.chmod(0o700)
    found = open_onnx(half, 1, RERANKER).run(BATCH, "logits")
    assert found == pytest.approx(open_onnx(small, 1, RERANKER).run(BATCH, "logits"))


def test_a_file_that_is_no_model_cannot_be_converted(tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path / "broken")
    (folder / "model.onnx").write_bytes(b"no model at all")
    with pytest.raises(RerankingError, match="cannot be converted to fp16"):
        half_precision(find_cross_encoder(str(folder)), RERANKER)


def test_without_the_converter_the_extra_is_named(weights: CrossEncoderFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"ragstack\[gpu\]"):
        half_precision(weights, RERANKER)


def test_a_build_without_cuda_says_which_one_has_it(
    weights: CrossEncoderFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(InputError, match=r"reranker\.profile: onnxruntime-cuda-fp32: .* has no CUDA") as raised:
        open_backend(weights, ON_GPU, "cuda:0", 1, "many_calls", RERANKER)
    assert "onnxruntime-gpu" in raised.value.hint


def test_a_provider_that_could_not_be_loaded_is_no_run_on_the_cpu(
    weights: CrossEncoderFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime leaves a provider out that it cannot load, and goes on with the CPU."""
    asked: list[Any] = []
    real = onnxruntime.InferenceSession

    def on_cpu(model: Any, options: Any, providers: Any) -> Any:
        asked.append(providers)
        return real(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", on_cpu)
    with pytest.raises(RerankingError, match="could not load its CUDA provider"):
        open_backend(weights, ON_GPU, "cuda:3", 1, "many_calls", RERANKER)
    ((name, settings),) = asked[0]
    assert name == "CUDAExecutionProvider" and settings["device_id"] == 3


@pytest.mark.parametrize(
    "message",
    [
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : bfc_arena.cc:376 Failed to allocate memory for requested buffer"
        " of size 34359738368",
        "CUDA failure 2: out of memory ; GPU=0 ; hostname=x ; expr=cudaMalloc((void**)&p, size);",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
        "std::bad_alloc",
    ],
)
def test_a_failed_allocation_is_told_apart(weights: CrossEncoderFiles, message: str) -> None:
    class Failing:
        def run(self, *_: Any) -> Any:
            raise RuntimeError(message)

    plain = open_onnx(weights.onnx(), 1, RERANKER)
    with pytest.raises(DeviceMemoryError, match="no memory for a batch of 2 x 6 tokens"):
        dataclasses.replace(plain, _session=Failing()).run(BATCH, "logits")


def test_torch_is_at_hand_for_these_tests() -> None:
    assert importlib.util.find_spec("torch") is not None
