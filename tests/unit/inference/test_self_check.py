"""Self-checks on real runtimes; a fake one only where results must be wrong."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.embedding.model_files import ResolvedModel, resolve_model
from ragstack.embedding.probe import encoder_probe
from ragstack.errors import DeviceMemoryError, EmbeddingError
from ragstack.inference import runtimes as runtimes_module
from ragstack.inference import self_check
from ragstack.inference.backend import Backend, TokenBatch
from ragstack.inference.check_records import CheckRecord, CheckRecords
from ragstack.inference.hardware import Hardware
from ragstack.inference.profiles import ModelFacts, ModelProfile, list_profiles
from ragstack.inference.role import EMBEDDER, RERANKER
from ragstack.inference.runtimes import ALL_INSTALLED
from ragstack.inference.self_check import QUALITY_BOUND, Probe, SelfCheck, agreement_of
from ragstack.reranking.cross_encoder_files import find_cross_encoder
from ragstack.reranking.probe import pair_probe, relevances
from tests.cross_encoder_kit import write_cross_encoder
from tests.fake_backend import FakeBackend
from tests.unit.inference.made_up_machines import PLAIN_CPU, machine, model

MACHINE = Hardware((), replace(PLAIN_CPU, features=frozenset({"avx2", "avx512", "vnni", "bf16", "amx"})))


@pytest.fixture(scope="module")
def minilm() -> ResolvedModel:
    return resolve_model("all-MiniLM-L6-v2")


def profile_of(weights: Any, name: str, hardware: Hardware = MACHINE) -> ModelProfile:
    return next(f for f in list_profiles(ModelFacts.of(weights), hardware, ALL_INSTALLED) if f.name == name)


def check_of(weights: Any, probe: Callable[[], Probe], folder: Path, role: Any = EMBEDDER) -> SelfCheck:
    reference = profile_of(weights, "onnxruntime-cpu-fp32")
    return SelfCheck(weights, role, probe, [reference], 1, CheckRecords(folder, MACHINE))


def test_runtimes_of_a_cpu_agree_in_fp32(minilm: ResolvedModel, tmp_path: Path) -> None:
    check = check_of(minilm, partial(encoder_probe, minilm), tmp_path)
    record = check.check(profile_of(minilm, "openvino-cpu-fp32"), measure=True)
    assert record is not None and record.passed and record.reference == "onnxruntime-cpu-fp32"
    assert record.agreement > 0.99999 and record.bound == QUALITY_BOUND["fp32"]
    assert record.tokens_per_second is not None and record.tokens_per_second > 10
    assert CheckRecords(tmp_path, MACHINE).find(profile_of(minilm, "openvino-cpu-fp32")) == record


def test_a_cross_encoder_is_compared_by_relevance(tmp_path: Path) -> None:
    files = find_cross_encoder(str(write_cross_encoder(tmp_path / "model")))
    check = check_of(files, partial(pair_probe, files), tmp_path / "kept", RERANKER)
    record = check.check(profile_of(files, "openvino-cpu-fp32"))
    assert record is not None and record.passed and record.agreement > 0.9999
    probe = pair_probe(files)
    assert probe.agreement == "relevance" and probe.measured.ids.shape[0] == 2
    assert max(batch.ids.shape[1] for batch in probe.batches) <= files.max_tokens


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ("noise", "its cosine agrees with onnxruntime-cpu-fp32 to "),
        ("nan", "is not finite"),
        ("fault", "the GPU fell off"),
    ],
)
def test_wrong_results_are_refused_and_remembered(
    minilm: ResolvedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wrong: str,
    found: str,
) -> None:
    check = check_of(minilm, partial(encoder_probe, minilm), tmp_path)
    candidate = profile_of(minilm, "torch-cuda-bf16", machine("h100-sxm"))
    opened = opening_fakes(monkeypatch, partial(wrong_states, wrong))
    assert not check.passes(candidate)
    assert found in caplog.text and "torch-cuda-bf16 is not used" in caplog.text
    assert len(opened) == 1 and opened[0].closed
    caplog.clear()
    assert not check.passes(candidate) and len(opened) == 1  # as remembered
    assert found in caplog.text


def test_a_good_profile_is_checked_once(minilm: ResolvedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = encoder_probe(minilm)
    with_reference = check_of(minilm, lambda: probe, tmp_path)
    real = with_reference._open(with_reference.references[0])
    opened = opening_fakes(monkeypatch, lambda batch: real.run(batch, "last_hidden_state"))
    candidate = profile_of(minilm, "torch-cuda-bf16", machine("h100-sxm"))
    assert with_reference.passes(candidate) and with_reference.passes(candidate)
    assert check_of(minilm, lambda: probe, tmp_path).passes(candidate) and len(opened) == 1
    # On two GPUs it gives what it gives on one; another architecture is another matter.
    assert with_reference.records.find(profile_of(minilm, "torch-cuda-bf16-x2", machine("h100-sxm", "h100-sxm")))
    assert with_reference.records.find(profile_of(minilm, "torch-cuda-bf16", machine("b200"))) is None


def test_a_full_device_is_no_verdict(
    minilm: ResolvedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(batch: TokenBatch) -> Any:
        raise DeviceMemoryError("cuda:0 has no memory left")

    opened = opening_fakes(monkeypatch, full)
    check = check_of(minilm, partial(encoder_probe, minilm), tmp_path)
    candidate = profile_of(minilm, "torch-cuda-bf16", machine("h100-sxm"))
    assert not check.passes(candidate) and not check.passes(candidate)
    assert len(opened) == 2 and "no memory left" in caplog.text and not list(tmp_path.iterdir())


def test_without_a_reference_nothing_is_verified(
    minilm: ResolvedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check = check_of(minilm, partial(encoder_probe, minilm), tmp_path)
    check.references = []
    assert not check.passes(profile_of(minilm, "torch-cuda-bf16", machine("h100-sxm")))
    assert "cannot run in fp32 here" in caplog.text


def test_records_are_of_one_machine_model_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, found = CheckRecords(tmp_path, MACHINE), profile_of(_facts(), "openvino-cpu-int8")
    record = CheckRecord(0.995, 0.99, "onnxruntime-cpu-fp32", 5000.0)
    records.keep(found, record)
    assert records.find(found) == record
    assert records.find(profile_of(_facts(), "openvino-cpu-bf16")) is None
    assert records.find(replace(found, weights_sha256="cd" * 32)) is None
    assert CheckRecords(tmp_path, Hardware((), replace(PLAIN_CPU, cores=4))).find(found) is None
    monkeypatch.setattr(runtimes_module, "version", lambda name: "1999.1")
    runtimes_module.runtime_version.cache_clear()
    assert records.find(found) is None
    runtimes_module.runtime_version.cache_clear()


_JSON = st.recursive(
    st.none() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(st.binary(max_size=60) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_damaged_records_are_no_records(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        records, found = CheckRecords(Path(folder), MACHINE), profile_of(_facts(), "openvino-cpu-int8")
        records.keep(found, CheckRecord(1, 1, "x"))
        next(Path(folder).iterdir()).write_bytes(content)
        assert records.find(found) is None


def test_a_cache_that_cannot_be_written_to_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "ragstack"):
        CheckRecords(tmp_path / "file", MACHINE).keep(profile_of(_facts(), "openvino-cpu-int8"), CheckRecord(1, 1, "x"))
    assert "is not kept" in caplog.text


def test_agreement_is_that_of_the_worst_text() -> None:
    one = np.eye(3, dtype=np.float32)
    other = one.copy()
    other[2] = [0, 0.6, 0.8]
    assert agreement_of(other, one, "cosine") == pytest.approx(0.8)
    assert agreement_of(one * 5, one, "cosine") == pytest.approx(1)
    assert agreement_of(np.array([[0.9], [0.4]]), np.array([[0.9], [0.7]]), "relevance") == pytest.approx(0.7)
    for bad in (one * np.nan, one[:2], one * 0, np.empty((0, 3), np.float32)):
        assert agreement_of(bad, one, "cosine") == 0
    assert relevances(np.array([0.0, 100.0], np.float32)).tolist() == [[0.5], [1.0]]
    assert relevances(np.array([[1.0, 1.0], [1e4, 0.0]], np.float32)).tolist() == [[0.5, 0.5], [1.0, 0.0]]


class _facts:  # noqa: N801 - stands for a model's weights
    sha256, formats, parameters = model().sha256, model().formats, model().parameters


def wrong_states(wrong: str, batch: TokenBatch) -> Any:
    if wrong == "fault":
        raise EmbeddingError("the GPU fell off")
    shape = (*batch.ids.shape, 384)
    return np.full(shape, np.nan, np.float32) if wrong == "nan" else np.random.default_rng(1).normal(size=shape)


def opening_fakes(monkeypatch: pytest.MonkeyPatch, give: Callable[[TokenBatch], Any]) -> list[FakeBackend]:
    """Open fakes for GPUs, and real backends for everything else; the fakes that were opened."""
    opened: list[FakeBackend] = []
    real = self_check.open_backend

    def open_backend(weights: Any, profile: Any, device: str, *rest: Any) -> Backend:
        if profile.device_type == "cpu":
            return real(weights, profile, device, *rest)
        opened.append(FakeBackend(give, device=device))
        return opened[-1]

    monkeypatch.setattr(self_check, "open_backend", open_backend)
    return opened
