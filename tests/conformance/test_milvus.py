"""Milvus keeps the contract: Milvus Lite, and a standalone server."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from ragstack.adapters.base import CollectionSpec, Hit, SearchParams, VectorStore
from ragstack.adapters.milvus import MilvusStore
from ragstack.adapters.sparse_dot import dot_products
from ragstack.config.stores.milvus import MilvusStoreConfig
from ragstack.errors import (
    CapabilityError,
    CollectionError,
    InputError,
    StoreError,
    StoreLockedError,
    StoreUnavailableError,
)
from ragstack.filters import And, Condition, FieldType, Filter, Not
from ragstack.testing.filter_oracle import matches
from ragstack.testing.store_cases import DIM, SPEC, clustered, make_record, make_sparse, numbered, record_id
from ragstack.testing.store_conformance import VectorStoreConformance
from ragstack.testing.store_conformance_search import SearchConformance
from ragstack.types import SparseVector
from tests.servers.base import free_port
from tests.servers.milvus import TOKEN, MilvusServer, running_server


class TestMilvusLite(VectorStoreConformance):
    filter_examples = 40
    payload_examples = 8
    iterated_records = 5_000  # of 50,000, which pass too, it takes minutes to write

    @pytest.fixture
    def block(self, tmp_path: Path) -> MilvusStoreConfig:
        return MilvusStoreConfig(uri=str(tmp_path / "store.db"))

    @pytest.fixture
    def store(self, block: MilvusStoreConfig) -> Iterator[MilvusStore]:
        with MilvusStore(block) as store:
            yield store

    def reopen(self, store: VectorStore) -> VectorStore:
        assert isinstance(store, MilvusStore)
        store.close()
        return MilvusStore(store.block)


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """One server for all tests of the session; each test has a prefix of its own."""
    with running_server(tmp_path_factory.mktemp("milvus")) as server:
        yield server


@pytest.fixture(scope="class")
def spare_blocks() -> list[MilvusStoreConfig]:
    """Settings under which the collection ``main`` is filled and has not been used."""
    return []


class TestMilvusServer(VectorStoreConformance):
    condition_step = 3  # an answer takes 20 ms; Milvus Lite is asked all of the same expressions
    filter_examples = 25
    payload_examples = 4

    @pytest.fixture
    def store(self, milvus_server: MilvusServer) -> Iterator[MilvusStore]:
        with emptied(block_for(milvus_server), WithSparseReference) as store:
            yield store

    @pytest.fixture
    def filled(self, milvus_server: MilvusServer, spare_blocks: list[MilvusStoreConfig]) -> Iterator[MilvusStore]:
        """The server takes a second to load a collection, and as long for a few; with many it is slow in all."""
        if not spare_blocks:
            spare_blocks += [block_for(milvus_server) for _ in range(4)]
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(filled_once, spare_blocks))
        with emptied(spare_blocks.pop(), WithSparseReference) as store:
            yield store

    def reopen(self, store: VectorStore) -> VectorStore:
        assert isinstance(store, MilvusStore)
        store.close()
        return WithSparseReference(store.block)


class WithSparseReference(MilvusStore):
    """A store whose server has no sparse vectors, with a sparse search made of what the contract has besides.

    The suite tries both kinds of search in most of its tests. So the ones of dense search run here too, those of
    sparse search check that sparse vectors are kept exactly, and each call checks that the store itself refuses.
    """

    def search_sparse(
        self, collection: str, vector: SparseVector, top_k: int, *, filter: Filter | None = None
    ) -> list[Hit]:
        with pytest.raises(CapabilityError) as refused:
            super().search_sparse(collection, vector, top_k, filter=filter)
        if "version 2.4" not in refused.value.message:
            raise refused.value
        payloads = {hit.id: hit.payload for hit in self.iterate(collection, filter)}
        records = self.fetch(collection, list(payloads))
        scores = {id_: float(dot_products(vector, [record.sparse])[0]) for id_, record in records.items()}
        ranked = sorted((-score, id_) for id_, score in scores.items() if score > 0)[:top_k]
        return [Hit(id_, -score, payloads[id_]) for score, id_ in ranked]


def block_for(server: MilvusServer) -> MilvusStoreConfig:
    """Settings of a store of its own on the server."""
    return MilvusStoreConfig(uri=server.uri, token=SecretStr(TOKEN), prefix=f"t{uuid.uuid4().hex[:12]}")


def fill(store: MilvusStore) -> MilvusStore:
    """The store with the collection that the suite calls filled."""
    store.ensure_collection(SPEC)
    store.upsert("main", [numbered(number) for number in range(40)])
    return store


def filled_once(block: MilvusStoreConfig) -> None:
    """Fill it and leave it."""
    with MilvusStore(block) as store:
        fill(store)


@contextmanager
def emptied(block: MilvusStoreConfig, kind: type[MilvusStore] = MilvusStore) -> Iterator[MilvusStore]:
    """The store, all of whose collections are dropped afterwards, also when the test closed it."""
    try:
        with kind(block) as store:
            yield store
    finally:
        with MilvusStore(block) as store:
            for name in store.collections():
                store.drop(name)


# What the suite does not ask


@pytest.fixture(params=["lite", "server"])
def block(request: pytest.FixtureRequest, tmp_path: Path) -> MilvusStoreConfig:
    """Settings of an engine with no collections."""
    if request.param == "lite":
        return MilvusStoreConfig(uri=str(tmp_path / "store.db"))
    return block_for(request.getfixturevalue("milvus_server"))


def with_index(block: MilvusStoreConfig, **index: Any) -> MilvusStoreConfig:
    return MilvusStoreConfig.model_validate({**block.model_dump(), "index": index})


class TestFlatSearch(SearchConformance):
    """The engine's own exact search, over sealed rows."""

    # Filters do not depend on the vectors' index; the two classes above try them.
    test_filters_mean_what_the_grammar_says = None  # type: ignore[assignment]
    test_filters_over_any_payloads = None  # type: ignore[assignment]

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[MilvusStore]:
        with MilvusStore(with_index(MilvusStoreConfig(uri=str(tmp_path / "store.db")), type="FLAT")) as store:
            yield store

    @pytest.fixture
    def filled(self, store: MilvusStore) -> MilvusStore:
        fill(store).optimize("main")
        return store


