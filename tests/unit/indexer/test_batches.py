"""Requests to the embedder: whole batches for a GPU, commit groups for a CPU, every chunk once and in order."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ragstack.config.embedders import RemoteEmbedderConfig
from ragstack.embedding.remote import RemoteEmbedder
from ragstack.indexer.batches import Amount, ChunkBuffer, Demand, demand_of


def chunk(number: int, tokens: int) -> Any:
    return SimpleNamespace(number=number, chunk=SimpleNamespace(token_count=tokens))


@given(
    st.lists(st.lists(st.integers(0, 300), max_size=30), max_size=30),
    st.builds(Amount, st.integers(1, 40), st.integers(0, 3000), st.integers(1, 60)),
)
def test_every_chunk_is_handed_over_once_in_order_and_requests_are_full(files: list[list[int]], size: Amount) -> None:
    buffer, requests, made = ChunkBuffer(), [], 0
    for counts in files:
        buffer.extend([chunk(made + i, count) for i, count in enumerate(counts)])
        made += len(counts)
        requests += buffer.take_full(size)
    full = len(requests)
    rest = buffer.take_rest()
    assert [item.number for request in [*requests, rest] for item in request] == list(range(made))
    for request in requests[:full]:
        tokens = [item.chunk.token_count for item in request]
        assert size.reached(len(tokens), sum(tokens))
        assert not size.reached(len(tokens) - 1, sum(tokens[:-1]))  # and no larger than that
    assert not buffer.take_rest()


@given(st.lists(st.integers(0, 300), max_size=200), st.integers(1, 40))
def test_by_chunks_alone_a_rest_of_a_quarter_stays(counts: list[int], chunks: int) -> None:
    buffer = ChunkBuffer()
    buffer.extend([chunk(number, count) for number, count in enumerate(counts)])
    taken = buffer.take_full(Amount(chunks, 0, chunks))
    assert all(len(request) == chunks for request in taken)
    rest = len(buffer.take_rest())
    assert rest <= chunks + chunks // 4
    assert not taken or rest > chunks // 4


def test_sizes() -> None:
    small = Demand().sizes(6)
    assert small.request == small.group == Amount(6, 0, 6)
    usual = Demand(2048).sizes(512)
    assert (usual.request, usual.group) == (Amount(128, 2048, 512), Amount(512, 0, 512))
    gpu = Demand(262_144, whole=True).sizes(512)
    assert (gpu.request, gpu.group) == (Amount(128, 262_144, 16_384), Amount(512, 262_144, 16_384))
    assert gpu.group.reached(16_384, 0) and not gpu.group.reached(16_383, 262_143)


@dataclass
class Model:
    device: str
    max_batch_tokens: int
    packs: bool = False
    info: Any = None
    tokenizer: Any = None

    def embed(self, texts: Any, input_type: Any, outputs: Any = ("dense",)) -> Any: ...

    def close(self) -> None: ...


def test_a_gpu_asks_for_whole_batches_and_a_cpu_for_no_larger_a_group() -> None:
    assert demand_of(Model("cpu", 512), with_tokens=False) == Demand(2048)
    assert demand_of(Model("cuda:0", 131_072), with_tokens=False) == Demand(4 * 131_072, whole=True)
    assert demand_of(Model("cuda:0", 131_072), with_tokens=True) == Demand(2 * 131_072, whole=True)
    assert demand_of(Model("cuda:0,cuda:1", 131_072), with_tokens=False) == Demand(8 * 131_072, whole=True)


def test_a_server_gets_all_the_requests_that_it_may_have_at_a_time() -> None:
    settings = {"type": "remote", "api": "nim", "base_url": "http://h", "model": "m", "max_batch_tokens": 1000}
    embedder = RemoteEmbedder(RemoteEmbedderConfig.model_validate({**settings, "max_concurrent_requests": 8}))
    assert demand_of(embedder, with_tokens=False) == Demand(8000)
    embedder.close()
