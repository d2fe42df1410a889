"""Milvus without a server: requests that no engine here runs, names, filters, errors, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pymilvus import exceptions as driver

from ragstack.adapters.base import SearchParams
from ragstack.adapters.checks import is_name
from ragstack.adapters.milvus import MilvusStore
from ragstack.adapters.milvus_errors import Place, driver_errors, translated
from ragstack.adapters.milvus_filters import code, compile_filter, field_keys
from ragstack.adapters.milvus_records import Layout, batches, payload_of, to_record, to_row
from ragstack.adapters.milvus_schema import index_params, own_name, search_params, stored_name, version_tuple
from ragstack.config.stores.milvus import MilvusStoreConfig
from ragstack.errors import (
    CapabilityError,
    CollectionError,
    InputError,
    PartialWriteError,
    StoreError,
    StoreUnavailableError,
)
from ragstack.filters import Filter, bind_filter
from ragstack.testing.store_cases import DIM, FIELDS, SPEC, VALUES, filters, make_record

PLACE = Place("http://milvus.example:19530", "root:secret")
INDEXES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"type": "FLAT"}, {}, {}),
    ({"type": "HNSW"}, {"M": 16, "efConstruction": 200}, {"ef": 128}),
    ({"type": "IVF_FLAT", "nlist": 64, "nprobe": 8}, {"nlist": 64}, {"nprobe": 8}),
    ({"type": "IVF_SQ8"}, {"nlist": 128}, {"nprobe": 32}),
    ({"type": "DISKANN"}, {}, {"search_list": 100}),
    (
        {"type": "GPU_CAGRA"},
        {
            "intermediate_graph_degree": 128,
            "graph_degree": 64,
            "build_algo": "IVF_PQ",
            "cache_dataset_on_device": "true",
        },
        {"itopk_size": 128, "search_width": 4, "team_size": 0, "min_iterations": 0, "max_iterations": 0},
    ),
]
"""Settings of each index, and the parameters that the server gets for building and for ten hits."""


@pytest.mark.parametrize(("settings", "built", "searched"), INDEXES, ids=lambda value: value.get("type", ""))
def test_requests_of_each_index(settings: dict[str, Any], built: dict[str, Any], searched: dict[str, Any]) -> None:
    index = MilvusStoreConfig.model_validate({"index": settings}).index
    dense = {"field_name": "dense", "index_type": settings["type"], "metric_type": "IP", "params": built}
    sparse = {"field_name": "sparse", "index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP", "params": {}}
    assert index_params(index, sparse=False) == [dense]
    assert index_params(index, sparse=True) == [dense, sparse]
    assert search_params(index, 10, SearchParams()) == {"metric_type": "IP", "params": searched}


def test_candidates_are_never_fewer_than_hits() -> None:
    def asked(type_: str, limit: int, **params: Any) -> dict[str, Any]:
        index = MilvusStoreConfig.model_validate({"index": {"type": type_}}).index
        found: dict[str, Any] = search_params(index, limit, SearchParams(**params))["params"]
        return found

    assert asked("HNSW", 500) == {"ef": 500}
    assert asked("HNSW", 10, ef_search=64) == {"ef": 64}
    assert asked("DISKANN", 500) == {"search_list": 500}
    assert asked("GPU_CAGRA", 129)["itopk_size"] == 160
    with pytest.raises(CapabilityError, match="IVF_FLAT"):
        asked("IVF_FLAT", 10, ef_search=64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"index": {"type": "IVF_FLAT", "nlist": 8, "nprobe": 9}}, "nprobe"),
        ({"index": {"type": "GPU_CAGRA", "graph_degree": 200}}, "graph_degree"),
        ({"index": {"type": "HNSW", "nprobe": 1}}, "nprobe"),
        ({"index": {"type": "LSH"}}, "LSH"),
        ({"uri": "http://root:secret@host:19530"}, "token"),
        ({"uri": "milvus.example:19530"}, "http"),
        ({"uri": "http://host:19530/db"}, "database"),
        ({"uri": "store.db", "token": "t"}, "token"),
        ({"uri": "store.db", "index": {"type": "DISKANN"}}, "DISKANN"),
    ],
)
def test_settings_that_contradict_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MilvusStoreConfig.model_validate(settings)


@given(st.from_regex("[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True))
def test_names_are_mapped_reversibly(name: str) -> None:
    stored = stored_name("p" * 40, name)
    assert is_name(name)
    assert own_name("p" * 40, stored) == name
    assert own_name("p", stored) is None
    assert len(stored) <= 255
    assert stored.replace("_", "").isalnum()


@given(filters())
def test_expressions_hold_no_value_of_a_user(filter: Filter) -> None:
    expression = compile_filter(bind_filter(filter, FIELDS), field_keys(FIELDS, None))
    assert expression.isascii()
    assert "\\" not in expression
    assert "\0" not in expression


@pytest.mark.parametrize("type_", ["integer", "float", "datetime"])
def test_codes_are_ordered_as_values_are(type_: Any) -> None:
    from ragstack.filters import typed_value

    values = sorted({typed_value(type_, value) for value in VALUES[type_]})
    codes = [code(type_, value) for value in values]
    assert codes == sorted(set(codes))


def test_rows_hold_records_exactly() -> None:
    layout = Layout(DIM, field_keys(FIELDS, None), True, False)
    payload = {"text": "a€🜚" * 40_000, "keyword": ["\ud800", "b"], "integer": [3, -1]}
    record = make_record(1, payload, sparse={0: 0.1, 2**32 - 1: -2.0})
    row, size = to_row(record, layout)
    assert size > len(payload["text"])
    assert all(len(part.encode()) <= 65_535 for part in row["payload"])
    assert payload_of(row) == payload
    assert to_record(row).sparse.values.tolist() == record.sparse.values.tolist()
    assert to_record(row).sparse.indices.tolist() == record.sparse.indices.tolist()
    assert np.linalg.norm(row["dense"]) == pytest.approx(1.0, abs=1e-6)


def test_what_milvus_cannot_hold_is_refused_before_anything_is_written() -> None:
    layout = Layout(DIM, field_keys(FIELDS, None), True, False)
    with pytest.raises(CapabilityError, match="bytes"):
        to_row(make_record(1, {"text": "x" * 2**23}), layout)
    with pytest.raises(CapabilityError, match="4096"):
        to_row(make_record(1, {"integer": list(range(5000))}), layout)


def test_batches_keep_to_both_limits() -> None:
    rows = [({"id": number}, 40) for number in range(10)]
    assert [len(group) for group in batches(rows, 3, 1000)] == [3, 3, 3, 1]
    assert [len(group) for group in batches(rows, 100, 100)] == [2, 2, 2, 2, 2]


def test_versions() -> None:
    assert version_tuple("v2.3.5-lite") == (2, 3)
    assert version_tuple("Zilliz Cloud Vector Database(Compatible with Milvus 2.5)") == (2, 5)
    assert version_tuple("master-abc") == (0, 0)


def _driver_exceptions() -> list[type[Exception]]:
    return [kind for kind in vars(driver).values() if isinstance(kind, type) and issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", _driver_exceptions())
def test_every_exception_of_the_driver_is_translated(kind: type[Exception]) -> None:
    with pytest.raises(StoreError) as raised, driver_errors("search", "main", PLACE):
        raise kind(1, "bad root:secret")  # type: ignore[call-arg]
    assert PLACE.address in raised.value.message
    assert "secret" not in str(raised.value)
    assert raised.value.hint


class _RpcError(grpc.RpcError):  # type: ignore[misc]
    def __init__(self, status: grpc.StatusCode) -> None:
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status

    def details(self) -> str:
        return "details"


@pytest.mark.parametrize("status", list(grpc.StatusCode))
def test_every_status_of_grpc_is_translated(status: grpc.StatusCode) -> None:
    for error in (_RpcError(status), driver.MilvusException(status, "details")):
        ours = translated(error, "search", "main", PLACE)
        down = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNIMPLEMENTED"}
        unusable = down | {"UNAUTHENTICATED", "PERMISSION_DENIED"}
        assert isinstance(ours, StoreUnavailableError) == (status.name in unusable)


def test_a_missing_collection_and_other_errors() -> None:
    assert isinstance(translated(driver.MilvusException(100, "x"), "search", "main", PLACE), CollectionError)
    assert isinstance(translated(ValueError("x"), "search", "main", PLACE), StoreError)
    with pytest.raises(InputError), driver_errors("search", "main", PLACE):
        raise InputError("ours passes")


def test_a_refusal_after_the_first_group_is_reported_by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragstack.adapters.milvus._ROWS_PER_WRITE", 2)
    with MilvusStore(MilvusStoreConfig(uri=str(tmp_path / "store.db"))) as store:
        store.ensure_collection(SPEC)
        real = store._connection.call

        def refusing(action: str, collection: str, request: Any, stored: str = "") -> Any:
            if action == "write to" and store.count("main") == 2:
                with driver_errors(action, collection, PLACE):
                    raise driver.MilvusException(9, "disk quota exhausted")
            return real(action, collection, request, stored)

        monkeypatch.setattr(store._connection, "call", refusing)
        with pytest.raises(PartialWriteError, match="2 of 5") as raised:
            store.upsert("main", [make_record(number) for number in range(5)])
        assert raised.value.failed.keys() == {make_record(number).id for number in (2, 3, 4)}
        assert "disk quota" in next(iter(raised.value.failed.values()))
