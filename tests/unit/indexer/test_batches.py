"""Requests to the embedder: whole batches for a GPU, commit groups for a CPU, every chunk once and in order."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.indexer import batches
from ragstack.indexer.batches import ChunkBuffer, RequestSize, request_tokens


def chunk(number: int, tokens: int) -> Any:
    return SimpleNamespace(number=number, chunk=SimpleNamespace(token_count=tokens))


@given(
    st.lists(st.lists(st.integers(0, 300), max_size=30), max_size=30),
    st.builds(RequestSize, st.integers(1, 40), st.integers(0, 3000)),
)
def test_every_chunk_is_handed_over_once_in_order_and_requests_are_full(
    files: list[list[int]], size: RequestSize
) -> None:
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
    taken = buffer.take_full(RequestSize(chunks))
    assert all(len(request) == chunks for request in taken)
    rest = len(buffer.take_rest())
    assert rest <= chunks + chunks // 4
    assert not taken or rest > chunks // 4


def test_a_number_of_chunks_is_enough_whatever_their_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_MOST_CHUNKS", 10)
    assert RequestSize(4, 1000).reached(10, 0)
    assert not RequestSize(4, 1000).reached(9, 999)
    assert RequestSize(4, 1000).most_files == 10
    assert RequestSize(4).most_files == 4


@dataclass
class Model:
    device: str
    max_batch_tokens: int
    info: Any = None
    tokenizer: Any = None

    def embed(self, texts: Any, input_type: Any, outputs: Any = ("dense",)) -> Any: ...

    def close(self) -> None: ...


def test_only_gpus_ask_for_more_than_a_group() -> None:
    assert request_tokens(Model("cpu", 512), with_tokens=False) == 0
    assert request_tokens(Model("cuda:0", 131_072), with_tokens=False) == 4 * 131_072
    assert request_tokens(Model("cuda:0", 131_072), with_tokens=True) == 2 * 131_072
    assert request_tokens(Model("cuda:0,cuda:1", 131_072), with_tokens=False) == 8 * 131_072
