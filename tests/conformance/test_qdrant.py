"""The store on a Qdrant server keeps the contract: in the client's local mode, and on a server."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from ragstack.adapters.base import CollectionSpec, VectorStore
from ragstack.adapters.qdrant import QdrantStore
from ragstack.config.stores.qdrant import QdrantStoreConfig
from ragstack.errors import StoreUnavailableError
from ragstack.filters import Condition
from ragstack.testing.store_cases import SPEC, clustered, make_record, numbered, record_id
from ragstack.testing.store_conformance import VectorStoreConformance
from ragstack.testing.store_conformance_search import EXACT, SearchConformance
from tests.servers.qdrant import BINARY, QdrantServer
from tests.servers.qdrant_fake import running
from tests.servers.qdrant_fake_grpc import running_grpc

# A server that is there already. Without one there are no such tests, rather than skipped ones.
SERVER = os.environ.get("RAGSTACK_TEST_QDRANT_URL")
GRPC_PORT = os.environ.get("RAGSTACK_TEST_QDRANT_GRPC_PORT")


def server_block(**settings: object) -> QdrantStoreConfig:
    """The block of the real server, below a prefix of its own."""
    key = os.environ.get("RAGSTACK_TEST_QDRANT_API_KEY")
    told = {"uri": SERVER, "api_key": SecretStr(key) if key else None, "prefix": f"t{uuid.uuid4().hex[:16]}"}
    return QdrantStoreConfig.model_validate({**told, **settings})


@contextmanager
def on_server(**settings: object) -> Iterator[QdrantStore]:
    """A store below a prefix of its own; its collections are dropped afterwards, whatever the test did or did not."""
    block = server_block(**settings)
    try:
        with QdrantStore(block) as store:
            yield store
    finally:
        with QdrantStore(block) as again:
            for name in again.collections():
                again.drop(name)


class OnLocalMode(VectorStoreConformance):
    """Engines on the client's local mode."""

    iterated_records = 2_000  # local mode filters and sorts all records in Python for each page

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


class TestQdrantLocalMode(OnLocalMode):
    # It takes long, and the two classes below run it over the same engine.
    test_filters_mean_what_the_grammar_says = None  # type: ignore[assignment]

    @pytest.fixture
    def store(self) -> Iterator[QdrantStore]:
        with QdrantStore(QdrantStoreConfig(uri=":memory:")) as store:
            yield store


class TestQdrantOverHttp(OnLocalMode):
    """Every request and answer goes through HTTP, to a server that reads floats no better than a real one."""

    condition_step = 3  # the server in the test's own process is slow; local mode is asked all of the same expressions

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


class TestQdrantOverGrpc(OnLocalMode):
    """Every request and answer becomes gRPC messages and comes back out of them."""

    condition_step = 3  # see above

    @pytest.fixture
    def store(self) -> Iterator[QdrantStore]:
        with running() as server, running_grpc(server) as grpc:
            block = QdrantStoreConfig(uri=server.uri, prefer_grpc=True, grpc_port=grpc.port)
            with QdrantStore(block) as store:
                yield store
            assert server.seen == []  # nothing went over HTTP

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
            with on_server() as store:
                yield store

        def reopen(self, store: VectorStore) -> VectorStore:
            assert isinstance(store, QdrantStore)
            store.close()
            return QdrantStore(store.block)

    class TestQdrantServerWithGraph(SearchConformance):
        """Segments of a few kilobytes get a graph, and int8 vectors that are searched first."""

        @pytest.fixture
        def store(self) -> Iterator[QdrantStore]:
            with on_server(indexing_threshold_kb=1, quantization="scalar", oversampling=2.0) as store:
                yield store

        @pytest.fixture
        def filled(self, store: QdrantStore) -> QdrantStore:
            store.ensure_collection(SPEC)
            store.upsert("main", [numbered(number) for number in range(40)])
            store.optimize("main")
            return store

    @pytest.mark.parametrize(
        ("quantization", "oversampling", "least"),
        # What so few bits can tell of 64 dimensions, with room to spare: half of it for binary.
        [("none", None, 0.95), ("scalar", 2.0, 0.95), ("product", 8.0, 0.9), ("binary", 16.0, 0.35)],
    )
    def test_recall_at_10_of_each_quantization_with_its_graph(
        quantization: str, oversampling: float | None, least: float
    ) -> None:
        rng = np.random.default_rng(17)
        vectors = clustered(rng, 4000, 64, 40)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        ids = [record_id(i) for i in range(len(vectors))]
        settings = {"quantization": quantization, "oversampling": oversampling}
        with on_server(indexing_threshold_kb=100, **settings) as store:
            store.ensure_collection(CollectionSpec("main", 64))
            store.upsert("main", [make_record(i, dense=vectors[i]) for i in range(len(vectors))])
            store.optimize("main")
            found = []
            for query in clustered(rng, 50, 64, 40):
                cosines = unit @ query / np.linalg.norm(query)
                nearest = {ids[i] for i in np.argsort(-cosines)[:10]}
                assert {hit.id for hit in store.search_dense("main", query, 10, params=EXACT)} == nearest
                hits = store.search_dense("main", query, 10)
                found.append(len(nearest & {hit.id for hit in hits}) / 10)
                # Whatever found them, the full vectors scored them.
                told = [float(cosines[ids.index(hit.id)]) for hit in hits]
                assert [hit.score for hit in hits] == pytest.approx(told, abs=1e-5)
            assert np.mean(found) >= least

    def test_a_wrong_key_for_a_server_with_keys_is_named() -> None:
        if not os.environ.get("RAGSTACK_TEST_QDRANT_API_KEY"):
            return  # a server without keys takes any
        with QdrantStore(server_block(api_key=SecretStr("wrong-key"))) as store:
            with pytest.raises(StoreUnavailableError, match=r"store\.api_key") as caught:
                store.health()
            assert "wrong-key" not in str(caught.value)


if SERVER and GRPC_PORT:

    class TestQdrantServerOverGrpc(VectorStoreConformance):
        @pytest.fixture
        def store(self) -> Iterator[QdrantStore]:
            with on_server(prefer_grpc=True, grpc_port=int(GRPC_PORT or 0)) as store:
                yield store

        def reopen(self, store: VectorStore) -> VectorStore:
            assert isinstance(store, QdrantStore)
            store.close()
            return QdrantStore(store.block)


if BINARY:

    def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
        server = QdrantServer(tmp_path)
        server.process.start()
        try:
            acknowledged: list[int] = []
            with QdrantStore(QdrantStoreConfig(uri=server.uri, retries=50)) as store:
                store.ensure_collection(SPEC)
                failures: list[BaseException] = []

                def write() -> None:
                    try:
                        for number in range(0, 2000, 10):
                            store.upsert("main", [numbered(each) for each in range(number, number + 10)])
                            acknowledged.append(number)
                    except BaseException as error:
                        failures.append(error)

                writer = threading.Thread(target=write)
                writer.start()
                for so_far in (20, 80):
                    while len(acknowledged) < so_far and writer.is_alive():
                        time.sleep(0.01)
                    before = list(acknowledged)
                    server.process.kill()
                    server.process.start()
                    for number in before:
                        assert store.count("main", Condition("integer", "in", tuple(range(number, number + 10)))) == 10
                writer.join()
                assert failures == []  # the writer waited for the server
                assert store.count("main") == 2000
        finally:
            server.process.stop()