@pytest.mark.parametrize(
    "index",
    [{"type": "HNSW"}, {"type": "FLAT"}, {"type": "IVF_FLAT"}, {"type": "IVF_SQ8", "nprobe": 64}],
    ids=lambda index: index["type"],
)
def test_recall_and_scores_of_each_index(block: MilvusStoreConfig, index: dict[str, Any]) -> None:
    rng = np.random.default_rng(5)
    vectors = clustered(rng, 3000, 64, 60)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = clustered(rng, 20, 64, 60)
    ids = [record_id(i) for i in range(3000)]
    with emptied(with_index(block, **index)) as store:
        store.ensure_collection(CollectionSpec("main", 64))
        store.upsert("main", [make_record(i, dense=vectors[i]) for i in range(3000)])
        store.optimize("main")
        found = []
        for number, query in enumerate(queries):
            cosines = unit @ query / np.linalg.norm(query)
            expected = {ids[i] for i in np.argsort(-cosines)[:10]}
            hits = store.search_dense("main", query, 10)
            told = [float(cosines[ids.index(hit.id)]) for hit in hits]
            assert [hit.score for hit in hits] == pytest.approx(told, abs=2e-6)
            if number < 3:  # each reads all vectors
                exact = store.search_dense("main", query, 10, params=SearchParams(exact=True))
                assert {hit.id for hit in exact} == expected
            found.append(len(expected & {hit.id for hit in hits}) / 10)
        assert np.mean(found) >= 0.95


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(milvus_server: MilvusServer) -> None:
    with emptied(block_for(milvus_server).model_copy(update={"timeout_s": 60.0})) as store:
        store.ensure_collection(SPEC)
        written: list[int] = []

        def write() -> None:
            for number in range(2000):
                if number < 200 or not killed.is_set():
                    store.upsert("main", [make_record(number, {"integer": number}, sparse={number: 1.0})])
                    written.append(number)

        killed = threading.Event()
        writer = threading.Thread(target=write)
        writer.start()
        while len(written) < 60:
            killed.wait(0.01)
        milvus_server.process.kill()
        killed.set()
        milvus_server.process.start()
        writer.join()
        # What was running when the server died was sent again once it was back.
        assert len(written) >= 200
        assert store.count("main") == len(written)
        assert {hit.payload["integer"] for hit in store.iterate("main")} == set(written)
        fetched = store.fetch("main", [record_id(number) for number in written])
        assert all(fetched[record_id(number)].sparse.indices.tolist() == [number] for number in written)


