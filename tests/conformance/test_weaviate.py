"""A real Weaviate server keeps the contract: with its graph, with a flat index, and with tenants."""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ragstack.adapters import weaviate_growth
from ragstack.adapters.base import CollectionSpec, Record, SearchParams, VectorStore
from ragstack.adapters.sparse_dot import dot_products
from ragstack.adapters.weaviate import WeaviateStore
from ragstack.adapters.weaviate_records import to_object
from ragstack.adapters.weaviate_schema import class_name
from ragstack.adapters.weaviate_writes import write
from ragstack.config.stores.weaviate import (
    WeaviateBq,
    WeaviateFlat,
    WeaviateHnsw,
    WeaviateIndex,
    WeaviatePq,
    WeaviateRq,
    WeaviateSq,
    WeaviateStoreConfig,
)
from ragstack.errors import (
    CapabilityError,
    CollectionError,
    FilterError,
    InputError,
    PartialWriteError,
    StoreUnavailableError,
)
from ragstack.filters import Condition
from ragstack.testing import store_cases as cases
from ragstack.testing.store_cases import DIM, SPEC, make_record, make_sparse, numbered, record_id
from ragstack.testing.store_conformance import VectorStoreConformance
from ragstack.testing.store_conformance_search import SearchConformance
from ragstack.types import SparseVector
from tests.servers.base import free_port
from tests.servers.weaviate import VERSION, WeaviateServer, weaviate_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeaviateServer]:
    """One server for all tests here."""
    running = weaviate_server(tmp_path_factory.mktemp("weaviate"))
    running.start()
    yield running
    running.stop()


def block_for(server: WeaviateServer, **settings: Any) -> WeaviateStoreConfig:
    """The settings of a store of its own on the server."""
    prefix = f"t{uuid.uuid4().hex[:12]}"
    return WeaviateStoreConfig(uri=server.url, grpc_port=server.grpc_port, prefix=prefix, **settings)


def opened(block: WeaviateStoreConfig) -> Iterator[WeaviateStore]:
    """An open store; at the end everything below its prefix is dropped."""
    with WeaviateStore(block) as store:
        yield store
    with WeaviateStore(block) as store:
        for name in store.collections():
            store.drop(name)


@pytest.fixture
def block(server: WeaviateServer) -> WeaviateStoreConfig:
    """Default settings."""
    return block_for(server)


@pytest.fixture
def store(block: WeaviateStoreConfig) -> Iterator[WeaviateStore]:
    """A store with default settings."""
    yield from opened(block)


class TestWeaviate(VectorStoreConformance):
    iterated_records = 10_000  # of 50,000, which pass too, it takes minutes to write

    @pytest.fixture
    def store(self, block: WeaviateStoreConfig) -> Iterator[WeaviateStore]:
        yield from opened(block)

    def reopen(self, store: VectorStore) -> VectorStore:
        assert isinstance(store, WeaviateStore)
        store.close()
        return WeaviateStore(store.block)


class TestWeaviateGraph(SearchConformance):
    """Graphs are searched where they can be, and an exact search scans them in portions, as in large collections."""

    @pytest.fixture
    def store(self, server: WeaviateServer) -> Iterator[WeaviateStore]:
        yield from opened(block_for(server, index=WeaviateHnsw(flat_search_cutoff=64)))

    @pytest.fixture
    def filled(self, store: WeaviateStore) -> WeaviateStore:
        return fill(store)


class TestWeaviateFlat(SearchConformance):
    """Every vector is scanned."""

    # Filters do not depend on the vectors' index; the two classes above try them.
    test_filters_mean_what_the_grammar_says = None
    test_filters_over_any_payloads = None

    @pytest.fixture
    def store(self, server: WeaviateServer) -> Iterator[WeaviateStore]:
        yield from opened(block_for(server, index=WeaviateFlat()))

    @pytest.fixture
    def filled(self, store: WeaviateStore) -> WeaviateStore:
        return fill(store)


def fill(store: WeaviateStore) -> WeaviateStore:
    """Put the 40 records of the suite into the collection ``main``."""
    store.ensure_collection(SPEC)
    store.upsert("main", [numbered(number) for number in range(40)])
    return store


