"""The TensorRT backend over a stand-in for TensorRT that runs the same graph on this CPU (tests/fake_tensorrt.py)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.errors import DeviceMemoryError, InputError, MissingExtraError, RerankingError
from ragstack.inference import tensorrt_backend
from ragstack.inference.backend import TokenBatch
from ragstack.inference.engine import BatchJob, Engine, Placement
from ragstack.inference.onnx_backend import open_onnx
from ragstack.inference.profile import Profile
from ragstack.inference.role import RERANKER
from ragstack.inference.tensorrt_backend import engine_key, open_backend
from ragstack.inference.tensorrt_shapes import ShapeRange, shape_ranges, slices
from ragstack.reranking.cross_encoder_files import CrossEncoderFiles, find_cross_encoder
from tests import fake_tensorrt
from tests.cross_encoder_kit import write_cross_encoder

FP32, FP16 = Profile("tensorrt", "cuda", "fp32"), Profile("tensorrt", "cuda", "fp16")


@given(st.integers(1, 20_000), st.integers(1, 200_000))
def test_ranges_run_every_batch_within_the_budget_in_few_parts_with_no_more_memory(length: int, budget: int) -> None:
    ranges = shape_ranges(length, budget)
    for one in ranges:
        assert 1 <= one.best_rows <= one.max_rows and 1 <= one.best_tokens <= one.max_tokens <= length
    assert ranges[0].max_rows == 1
    for tokens in {1, length // 3 + 1, length // 2 + 1, length}:
        for rows in {1, max(1, budget // tokens)}:
            parts = slices(ranges, rows, tokens)
            assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
            assert parts[-1].stop == rows
            assert len({part.shape_range for part in parts}) == 1
            for part in parts:
                one = ranges[part.shape_range]
                assert one.holds(part.stop - part.start, tokens)
                assert one.max_rows * one.max_tokens <= max(budget, one.max_tokens)
            # A range is less than twice as long as its texts, but for those shorter than the shortest range.
            assert tokens < 32 or len(parts) <= 3


def test_a_single_short_text_has_a_range_of_its_own() -> None:
    ranges = shape_ranges(512, 4096)
    assert slices(ranges, 1, 20)[0].shape_range == 0
    assert slices(ranges, 2, 20)[0].shape_range == 1
    with pytest.raises(ValueError, match="513 tokens"):
        slices(ranges, 1, 513)


@given(st.integers(0, 6))
def test_an_engine_is_another_one_when_anything_that_it_depends_on_is(changed: int) -> None:
    ranges = (ShapeRange(1, 1, 2, 2),)
    same: list[Any] = ["0" * 64, FP32, ranges, "10.1.0", "NVIDIA H100", "9.0"]
    other: list[Any] = ["1" * 64, FP16, (*ranges, ranges[0]), "10.2.0", "NVIDIA H200", "10.0"]
    mixed = [new if number == changed else old for number, (old, new) in enumerate(zip(same, other, strict=True))]
    assert (engine_key(*mixed) == engine_key(*same)) == (changed == 6)


@pytest.fixture(scope="module")
def tensorrt() -> Iterator[None]:
    name = "ragstack.inference.tensorrt_engine"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt.module())
        monkeypatch.setattr(tensorrt_backend, "_BUILT_FOR_TOKENS", 512)
        yield
    sys.modules.pop(name, None)
    vars(sys.modules["ragstack.inference"]).pop("tensorrt_engine", None)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoderFiles:
    return find_cross_encoder(str(write_cross_encoder(tmp_path_factory.mktemp("toy"))))


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGSTACK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(fake_tensorrt.Builder, "built", 0)
    monkeypatch.setattr(fake_tensorrt.Context, "calls", [])


def batch(rows: int, longest: int) -> TokenBatch:
    random = np.random.default_rng(rows * 100 + longest)
    counts = random.integers(2, longest + 1, rows)
    counts[0] = longest
    ids = random.integers(1000, 3000, (rows, longest)) * (np.arange(longest) < counts[:, None])
    types = (np.arange(longest) >= 1) & (np.arange(longest) < counts[:, None])
    return TokenBatch(ids.astype(np.int64), counts, types.astype(np.int64))


@pytest.mark.parametrize(("profile", "bound"), [(FP32, 1e-5), (FP16, 0.05)])
def test_gives_what_the_reference_gives_in_every_range(
    tensorrt: None, weights: CrossEncoderFiles, profile: Profile, bound: float
) -> None:
    backend = open_backend(weights, profile, "cpu", 1, "many_calls", RERANKER)
    reference = open_onnx(weights.onnx(), 1, RERANKER)
    assert backend.outputs == ("logits",) and backend.reads_types
    for rows, longest in [(1, 5), (3, 20), (16, 32), (40, 33), (9, 64), (1, 64)]:
        one = batch(rows, longest)
        found = backend.to_host(backend.run(one, "logits"))
        assert found.shape == (rows, 1) and found.dtype == np.float32
        assert found == pytest.approx(reference.to_host(reference.run(one, "logits")), abs=bound)
    # 40 rows of 33 tokens are more than the engine was built for: parts of 8 of its 64.
    assert [shape for _, shape in fake_tensorrt.Context.calls if shape[1] == 33] == [(8, 33)] * 5
    backend.close()
    backend.close()


def test_an_engine_is_built_once_and_again_when_its_file_is_damaged(
    tensorrt: None, weights: CrossEncoderFiles, tmp_path: Path
) -> None:
    for _ in range(2):
        open_backend(weights, FP32, "cpu", 1, "many_calls", RERANKER).close()
    assert fake_tensorrt.Builder.built == 1
    (file,) = (tmp_path / "cache" / "tensorrt").glob("*.engine")
    file.write_bytes(file.read_bytes()[:-100])
    open_backend(weights, FP32, "cpu", 1, "many_calls", RERANKER).close()
    assert fake_tensorrt.Builder.built == 2
    open_backend(weights, FP16, "cpu", 1, "many_calls", RERANKER).close()
    assert fake_tensorrt.Builder.built == 3


def test_a_failed_build_says_why_and_leaves_nothing(
    tensorrt: None, weights: CrossEncoderFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_tensorrt.Builder, "fails_with", "no kernel for Range")
    with pytest.raises(RerankingError, match=r"could not build an engine of the cross-encoder: no kernel for Range"):
        open_backend(weights, FP32, "cpu", 1, "many_calls", RERANKER)
    monkeypatch.setattr(fake_tensorrt.Builder, "fails_with", "Error Code 2: OutOfMemory")
    with pytest.raises(DeviceMemoryError, match="OutOfMemory"):
        open_backend(weights, FP32, "cpu", 1, "many_calls", RERANKER)
    assert not list((tmp_path / "cache" / "tensorrt").glob("*.engine*.part"))
    assert not list((tmp_path / "cache" / "tensorrt").glob("*.engine"))


def test_a_graph_that_cannot_be_read_is_an_error(tensorrt: None, tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path / "broken")
    (folder / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(RerankingError, match="TensorRT cannot read the cross-encoder's graph"):
        open_backend(find_cross_encoder(str(folder)), FP32, "cpu", 1, "many_calls", RERANKER)


def test_out_of_memory_halves_the_batch(
    tensorrt: None, weights: CrossEncoderFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_tensorrt.Context, "most_tokens", 70)
    engine = Engine("toy", weights, Placement(FP32, ("cpu",), 1), RERANKER)
    whole = batch(8, 16)

    def run(backend: Any, rows: Any) -> list[float]:
        part = TokenBatch(whole.ids[rows], whole.counts[rows], whole.type_ids[rows])  # type: ignore[index]
        found: list[float] = backend.to_host(backend.run(part, "logits"))[:, 0].tolist()
        return found

    job = BatchJob(np.arange(8, dtype=np.int32), [16] * 8, run, lambda row, fault, hint: RerankingError(fault))
    try:
        parts = engine.submit_batch(job).result(timeout=30)
    finally:
        engine.close()
    assert [len(part) for part in parts] == [4, 4]
    reference = open_onnx(weights.onnx(), 1, RERANKER)
    assert [logit for part in parts for logit in part] == pytest.approx(reference.run(whole, "logits")[:, 0], abs=1e-5)


def test_another_precision_is_refused() -> None:
    with pytest.raises(InputError, match=r"reranker\.profile: tensorrt-cuda-bf16"):
        open_backend(None, Profile("tensorrt", "cuda", "bf16"), "cuda:0", 1, "many_calls", RERANKER)  # type: ignore[arg-type]


def test_without_tensorrt_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingExtraError, match=r"ragstack\[tensorrt\]"):
        open_backend(None, FP16, "cuda:0", 1, "many_calls", RERANKER)  # type: ignore[arg-type]
