"""Token vectors kept in memory behave as the store's do, short of compression."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ragstack.errors import CapabilityError
from ragstack.reranking.base import TokenVectorStore
from ragstack.reranking.memory_token_vectors import MemoryTokenVectorStore
from ragstack.reranking.token_codec import TokenCodec
from ragstack.reranking.token_vectors import SqliteTokenVectorStore
from ragstack.reranking.token_words import BEGINS, CONTINUES
from ragstack.testing.hashing_embedder import HashingEmbedder
from ragstack.types import TokenVectors


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> TokenVectorStore:
    return MemoryTokenVectorStore() if request.param == "memory" else SqliteTokenVectorStore(tmp_path / "tokens.db")


def test_what_is_put_comes_back_until_it_is_deleted(store: TokenVectorStore) -> None:
    made = HashingEmbedder(dim=32).embed(["a b", "c", "d e f"], "passage", ("tokens",)).tokens
    assert made is not None
    tokens = [store.prepare(each) for each in made]
    assert tokens[2].vectors == pytest.approx(made[2].vectors, abs=1e-6)
    store.put(1, {"x": tokens[0], "y": tokens[1]})
    store.put(2, {"z": tokens[2]})
    store.flush()
    found = store.get(["x", "z", "nothing"])
    assert set(found) == {"x", "z"}
    assert found["z"].vectors == pytest.approx(tokens[2].vectors, abs=0.02)
    assert store.delete_after(1) == 1
    store.delete(["x", "unknown"])
    assert store.chunk_ids() == {"y"}
    store.close()


def test_there_is_no_packed_form_in_memory() -> None:
    store = MemoryTokenVectorStore()
    for call in (lambda: store.packed(["x"]), lambda: store.put_packed([])):
        with pytest.raises(CapabilityError, match="no packed form"):
            call()


def test_entries_are_prepared_as_the_query_is() -> None:
    vectors = np.eye(3, dtype=np.float32)
    spans = np.array([[0, 2], [2, 4], [5, 6]], dtype=np.int32)
    tokens = TokenVectors(vectors, np.array([0, 1, 0], dtype=np.int32), spans)
    store = MemoryTokenVectorStore({"x": tokens}, TokenCodec(pieces=np.array([BEGINS, CONTINUES], dtype=np.uint8)))
    found, query = store.get(["x"])["x"], store.prepare(tokens)
    assert len(found) == 2 and found.vectors.tolist() == query.vectors.tolist()
    assert found.token_ids.tolist() == query.token_ids.tolist()