# What the suite does not try


def test_recall_against_brute_force(store: WeaviateStore) -> None:
    rng = np.random.default_rng(17)
    vectors = cases.clustered(rng, 4000, 64, 60)
    store.ensure_collection(CollectionSpec("main", 64))
    store.upsert("main", [make_record(i, dense=vectors[i]) for i in range(len(vectors))])
    queries = cases.clustered(rng, 60, 64, 60)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = []
    for query in queries:
        nearest = {record_id(int(i)) for i in np.argsort(-(units @ query))[:10]}
        found.append(len(nearest & {hit.id for hit in store.search_dense("main", query, 10)}) / 10)
    assert np.mean(found) >= 0.95


def test_sparse_candidates_hold_the_true_best(store: WeaviateStore) -> None:
    """BM25-like vectors, more matches than candidates are asked for."""
    rng = np.random.default_rng(23)
    store.ensure_collection(CollectionSpec("main", 2))
    vectors = [bm25_like(rng, 40) for _ in range(2000)]
    store.upsert("main", [Record(record_id(i), np.ones(2, np.float32), v, {}) for i, v in enumerate(vectors)])
    frequency = np.bincount(np.concatenate([v.indices for v in vectors]), minlength=VOCABULARY)
    recalls = []
    for number in range(20):
        terms = bm25_like(rng, 6).indices
        idf = np.log(1 + (len(vectors) - frequency[terms] + 0.5) / (frequency[terms] + 0.5))
        # Half of the queries have the weights that ragstack gives them, half have any.
        weights = idf if number % 2 else rng.uniform(0.1, 3.0, len(terms))
        query = SparseVector(terms, weights.astype(np.float32))
        scores = dot_products(query, vectors)
        ranked = sorted((-float(score), record_id(i)) for i, score in enumerate(scores) if score > 0)[:100]
        hits = store.search_sparse("main", query, 100)
        assert {hit.id: hit.score for hit in hits}.items() <= {
            record_id(i): float(score) for i, score in enumerate(scores)
        }.items()
        recalls.append(len({id_ for _, id_ in ranked} & {hit.id for hit in hits}) / len(ranked))
    assert np.mean(recalls[1::2]) >= 0.98
    assert np.mean(recalls[::2]) >= 0.95


VOCABULARY = 2000


def bm25_like(rng: np.random.Generator, terms: int) -> SparseVector:
    """Terms by Zipf's law with the weights that BM25 gives to one, two or more occurrences."""
    share = 1.0 / np.arange(1, VOCABULARY + 1)
    indices = np.sort(rng.choice(VOCABULARY, size=terms, replace=False, p=share / share.sum())).astype(np.uint32)
    counts = rng.geometric(0.7, size=terms)
    return SparseVector(indices, (2.2 * counts / (counts + rng.uniform(0.6, 2.0))).astype(np.float32))


def test_negative_weights_find_what_they_should(store: WeaviateStore) -> None:
    store.ensure_collection(CollectionSpec("main", DIM))
    store.upsert("main", [make_record(1, sparse={5: -2.0}), make_record(2, sparse={5: 2.0, 6: -9.0})])
    assert [(hit.id, hit.score) for hit in store.search_sparse("main", make_sparse({5: -1.0}), 5)] == [
        (record_id(1), 2.0)
    ]
    assert store.search_sparse("main", make_sparse({5: 1.0, 6: 1.0}), 5) == []


def test_a_filter_that_leaves_more_than_one_answer_holds(server: WeaviateServer) -> None:
    for store in opened(block_for(server, max_results=100)):
        store.ensure_collection(CollectionSpec("main", DIM, {"integer": "integer"}))
        store.upsert("main", [make_record(i, {"integer": i % 2}) for i in range(500)])
        for batch_size in (1000, 30):
            seen = [hit.id for hit in store.iterate("main", Condition("integer", "eq", 1), batch_size=batch_size)]
            assert seen == sorted(record_id(i) for i in range(1, 500, 2))
        with pytest.raises(CapabilityError, match="100"):
            store.search_dense("main", make_record(1).dense, 101)
    for store in opened(block_for(server, max_results=20_000)):
        fill(store)
        with pytest.raises(CapabilityError, match="max_results"):
            store.search_dense("main", make_record(1).dense, 15_000)


