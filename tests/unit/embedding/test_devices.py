"""Embedder and reranker on devices of their own, with less memory than a batch takes: made-up GPUs, real callers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragstack.embedding import encoder
from ragstack.embedding.encoder import EncoderEmbedder
from ragstack.errors import DeviceMemoryError, RerankingError, TextError
from ragstack.inference import engine
from ragstack.inference.backend import TokenBatch
from ragstack.inference.engine import BatchJob, Engine, Placement
from ragstack.inference.profile import REFERENCE, Profile
from ragstack.inference.role import RERANKER, ModelRole
from ragstack.reranking import cross_encoder
from ragstack.reranking.cross_encoder import CrossEncoderReranker
from ragstack.reranking.cross_encoder_files import find_cross_encoder
from tests.cross_encoder_kit import ask, candidate, write_cross_encoder
from tests.fake_backend import FakeBackend

ON_GPU = Profile("onnxruntime", "cuda", "fp16")
DIM = 384


class Gpus:
    """GPUs of so many tokens each; what ran where is kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, memory: int = 10**9) -> None:
        self.memory, self.ran = memory, []  # type: ignore[var-annotated]
        monkeypatch.setattr(engine, "open_backend", self.open)
        for module in (encoder, cross_encoder):
            monkeypatch.setattr(module, "select_placement", self.place)

    def place(self, weights: Any, role: ModelRole, *, device: str | Sequence[str], **_rest: Any) -> Placement:
        return Placement(ON_GPU, (device,) if isinstance(device, str) else tuple(device), 1)

    def open(self, weights: Any, profile: Profile, device: str, threads: int, use: str, role: ModelRole) -> FakeBackend:
        def give(batch: TokenBatch) -> Any:
            if batch.ids.size > self.memory:
                raise DeviceMemoryError("CUDA out of memory")
            self.ran.append((role.key, device, batch.ids.shape))
            # A text's vector, or logit, tells how many tokens it has.
            lengths = batch.counts.astype(np.float32)
            if role is RERANKER:
                return lengths[:, None]
            hidden = np.ones((*batch.ids.shape, DIM), dtype=np.float32)
            hidden[:, :, 0] = lengths[:, None]
            return hidden

        outputs = ("logits",) if role is RERANKER else ("last_hidden_state",)
        return FakeBackend(give, device=device, parallel_calls=1, outputs=outputs)


def texts(count: int) -> list[str]:
    return ["word " * (1 + number * 7 % 40) for number in range(count)]


def lengths(dense: Any) -> list[int]:
    """The number of tokens that each vector tells."""
    return [round(float(row[0] / row[1])) for row in dense]


def test_each_block_runs_where_it_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpus = Gpus(monkeypatch)
    embedder = EncoderEmbedder(device=["cuda:0", "cuda:1"], max_batch_tokens=100)
    reranker = CrossEncoderReranker(str(write_cross_encoder(tmp_path)), device="cuda:2")
    found = embedder.embed(texts(200), "passage").dense
    ranked = reranker.rerank(ask("which"), [candidate(f"{n:02}", "word " * n) for n in range(1, 9)])
    assert lengths(found) == [1 + number * 7 % 40 + 2 for number in range(200)]
    assert [score.chunk_id for score in ranked] == [f"{n:02}" for n in range(8, 0, -1)]
    assert {device for key, device, _ in gpus.ran if key == "embedder"} == {"cuda:0", "cuda:1"}
    assert {device for key, device, _ in gpus.ran if key == "reranker"} == {"cuda:2"}
    assert (embedder.device, reranker.device) == ("cuda:0,cuda:1", "cuda:2")
    assert embedder.max_batch_tokens == 100 and reranker.max_batch_tokens == 32_768
    embedder.close()
    reranker.close()


@pytest.mark.parametrize("outputs", [("dense",), ("dense", "tokens")])
def test_an_embedder_goes_on_with_less_memory(monkeypatch: pytest.MonkeyPatch, outputs: Any) -> None:
    gpus = Gpus(monkeypatch, memory=150)
    embedder = EncoderEmbedder(device="cuda:0")
    assert embedder.max_batch_tokens == 131_072
    found = embedder.embed(texts(120), "passage", outputs)
    assert lengths(found.dense) == [1 + number * 7 % 40 + 2 for number in range(120)]
    if "tokens" in outputs:
        assert found.tokens is not None
        assert [len(tokens) for tokens in found.tokens] == [1 + number * 7 % 40 for number in range(120)]
    assert all(rows * longest <= 150 for _, _, (rows, longest) in gpus.ran)
    with pytest.raises(TextError, match=r"text 3: its 202 tokens do not fit into the memory of cuda:0") as raised:
        embedder.embed(["a", "b", "c", "word " * 200, "d"], "passage")
    assert raised.value.text_index == 3
    assert lengths(embedder.embed(["a"], "query").dense) == [3]
    embedder.close()


def test_a_reranker_goes_on_with_less_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpus = Gpus(monkeypatch, memory=60)
    reranker = CrossEncoderReranker(str(write_cross_encoder(tmp_path)), device="cuda:0")
    ranked = reranker.rerank(ask("which"), [candidate(f"{n:02}", "word " * n) for n in range(1, 30)])
    assert [score.chunk_id for score in ranked] == [f"{n:02}" for n in range(29, 0, -1)]
    assert all(rows * longest <= 60 for _, _, (rows, longest) in gpus.ran)
    with pytest.raises(RerankingError, match=r"chunk 02 of root/a.txt: its 6. tokens do not fit into the memory of"):
        reranker.rerank(ask("which"), [candidate("01", "short"), candidate("02", "word " * 58)])
    reranker.close()


@pytest.fixture
def job(tmp_path: Path) -> Callable[[], tuple[Engine, BatchJob[list[float]]]]:
    files = find_cross_encoder(str(write_cross_encoder(tmp_path)))

    def make() -> tuple[Engine, BatchJob[list[float]]]:
        def run(backend: Any, rows: Any) -> list[float]:
            ids = np.stack([[101, 2000 + row, 102, 2000 + row, 102] for row in rows.tolist()])
            types = np.broadcast_to([0, 0, 0, 1, 1], ids.shape)
            batch = TokenBatch(ids.astype(np.int64), np.full(len(rows), 5), types.astype(np.int64))
            found: list[float] = backend.to_host(backend.run(batch, "logits"))[:, 0].tolist()
            return found

        engine = Engine("toy", files, Placement(REFERENCE, ("cpu", "cpu"), 1), RERANKER)
        rows = np.arange(6, dtype=np.int32)
        return engine, BatchJob(rows, [5] * 6, run, lambda row, fault, hint: RerankingError(fault))

    return make


def test_two_real_backends_share_the_work(job: Callable[[], tuple[Engine, BatchJob[list[float]]]]) -> None:
    two, batch = job()
    try:
        futures = [two.submit_batch(batch) for _ in range(20)]
        found = [future.result(timeout=30) for future in futures]
        assert all(parts == [pytest.approx(found[0][0])] for parts in found)
        assert two.parallel_calls == 2 and two.devices == ("cpu", "cpu")
    finally:
        two.close()
