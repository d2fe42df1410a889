"""One index, asked and continued on several machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ragstack
from ragstack.inference import selection
from ragstack.inference.cpu import detect_cpu
from ragstack.inference.hardware import Hardware


@pytest.fixture
def on_a_cpu_with_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO computes in int8 on any CPU, only not faster on each."""
    here = replace(detect_cpu(), features=frozenset({"avx2", "avx512", "vnni", "bf16", "amx"}))
    monkeypatch.setattr(selection, "detect_hardware", lambda: Hardware((), here))


def run(folder: Path, profile: str | None, *, index: bool) -> Any:
    config = {"embedder": {"profile": profile}, "reranker": {"type": "none"}}
    with ragstack.open(config, state_dir=folder / "state") as pipeline:
        if index:
            return pipeline.index(folder / "docs")
        assert pipeline.embedder.profile == profile  # type: ignore[attr-defined]
        return pipeline.query("How long are invoices kept?", with_answer=False).chain


def test_an_index_made_by_one_runtime_is_valid_for_another(tmp_path: Path, on_a_cpu_with_everything: None) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("Invoices are kept for ten years.\n")
    made = run(tmp_path, "openvino-cpu-fp32", index=True)
    assert made.chunks_written == 1
    chain = run(tmp_path, "onnxruntime-cpu-fp32", index=False)
    assert chain.passages
    again = run(tmp_path, "onnxruntime-cpu-fp32", index=True)
    assert (again.unchanged, again.rebuilt_because) == (1, "")
    other = run(tmp_path, "openvino-cpu-int8", index=True)
    assert other.rebuilt_because == "changed: model" and other.chunks_written == 1