def test_a_refused_record_is_named_and_the_others_are_stored(store: WeaviateStore) -> None:
    """The server refuses what the adapter cannot know of: here a vector that another client gave another length."""
    store.ensure_collection(CollectionSpec("main", DIM))
    store.upsert("main", [make_record(0)])
    opened_ = store._collection("main")
    good = to_object(make_record(1, {"a": 1}), {})
    bad = to_object(make_record(2, dim=DIM + 1), {})
    with pytest.raises(PartialWriteError) as caught:
        write(opened_.handle, [good, bad], DIM, 10**6, store._connection)
    assert list(caught.value.failed) == [record_id(2)]
    assert "length" in caught.value.failed[record_id(2)]
    assert store.fetch("main", [record_id(1), record_id(2)]).keys() == {record_id(1)}


def test_writes_are_split_by_bytes(server: WeaviateServer) -> None:
    for store in opened(block_for(server, batch_bytes=65_536)):
        store.ensure_collection(CollectionSpec("main", DIM))
        store.upsert("main", [make_record(i, {"text": "x€" * 16_384}) for i in range(20)])
        assert store.count("main") == 20
        assert sum(len(hit.payload["text"]) for hit in store.iterate("main")) == 20 * 32_768


@pytest.mark.parametrize(
    "index",
    [
        WeaviateHnsw(quantizer=WeaviateRq()),
        WeaviateHnsw(quantizer=WeaviateSq(training_limit=1000)),
        WeaviateHnsw(quantizer=WeaviateBq()),
        WeaviateHnsw(quantizer=WeaviatePq(training_limit=1000)),
        WeaviateFlat(quantizer=WeaviateBq(rescore_limit=200)),
        WeaviateFlat(quantizer=WeaviateRq()),
    ],
    ids=["hnsw rq", "hnsw sq", "hnsw bq", "hnsw pq", "flat bq", "flat rq"],
)
def test_quantised_indexes_search_and_refuse_what_is_exact(server: WeaviateServer, index: WeaviateIndex) -> None:
    for store in opened(block_for(server, index=index)):
        assert not store.capabilities.exact_search
        fill(store)
        query = make_record(3).dense
        assert store.search_dense("main", query, 1)[0].id == record_id(3)
        with pytest.raises(CapabilityError, match="quantised"):
            store.search_dense("main", query, 1, params=SearchParams(exact=True))


def test_ef_search_widens_the_search(store: WeaviateStore) -> None:
    fill(store)
    hits = store.search_dense("main", make_record(3).dense, 5, params=SearchParams(ef_search=2000))
    assert len(hits) == 5
    with pytest.raises(CapabilityError, match="ef_search"):
        store.search_dense("main", make_record(3).dense, 5, params=SearchParams(ef_search=10_001))


def test_another_process_sees_new_fields_and_the_end(block: WeaviateStoreConfig, store: WeaviateStore) -> None:
    fill(store)
    with WeaviateStore(block) as other:
        assert other.count("main") == 40
        store.ensure_collection(CollectionSpec("main", DIM, {"late": "keyword"}))
        store.upsert("main", [make_record(100, {"late": "x"})])
        assert other.count("main", Condition("late", "eq", "x")) == 1
        other.upsert("main", [make_record(101, {"late": "x"})])
        assert store.count("main", Condition("late", "eq", "x")) == 2
        store.drop("main")
        for call in (lambda: other.count("main"), lambda: other.upsert("main", [make_record(1)])):
            with pytest.raises(CollectionError, match="main"):
                call()


