"""What the index path hands to an embedder at a time: several batches of a GPU, a commit group of a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ragstack.embedding.base import Embeddings, InputType, Output
from ragstack.indexer.run import IndexRequest, index
from ragstack.testing.hashing_embedder import HashingEmbedder
from tests.integration.harness import SMALL_CONFIG, Index


class Budgeted(HashingEmbedder):
    """An embedder that says what it takes at a time, and counts what it gets."""

    def __init__(self, device: str, max_batch_tokens: int) -> None:
        super().__init__(dim=32)
        self.device, self.max_batch_tokens, self.packs = device, max_batch_tokens, False
        self.requests: list[int] = []

    def embed(self, texts: Sequence[str], input_type: InputType, outputs: Sequence[Output] = ("dense",)) -> Embeddings:
        self.requests.append(sum(self.tokenizer.count(list(texts))))
        return super().embed(texts, input_type, outputs)


def texts(folder: Path, files: int) -> Path:
    folder.mkdir()
    for number in range(files):
        (folder / f"{number:03}.txt").write_text(f"File {number} is about pump {number}. " * (1 + number % 9) + "\n")
    return folder


def run(tmp_path: Path, embedder: Budgeted, **indexer: Any) -> tuple[Index, int]:
    made = Index(
        tmp_path, {**SMALL_CONFIG, "reranker": {"type": "none"}, "indexer": {**SMALL_CONFIG["indexer"], **indexer}}
    )
    report = index(made.loaded(), made.state_dir, IndexRequest([str(texts(tmp_path / "docs", 60))]), embedder=embedder)
    return made, report.chunks_written


def test_a_gpu_gets_several_batches_at_a_time_whatever_the_size_of_a_group(tmp_path: Path) -> None:
    gpu = Budgeted("cuda:0", 200)
    _, chunks = run(tmp_path, gpu, group_chunks=6)
    assert chunks > 60
    # All requests but the last have four batches; none has much more.
    assert all(tokens >= 4 * 200 for tokens in gpu.requests[:-1])
    assert max(gpu.requests) <= 4 * 200 * 5 / 4 + 100
    assert len(gpu.requests) <= sum(gpu.requests) / (4 * 200) + 1


def test_on_a_cpu_a_request_is_a_group(tmp_path: Path) -> None:
    cpu, plain = Budgeted("cpu", 512), Budgeted("cpu", 512)
    _, chunks = run(tmp_path, cpu, group_chunks=6)
    assert len(cpu.requests) >= chunks / 9
    (tmp_path / "other").mkdir()
    _, again = run(tmp_path / "other", plain, group_chunks=512)
    assert again == chunks
    assert len(plain.requests) <= chunks / 128 + 1


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_the_index_is_the_same(tmp_path: Path, device: str) -> None:
    made, _ = run(tmp_path, Budgeted(device, 200), group_chunks=6)
    (tmp_path / "other").mkdir()
    other, _ = run(tmp_path / "other", Budgeted("cpu", 512), group_chunks=512)
    assert made.content() == other.content()
