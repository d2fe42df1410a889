"""benchmarks/gpu.py runs from end to end on a CPU: the code that measures a GPU, over models scaled down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

ROOT = Path(__file__).parents[2]


def test_the_benchmark_gives_every_figure(tmp_path: Path) -> None:
    figures = tmp_path / "gpu.json"
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", "--quick", "--device", "cpu", "--json", str(figures)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    assert found["on"]["profile"] == "torch-cpu-fp32" and found["left_out"] == []
    cases = [(figure["model"], figure["texts"], figure["unit"]) for figure in found["figures"]]
    assert cases == [
        (model, texts, unit)
        for model, unit, least in [
            ("bge-m3", "tokens", 10),
            ("llama-3.2-1b-bidirectional", "tokens", 10),
            ("bge-reranker-v2-m3", "pairs", 64),
        ]
        for texts in ("512 tokens", f"{least} to 512 tokens")
    ]
    for figure in found["figures"]:
        assert figure["rate"] > 0 and figure["reference_rate"] > 0 and 0 < figure["share_of_peak"] < 1.5
        assert figure["ratio"] == pytest.approx(figure["rate"] / figure["reference_rate"])
        # Both computed the same: vectors have the same direction, scores the same value.
        if figure["unit"] == "tokens":
            assert figure["agreement"] >= 0.9999
        else:
            assert figure["agreement"] <= 1e-4
        assert figure["model"] in done.stdout
    assert set(found["query_milliseconds"]) == {"bge-m3", "llama-3.2-1b-bidirectional"}