def test_a_field_whose_indexing_was_cut_off_is_finished(store: WeaviateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.ensure_collection(CollectionSpec("main", DIM))
    store.upsert("main", [make_record(i, {"late": f"v{i % 3}"}) for i in range(300)])

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    grown = CollectionSpec("main", DIM, {"late": "keyword"})
    with monkeypatch.context() as patch:
        patch.setattr(weaviate_growth, "write", cut_off)
        with pytest.raises(KeyboardInterrupt):
            store.ensure_collection(grown)
    with pytest.raises(FilterError):
        store.count("main", Condition("late", "eq", "v1"))
    with pytest.raises(CollectionError):
        store.ensure_collection(CollectionSpec("main", DIM, {"late": "integer"}))
    store.ensure_collection(grown)
    assert store.count("main", Condition("late", "eq", "v1")) == 100


def test_stores_with_other_prefixes_are_apart(server: WeaviateServer, store: WeaviateStore) -> None:
    fill(store)
    for prefix in (store.block.prefix.upper(), store.block.prefix + "x", store.block.prefix[:-1]):
        with WeaviateStore(store.block.model_copy(update={"prefix": prefix})) as other:
            assert other.collections() == []
            other.ensure_collection(CollectionSpec("main", 3))
            assert other.collections() == ["main"]
            assert other.count("main") == 0
            other.drop("main")
    assert store.count("main") == 40


def test_a_class_that_is_not_ours_is_refused(store: WeaviateStore) -> None:
    client = store._connected()
    class_ = class_name(store.block.prefix, "theirs")
    client.collections.create(class_, description="notes")
    with pytest.raises(CollectionError, match="theirs"):
        store.ensure_collection(CollectionSpec("theirs", DIM))
    store.drop("theirs")


class TestTenants:
    """Weaviate's tenants, one for each value of a keyword field."""

    @pytest.fixture
    def store(self, server: WeaviateServer) -> Iterator[WeaviateStore]:
        yield from opened(block_for(server, tenant_field="keyword"))

    def test_a_tenant_for_each_value(self, store: WeaviateStore) -> None:
        fill(store)
        store.upsert("main", [make_record(100, {"keyword": "日本/*"}, sparse={3: 9.0}), make_record(101)])
        names = set(store._collection("main").handle.tenants.get())
        assert len(names) == 5
        assert {"k-k0", "k-k1", "k-k2", "none"} < names
        query = make_record(100)
        assert len(store.search_dense("main", query.dense, 100)) == 42
        assert store.search_dense("main", query.dense, 1, params=SearchParams(exact=True))[0].id == query.id
        assert store.search_sparse("main", make_sparse({3: 1.0}), 1)[0].id == query.id
        some = store.search_dense("main", query.dense, 100, filter=Condition("keyword", "eq", "k1"))
        assert {hit.id for hit in some} == {record_id(i) for i in range(1, 40, 3)}
        assert store.count("main", Condition("keyword", "in", ("k0", "日本/*", "none"))) == 15
        assert store.count("main", Condition("keyword", "exists", False)) == 1
        assert store.count("main", Condition("integer", "lt", 10)) == 10
        assert [hit.id for hit in store.iterate("main", batch_size=4)] == sorted(
            record_id(i) for i in [*range(40), 100, 101]
        )
        assert store.fetch("main", [record_id(5), record_id(101)]).keys() == {record_id(5), record_id(101)}
        store.delete("main", filter=Condition("integer", "gte", 5))
        store.delete("main", ids=[record_id(0)])
        assert store.count("main") == 6

    def test_a_record_moves_with_its_value(self, store: WeaviateStore) -> None:
        fill(store)
        store.upsert("main", [make_record(1, {"keyword": "k2", "integer": 1})])
        assert store.count("main") == 40
        assert store.fetch("main", [record_id(1)])[record_id(1)].payload["keyword"] == "k2"
        store.ensure_collection(CollectionSpec("main", DIM, {"late": "keyword"}))
        store.upsert("main", [make_record(1, {"keyword": "k9", "late": "x"})])
        assert store.count("main", Condition("late", "eq", "x")) == 1

    def test_what_cannot_name_a_tenant_is_refused(self, store: WeaviateStore) -> None:
        with pytest.raises(InputError, match="keyword"):
            store.ensure_collection(CollectionSpec("main", DIM))
        store.ensure_collection(SPEC)
        with pytest.raises(InputError, match="list"):
            store.upsert("main", [make_record(1, {"keyword": ["a", "b"]}), make_record(2)])
        assert store.count("main") == 0


KEY = "a-key-that-no-error-shows"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeaviateServer]:
    """A second server, which asks for a key, returns at most 1000 objects a request, and may be killed."""
    running = weaviate_server(
        tmp_path_factory.mktemp("weaviate-keyed"),
        {
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
            "AUTHENTICATION_APIKEY_ENABLED": "true",
            "AUTHENTICATION_APIKEY_ALLOWED_KEYS": KEY,
            "AUTHENTICATION_APIKEY_USERS": "tests",
            "QUERY_MAXIMUM_RESULTS": "1000",
        },
    )
    running.start()
    yield running
    running.stop()