def test_nothing_acknowledged_is_lost_when_a_process_with_a_lite_file_is_killed(tmp_path: Path) -> None:
    program = """
import sys
from ragstack.adapters.milvus import MilvusStore
from ragstack.adapters.sparse_dot import dot_products
from ragstack.config.stores.milvus import MilvusStoreConfig
from ragstack.testing.store_cases import SPEC, make_record
store = MilvusStore(MilvusStoreConfig(uri=sys.argv[1]))
store.ensure_collection(SPEC)
for number in range(10_000):
    store.upsert("main", [make_record(number, {"integer": number})])
    print(number, flush=True)
"""
    path = str(tmp_path / "store.db")
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        written = [int(next(process.stdout)) for _ in range(60)]
        with pytest.raises(StoreLockedError, match=f"process {process.pid} "):
            MilvusStore(MilvusStoreConfig(uri=path, timeout_s=0.2))
        process.kill()
        written += [int(line) for line in process.stdout]
    with MilvusStore(MilvusStoreConfig(uri=path)) as store:
        assert set(written) <= {hit.payload["integer"] for hit in store.iterate("main")}
        assert store.count("main") - len(written) in (0, 1)


@pytest.mark.parametrize("what", ["nothing listens", "no Milvus", "wrong token", "no token", "no such database"])
def test_a_store_that_cannot_be_used_says_so_once_and_in_time(milvus_server: MilvusServer, what: str) -> None:
    uri, token, database = milvus_server.uri, SecretStr("root:very-secret"), ""
    listener = socket.create_server(("127.0.0.1", 0))  # accepts, and never answers
    if what == "nothing listens":
        uri = f"http://127.0.0.1:{free_port()}"
    elif what == "no Milvus":
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
    elif what == "no such database":
        token, database = SecretStr(TOKEN), "nowhere"
    block = MilvusStoreConfig(
        uri=uri, token=None if what == "no token" else token, database=database, timeout_s=3, prefix="t"
    )
    started = time.monotonic()
    with listener, pytest.raises(StoreError) as raised:
        MilvusStore(block).collections()
    assert time.monotonic() - started < 12
    assert "very-secret" not in str(raised.value)
    assert uri in raised.value.message
    assert raised.value.hint
    if what != "no such database":
        assert isinstance(raised.value, StoreUnavailableError)
        assert ("store.token" if "token" in what else "store.uri") in raised.value.hint


def test_tenants(block: MilvusStoreConfig) -> None:
    fields: dict[str, FieldType] = {"tenant": "keyword", "n": "integer"}
    with emptied(block.model_copy(update={"tenant_field": "tenant", "partitions": 4})) as store:
        with pytest.raises(InputError, match="tenant_field"):
            store.ensure_collection(CollectionSpec("main", DIM, {"n": "integer"}))
        store.ensure_collection(CollectionSpec("main", DIM, fields))
        population = [{"n": i} if i % 5 == 4 else {"tenant": f"t{i % 5}", "n": i} for i in range(50)]
        store.upsert("main", [make_record(i, payload) for i, payload in enumerate(population)])
        tests = [
            Condition("tenant", "eq", "t1"),
            Condition("tenant", "ne", "t1"),
            Condition("tenant", "in", ("t1", "t2", "none")),
            Condition("tenant", "nin", ("t1", "t2")),
            Condition("tenant", "in", ()),
            Condition("tenant", "exists", False),
            Condition("tenant", "contains", "t1"),
            Not(And((Condition("tenant", "eq", "t1"), Condition("n", "lt", 20)))),
        ]
        for wanted in tests:
            expected = sorted(record_id(i) for i, each in enumerate(population) if matches(wanted, each, fields))
            assert [hit.id for hit in store.iterate("main", wanted)] == expected, wanted
        store.upsert("main", [make_record(1, {"tenant": "t3", "n": 1})])  # a record may move
        assert store.count("main") == 50
        assert store.count("main", Condition("tenant", "eq", "t1")) == 9
        store.delete("main", ids=[record_id(1)])
        store.delete("main", filter=Condition("tenant", "eq", "t2"))
        assert store.count("main") == 39
        with pytest.raises(InputError, match="one tenant"):
            store.upsert("main", [make_record(1, {"tenant": ["t3"]})])
    with emptied(block) as store, pytest.raises(CollectionError, match="tenant_field"):
        with MilvusStore(block.model_copy(update={"tenant_field": "tenant"})) as other:
            other.ensure_collection(CollectionSpec("main", DIM, fields))
        store.ensure_collection(CollectionSpec("main", DIM, fields))


