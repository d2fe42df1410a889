"""What a Qdrant server gets: golden requests for each group of settings, over a server that writes them down."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr, ValidationError

from ragstack.adapters.base import CollectionSpec, SearchParams
from ragstack.adapters.qdrant import QdrantStore
from ragstack.adapters.qdrant_server_keys import SAFE, field_keys
from ragstack.adapters.registry import STORES
from ragstack.config.stores.qdrant import QdrantStoreConfig
from ragstack.errors import CapabilityError, CollectionError, InputError
from ragstack.filters import Condition
from ragstack.testing.store_cases import FIELDS, make_record, make_sparse
from tests.servers.qdrant_fake import FakeQdrant, Seen, running, serde_float

SPEC = CollectionSpec("main", 4, {"team": "keyword", "seq": "integer"})


@pytest.fixture
def server() -> Iterator[FakeQdrant]:
    with running() as server:
        yield server


def open_store(server: FakeQdrant, **settings: Any) -> QdrantStore:
    return QdrantStore(QdrantStoreConfig.model_validate({"uri": server.uri, **settings}))


def sent(server: FakeQdrant, method: str, end: str) -> list[Seen]:
    return [seen for seen in server.seen if seen.method == method and seen.path.endswith(end)]


def created(server: FakeQdrant, **settings: Any) -> dict[str, Any]:
    """The body of the request that creates a collection."""
    with open_store(server, **settings) as store:
        store.ensure_collection(SPEC)
    body = sent(server, "PUT", "/collections/ragstack.main")[0].body
    assert isinstance(body, dict)
    return body


def test_the_registry_knows_it() -> None:
    assert STORES.load("qdrant") is QdrantStore


def test_a_collection_is_created_so_by_default(server: FakeQdrant) -> None:
    assert created(server) == {
        "vectors": {"dense": {"size": 4, "distance": "Cosine"}},
        "sparse_vectors": {"sparse": {"index": {"on_disk": False}}},
        "hnsw_config": {"m": 16, "ef_construct": 100},
        "on_disk_payload": True,
        "metadata": {
            "ragstack_format": 1,
            field_keys("team", "keyword").main: '"team"',
            field_keys("seq", "integer").main: '"seq"',
        },
    }
    schemas = {seen.body["field_name"]: seen.body["field_schema"] for seen in sent(server, "PUT", "/index")}
    assert schemas == {
        "lists": "keyword",
        "f_keyword_7465616d": "keyword",
        "f_integer_736571": "integer",
        "m_integer_736571": "integer",
        "c_integer_736571": "integer",
    }
    assert all(seen.query["wait"] == "true" for seen in sent(server, "PUT", "/index"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"quantization": "scalar", "quantile": 0.99},
            {"quantization_config": {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}}},
        ),
        (
            {"quantization": "binary", "quantized_in_ram": False},
            {"quantization_config": {"binary": {"always_ram": False}}},
        ),
        (
            {"quantization": "product", "compression": "x32"},
            {"quantization_config": {"product": {"compression": "x32", "always_ram": True}}},
        ),
        (
            {"shard_number": 6, "replication_factor": 3},
            {"shard_number": 6, "replication_factor": 3, "write_consistency_factor": 2},
        ),
        ({"replication_factor": 3, "write_consistency_factor": 3}, {"write_consistency_factor": 3}),
        ({"hnsw_m": 32, "ef_construct": 256, "hnsw_on_disk": True},
         {"hnsw_config": {"m": 32, "ef_construct": 256, "on_disk": True}}),
        ({"vectors_on_disk": True}, {"vectors": {"dense": {"size": 4, "distance": "Cosine", "on_disk": True}}}),
        ({"sparse_on_disk": True, "payload_on_disk": False},
         {"sparse_vectors": {"sparse": {"index": {"on_disk": True}}}, "on_disk_payload": False}),
        # A graph is searched from full_scan_threshold on, so it must come down with the size that gets one.
        ({"indexing_threshold_kb": 1}, {"optimizers_config": {"indexing_threshold": 1},
          "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10}}),
        ({"indexing_threshold_kb": 500}, {"optimizers_config": {"indexing_threshold": 500},
          "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 500}}),
        ({"indexing_threshold_kb": 20_000}, {"optimizers_config": {"indexing_threshold": 20_000},
          "hnsw_config": {"m": 16, "ef_construct": 100}}),
        ({"tenant_field": "team", "hnsw_m": 0, "hnsw_payload_m": 16},
         {"hnsw_config": {"m": 0, "payload_m": 16, "ef_construct": 100}}),
    ],
)  # fmt: skip
def test_settings_of_a_collection(server: FakeQdrant, settings: dict[str, Any], expected: dict[str, Any]) -> None:
    body = created(server, **settings)
    assert {key: body[key] for key in expected} == expected


def test_tenants_are_kept_apart_by_a_payload_index(server: FakeQdrant) -> None:
    created(server, tenant_field="team")
    schemas = {seen.body["field_name"]: seen.body["field_schema"] for seen in sent(server, "PUT", "/index")}
    assert schemas[field_keys("team", "keyword").main] == {"type": "keyword", "is_tenant": True}
    assert schemas[field_keys("seq", "integer").main] == "integer"


@pytest.mark.parametrize("fields", [{}, {"team": "integer"}])
def test_a_tenant_field_that_is_no_declared_keyword_is_refused(server: FakeQdrant, fields: Any) -> None:
    with open_store(server, tenant_field="team") as store, pytest.raises(InputError, match="team"):
        store.ensure_collection(CollectionSpec("main", 4, fields))
    assert sent(server, "PUT", "/collections/ragstack.main") == []


@pytest.mark.parametrize(
    ("settings", "params", "expected"),
    [
        ({}, SearchParams(), {"hnsw_ef": 128, "exact": False}),
        ({"ef_search": 64}, SearchParams(ef_search=300), {"hnsw_ef": 300, "exact": False}),
        ({"exact": True}, SearchParams(), {"hnsw_ef": 128, "exact": True}),
        (
            {"quantization": "binary", "oversampling": 3.0},
            SearchParams(),
            {"hnsw_ef": 128, "exact": False, "quantization": {"rescore": True, "oversampling": 3.0}},
        ),
        (
            {"quantization": "scalar", "rescore": False},
            SearchParams(),
            {"hnsw_ef": 128, "exact": False, "quantization": {"rescore": False}},
        ),
        (
            {"quantization": "scalar"},
            SearchParams(exact=True),
            {"hnsw_ef": 128, "exact": True, "quantization": {"ignore": True}},
        ),
    ],
)
def test_settings_of_a_search(
    server: FakeQdrant, settings: dict[str, Any], params: SearchParams, expected: dict[str, Any]
) -> None:
    with open_store(server, **settings) as store:
        store.ensure_collection(SPEC)
        store.search_dense("main", np.ones(4, dtype=np.float32), 5, params=params)
    search = sent(server, "POST", "/points/query")[0].body
    assert search["params"] == expected
    assert search["using"] == "dense"
    assert search["limit"] == 6
    assert search["with_payload"] == ["payload"]
    assert search["with_vector"] is False


def test_a_hybrid_search_is_one_request(server: FakeQdrant) -> None:
    with open_store(server) as store:
        store.ensure_collection(SPEC)
        store.upsert("main", [make_record(i, {"seq": i}, dim=4, sparse={1: 1.0 + i}) for i in range(30)])
        query = make_record(50, dim=4).dense
        both = store.search_hybrid("main", query, make_sparse({1: 1.0}), 5, filter=Condition("seq", "lt", 20))
        requests = sent(server, "POST", "/points/query/batch")
        assert len(requests) == 1
        assert [search["using"] for search in requests[0].body["searches"]] == ["dense", "sparse"]
        found = Condition("seq", "lt", 20)
        assert [hit.id for hit in both.dense] == [hit.id for hit in store.search_dense("main", query, 5, filter=found)]
        assert both.sparse == store.search_sparse("main", make_sparse({1: 1.0}), 5, filter=found)


def test_copies_are_written_and_read_by_most(server: FakeQdrant) -> None:
    with open_store(server, replication_factor=3, write_ordering="strong") as store:
        store.ensure_collection(SPEC)
        store.upsert("main", [make_record(1, dim=4)])
        store.search_dense("main", np.ones(4, dtype=np.float32), 1)
        store.fetch("main", [make_record(1).id])
        list(store.iterate("main"))
        store.delete("main", ids=[make_record(1).id])
    (write,) = sent(server, "PUT", "/points")
    (delete,) = sent(server, "POST", "/points/delete")
    assert write.query == delete.query == {"wait": "true", "ordering": "strong"}
    for end in ("/points/query", "/points/scroll", "/points"):
        assert [seen.query for seen in sent(server, "POST", end)] == [{"consistency": "majority"}]


def test_writes_are_split_by_count_and_bytes(server: FakeQdrant) -> None:
    with open_store(server, batch_points=10, batch_bytes=100_000) as store:
        store.ensure_collection(SPEC)
        store.upsert("main", [make_record(i, dim=4) for i in range(25)])
        assert [len(seen.body["points"]) for seen in sent(server, "PUT", "/points")] == [10, 10, 5]
        server.seen.clear()
        store.upsert("main", [make_record(i, {"text": "€" * 40_000}, dim=4) for i in range(4)])
        assert [len(seen.body["points"]) for seen in sent(server, "PUT", "/points")] == [1, 1, 1, 1]
        assert store.count("main") == 25


def test_the_key_goes_into_the_header(server: FakeQdrant) -> None:
    server.api_key = "s3cret"
    with open_store(server, api_key=SecretStr("s3cret")) as store:
        store.ensure_collection(SPEC)
        assert store.health().version == "1.16.0"
    assert {seen.headers["api-key"] for seen in server.seen} == {"s3cret"}


def test_indexes_share_a_server(server: FakeQdrant) -> None:
    with open_store(server, prefix="one") as one, open_store(server, prefix="one1") as other:
        one.ensure_collection(SPEC)
        other.ensure_collection(SPEC)
        other.ensure_collection(CollectionSpec("one.main", 3))
        server.local.create_collection("one", vectors_config={})
        assert one.collections() == ["main"]
        assert other.collections() == ["main", "one.main"]
        one.drop("main")
        assert one.collections() == []
        assert other.count("main") == 0


def test_another_process_reads_what_a_collection_is(server: FakeQdrant) -> None:
    with open_store(server) as first, open_store(server) as second:
        first.ensure_collection(CollectionSpec("main", 4, FIELDS))
        first.upsert("main", [make_record(1, {"integer": 7, "x": "y"}, dim=4)])
        assert second.count("main", Condition("integer", "eq", 7)) == 1
        with pytest.raises(CollectionError):
            second.ensure_collection(CollectionSpec("main", 5))
        with pytest.raises(CollectionError):
            second.ensure_collection(CollectionSpec("main", 4, {"integer": "keyword"}))
        first.ensure_collection(CollectionSpec("main", 4, {"x": "keyword"}))
        assert second.count("main", Condition("x", "eq", "y")) == 1
        second.upsert("main", [make_record(2, {"x": "y"}, dim=4)])
        assert first.count("main", Condition("x", "eq", "y")) == 2
        first.drop("main")
        with pytest.raises(CollectionError, match="main"):
            second.count("main")


def test_servers_without_metadata_tell_by_their_indexes() -> None:
    with running(version="1.10.0", keeps_metadata=False) as server:
        with open_store(server) as first:
            first.ensure_collection(CollectionSpec("main", 4, FIELDS))
            first.upsert("main", [make_record(1, {"integer": 7, "x": 2.5}, dim=4)])
        with open_store(server) as second:
            assert second.count("main", Condition("integer", "eq", 7)) == 1
            second.ensure_collection(CollectionSpec("main", 4, {"x": "float"}))
            assert second.count("main", Condition("x", "gt", 2.4)) == 1
            with pytest.raises(CollectionError):
                second.ensure_collection(CollectionSpec("main", 4, {"x": "integer"}))
            with pytest.raises(CapabilityError, match="too long"):
                second.ensure_collection(CollectionSpec("main", 4, {"x" * 61: "float"}))


@pytest.mark.parametrize("keeps_metadata", [True, False])
def test_a_collection_that_was_half_created_is_completed(keeps_metadata: bool) -> None:
    with running(keeps_metadata=keeps_metadata) as server:
        with open_store(server) as store:
            store.ensure_collection(SPEC)
        whole = dict(server.indexes["ragstack.main"])
        for lost in range(1, len(whole)):
            server.indexes["ragstack.main"] = dict(list(whole.items())[:lost])
            with open_store(server) as store:
                store.ensure_collection(SPEC)
                assert store.count("main", Condition("seq", "exists", False)) == 0
            assert server.indexes["ragstack.main"] == whole


def test_collections_of_others_are_refused(server: FakeQdrant) -> None:
    server.local.create_collection("ragstack.main", vectors_config={})
    with open_store(server) as store, pytest.raises(CollectionError, match=r"store\.prefix"):
        store.ensure_collection(SPEC)


def test_another_format_is_refused(server: FakeQdrant) -> None:
    with open_store(server) as store:
        store.ensure_collection(SPEC)
        server.local.update_collection("ragstack.main", metadata={"ragstack_format": 2})
        with pytest.raises(CollectionError, match="format 2"):
            store.ensure_collection(SPEC)


def test_a_server_that_is_too_old_is_named() -> None:
    with (
        running(version="1.9.7") as server,
        open_store(server) as store,
        pytest.raises(CapabilityError, match=r"1\.9\.7"),
    ):
        store.collections()


@pytest.mark.parametrize("bound", [SAFE, SAFE + 1, -SAFE - 1, 2**53 + 1, 2**62 + 513, 2**63 - 2, -(2**63) + 1])
@pytest.mark.parametrize("op", ["gt", "gte", "lt", "lte"])
def test_no_bound_of_a_range_depends_on_how_floats_are_read(server: FakeQdrant, bound: int, op: Any) -> None:
    with open_store(server) as store:
        store.ensure_collection(SPEC)
        store.count("main", Condition("seq", op, bound))
    (count,) = sent(server, "POST", "/points/count")
    bounds = list(ranges(count.body))
    assert bounds
    assert all(abs(each) <= SAFE + 1 and float(each).is_integer() for each in bounds)


def ranges(value: Any) -> Iterator[float]:
    """Every bound of a range in a filter."""
    if isinstance(value, dict):
        yield from (bound for bound in value.get("range", {}).values() if bound is not None)
        for each in value.values():
            yield from ranges(each)
    elif isinstance(value, list):
        for each in value:
            yield from ranges(each)


def test_the_fake_server_reads_floats_as_inexactly_as_a_real_one() -> None:
    assert serde_float("9007199254740991.0") == 9007199254740990.0
    assert serde_float(repr(float(SAFE))) == SAFE
    assert serde_float("-1.5e3") == -1500.0
    with pytest.raises(ValueError, match="range"):
        serde_float("1e400")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"uri": "ftp://host"}, "uri"),
        ({"uri": "http://user:pw@host"}, "api_key"),
        ({"uri": ":memory:", "api_key": "k"}, "api_key"),
        ({"uri": ":memory:", "prefer_grpc": True}, "prefer_grpc"),
        ({"tls_ca_file": "ca.pem"}, "https"),
        ({"quantile": 0.9}, "quantization: scalar"),
        ({"compression": "x4", "quantization": "scalar"}, "quantization: product"),
        ({"oversampling": 2.0}, "quantization"),
        ({"oversampling": 2.0, "quantization": "binary", "rescore": False}, "rescore"),
        ({"hnsw_m": 0}, "tenant_field"),
        ({"write_consistency_factor": 2}, "replication_factor"),
        ({"read_consistency": 0}, "copies"),
        ({"prefix": "a.b"}, "prefix"),
    ],
)
def test_settings_that_contradict_are_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        QdrantStoreConfig.model_validate(settings)


def test_grpc_is_off_unless_asked_for(server: FakeQdrant) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.2)
        with open_store(server, grpc_port=listener.getsockname()[1]) as store:
            store.ensure_collection(SPEC)
            store.search_dense("main", np.ones(4, dtype=np.float32), 1)
        with pytest.raises(TimeoutError):
            listener.accept()