class TestTheServer:
    """A server that asks for a key and dies."""

    def test_a_wrong_key_or_address_is_one_clear_error(self, keyed: WeaviateServer) -> None:
        good: dict[str, Any] = {"uri": keyed.url, "grpc_port": keyed.grpc_port, "api_key": KEY, "timeout_s": 1.0}
        with socket.create_server(("127.0.0.1", 0)) as silent:
            wrong: list[tuple[dict[str, Any], str]] = [
                ({"api_key": "wrong-key"}, "api_key"),
                ({"api_key": None}, "api_key"),
                ({"uri": f"http://127.0.0.1:{free_port()}"}, "store.uri"),
                ({"uri": f"http://127.0.0.1:{silent.getsockname()[1]}"}, "store.uri"),
                ({"uri": keyed.url.replace("http:", "https:")}, "TLS"),
                ({"grpc_port": free_port()}, "grpc_port"),
            ]
            for change, check in wrong:
                block = WeaviateStoreConfig(**{**good, **change})
                with WeaviateStore(block) as store, pytest.raises(StoreUnavailableError) as caught:
                    store.health()
                told = str(caught.value)
                assert block.uri in told
                assert check in told
                assert KEY not in told
                assert "wrong-key" not in told
        with WeaviateStore(WeaviateStoreConfig(**good)) as store:
            assert store.health().version == VERSION
            assert KEY not in repr(store.block)

    def test_a_delete_of_more_than_the_server_takes_at_once(self, keyed: WeaviateServer) -> None:
        settings: dict[str, Any] = {"api_key": KEY, "max_results": 1000, "index": WeaviateFlat()}
        for store in opened(block_for(keyed, **settings)):
            store.ensure_collection(CollectionSpec("main", 2, {"integer": "integer"}))
            store.upsert("main", [make_record(i, {"integer": i % 10}, dim=2) for i in range(2500)])
            store.delete("main", filter=Condition("integer", "ne", 0))
            assert store.count("main") == 250

    def test_nothing_acknowledged_is_lost_when_the_server_is_killed(self, keyed: WeaviateServer) -> None:
        block = WeaviateStoreConfig(uri=keyed.url, grpc_port=keyed.grpc_port, api_key=KEY, max_results=1000)
        written: list[str] = []
        stop, enough = threading.Event(), threading.Event()

        def write_on(store: WeaviateStore) -> None:
            number = 0
            while not stop.is_set():
                records = [make_record(number + i, {"integer": number + i}, sparse={i: 1.0}) for i in range(20)]
                number += len(records)
                try:
                    store.upsert("main", records)
                except (StoreUnavailableError, PartialWriteError):
                    continue  # not acknowledged
                written.extend(record.id for record in records)
                if len(written) >= 400:
                    enough.set()

        with WeaviateStore(block) as store:
            store.ensure_collection(SPEC)
            writer = threading.Thread(target=write_on, args=(store,))
            writer.start()
            assert enough.wait(60)
            keyed.kill()
            before = list(written)
            late = WeaviateStore(block.model_copy(update={"timeout_s": 1.0}))
            with late, pytest.raises(StoreUnavailableError, match=keyed.url):
                late.count("main")
            keyed.start()
            stop.set()
            writer.join()
            assert len(before) >= 400
            found = store.fetch("main", written)
            assert set(written) <= found.keys()
            assert store.count("main", Condition("integer", "gte", 0)) == store.count("main")
            for id_ in written[:: max(1, len(written) // 20)]:
                assert store.search_dense("main", found[id_].dense, 1)[0].id == id_
            hits = store.search_sparse("main", make_sparse({7: 1.0}), 1000)
            assert {hit.id for hit in hits} >= {id_ for id_ in written if 7 in found[id_].sparse.indices}
