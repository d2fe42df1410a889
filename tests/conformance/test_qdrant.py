"""The store on a Qdrant server keeps the contract: in the client's local mode, and on a server."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from ragstack.adapters.base import VectorStore
from ragstack.adapters.qdrant import QdrantStore
from ragstack.config.stores.qdrant import QdrantStoreConfig
from ragstack.testing.store_cases import SPEC, make_record, numbered
from ragstack.testing.store_conformance import VectorStoreConformance
from ragstack.testing.store_conformance_search import EXACT, SearchConformance
from tests.servers.qdrant_fake import running

# A server that is there already. Without one there are no such tests, rather than skipped ones.
SERVER = os.environ.get("RAGSTACK_TEST_QDRANT_URL")
GRPC_PORT = os.environ.get("RAGSTACK_TEST_QDRANT_GRPC_PORT")


def server_block(**settings: object) -> QdrantStoreConfig:
    """The block of the real server, below a prefix of its own."""
    key = os.environ.get("RAGSTACK_TEST_QDRANT_API_KEY")
    told = {"uri": SERVER, "api_key": SecretStr(key) if key else None, "prefix": f"t{uuid.uuid4().hex[:16]}"}
    return QdrantStoreConfig.model_validate({**told, **settings})


def on_server(block: QdrantStoreConfig) -> Iterator[QdrantStore]:
    """A store of that block; its collections are dropped afterwards, also when the test closed it."""
    with QdrantStore(block) as store:
        yield store
    with QdrantStore(block) as again:
        for name in again.collections():
            again.drop(name)


class OneRound(VectorStoreConformance):
    """Engines without an index of their own: filters before and after ``optimize`` are the same there."""

    @pytest.mark.parametrize("optimized", [False])
    def test_filters_mean_what_the_grammar_says(self, store: VectorStore, optimized: bool) -> None:
        super().test_filters_mean_what_the_grammar_says(store, optimized)

    def test_optimize_and_flush_change_no_answer(self, filled: VectorStore) -> None:
        """Local mode normalises what it stores anew in each search, so the last bits of scores are not kept."""
        query = make_record(60).dense
        before = filled.search_dense("main", query, 20, params=EXACT)
        for step in (filled.flush, filled.optimize, filled.optimize):
            step("main")
            after = filled.search_dense("main", query, 20, params=EXACT)
            assert [hit.id for hit in after] == [hit.id for hit in before]
            assert [hit.score for hit in after] == pytest.approx([hit.score for hit in before], abs=1e-6)
            assert filled.count("main") == 40


class TestQdrantLocalMode(OneRound):
    @pytest.fixture
    def store(self) -> Iterator[QdrantStore]:
        with QdrantStore(QdrantStoreConfig(uri=":memory:")) as store:
            yield store


class TestQdrantOverHttp(OneRound):
    """Every request and answer goes through HTTP, to a server that reads floats no better than a real one."""

    @pytest.fixture
    def store(self) -> Iterator[QdrantStore]:
        with running() as server, QdrantStore(QdrantStoreConfig(uri=server.uri)) as store:
            yield store

    def reopen(self, store: VectorStore) -> VectorStore:
        assert isinstance(store, QdrantStore)
        store.close()
        return QdrantStore(store.block)

    def test_what_was_flushed_is_there_after_reopening(self, filled: VectorStore) -> None:
        filled.search_dense("main", make_record(5).dense, 20, params=EXACT)  # see above: stable from here on
        filled.search_dense("main", make_record(5).dense, 20, params=EXACT)
        super().test_what_was_flushed_is_there_after_reopening(filled)


if SERVER:

    class TestQdrantServer(VectorStoreConformance):
        @pytest.fixture
        def store(self) -> Iterator[QdrantStore]:
            yield from on_server(server_block())

        def reopen(self, store: VectorStore) -> VectorStore:
            assert isinstance(store, QdrantStore)
            store.close()
            return QdrantStore(store.block)

    class TestQdrantServerWithGraph(SearchConformance):
        """Segments of a few kilobytes get a graph, and int8 vectors that are searched first."""

        @pytest.fixture
        def store(self) -> Iterator[QdrantStore]:
            yield from on_server(server_block(indexing_threshold_kb=1, quantization="scalar", oversampling=2.0))

        @pytest.fixture
        def filled(self, store: QdrantStore) -> QdrantStore:
            store.ensure_collection(SPEC)
            store.upsert("main", [numbered(number) for number in range(40)])
            store.optimize("main")
            return store


if SERVER and GRPC_PORT:

    class TestQdrantServerOverGrpc(VectorStoreConformance):
        @pytest.fixture
        def store(self) -> Iterator[QdrantStore]:
            yield from on_server(server_block(prefer_grpc=True, grpc_port=int(GRPC_PORT or 0)))

        def reopen(self, store: VectorStore) -> VectorStore:
            assert isinstance(store, QdrantStore)
            store.close()
            return QdrantStore(store.block)