def test_negative_weights_and_the_last_index(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    last = 2**32 - 1
    vectors = [
        {int(i): float(w) for i, w in zip(rng.choice(30, 8, replace=False), rng.normal(size=8), strict=True)}
        for _ in range(120)
    ]
    vectors += [{last: 1.0}, {last - 1: 2.0}, {last - 2: -3.0, last: 0.5}, {}]
    with MilvusStore(MilvusStoreConfig(uri=str(tmp_path / "store.db"))) as store:
        store.ensure_collection(SPEC)
        store.upsert("main", [make_record(i, sparse=vector) for i, vector in enumerate(vectors)])
        for query in ({1: 1.0, 2: -1.0, 3: 0.5}, {4: -1.0}, {last: 1.0}, {last - 2: -1.0, last - 1: 1.0}, {7: 1.0}):
            expected = []
            for i, vector in enumerate(vectors):
                score = float(dot_products(make_sparse(query), [make_sparse(vector)])[0])
                expected += [(-score, record_id(i))] if score > 0 else []
            for top_k in (1, 3, 200):
                hits = store.search_sparse("main", make_sparse(query), top_k)
                assert [(-hit.score, hit.id) for hit in hits] == sorted(expected)[:top_k]


def test_several_indexes_share_one_engine(block: MilvusStoreConfig) -> None:
    other_block = block.model_copy(update={"prefix": f"{block.prefix}x"})
    with emptied(block) as store, emptied(other_block) as other:
        names = ["a", "a_d", "a.d", "a-h", "a__", "A." * 50]
        with ThreadPoolExecutor(4) as pool:  # loading takes the server a second each time
            list(pool.map(lambda name: store.ensure_collection(CollectionSpec(name, DIM)), names[:4]))
        other.ensure_collection(CollectionSpec("b", DIM))
        assert store.collections() == sorted(names[:4])
        assert other.collections() == ["b"]
        store.ensure_collection(CollectionSpec(names[-1], DIM))
        store.drop(names[-1])
        with emptied(with_index(block, type="FLAT")) as changed, pytest.raises(CollectionError, match=r"index\.type"):
            changed.ensure_collection(CollectionSpec("a", DIM))


def test_a_field_added_by_another_store_is_seen(block: MilvusStoreConfig) -> None:
    with emptied(block) as store, MilvusStore(block) as other:
        store.ensure_collection(CollectionSpec("main", DIM))
        store.upsert("main", [make_record(1, {"n": 1})])
        assert other.count("main") == 1
        store.ensure_collection(CollectionSpec("main", DIM, {"n": "integer"}))
        other.upsert("main", [make_record(2, {"n": 2})])
        assert other.count("main", Condition("n", "gte", 1)) == 2
        assert store.health().address == store.health().address
        assert "2.3.5" in store.health().version or store.health().engine == "milvus-lite"


def test_both_legs_of_a_hybrid_search(tmp_path: Path) -> None:
    with MilvusStore(MilvusStoreConfig(uri=str(tmp_path / "store.db"))) as store:
        store.ensure_collection(SPEC)
        store.upsert("main", [numbered(number) for number in range(40)])
        query, terms, wanted = make_record(50).dense, make_sparse({3: 1.0, 4: 1.0}), Condition("integer", "lt", 30)
        both = store.search_hybrid("main", query, terms, 5, filter=wanted)
        assert both.dense == store.search_dense("main", query, 5, filter=wanted)
        assert both.sparse == store.search_sparse("main", terms, 5, filter=wanted)
        with pytest.raises(InputError):
            store.search_hybrid("main", query, terms, -1)
