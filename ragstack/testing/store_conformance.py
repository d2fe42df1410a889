"""The conformance suite of vector stores: one test for each clause of ``ragstack.adapters.base``.

Subclass :class:`VectorStoreConformance` in a test module, override the fixture ``store``, and, for a
store that persists, the method ``reopen``; ``docs/stores.md`` shows it whole. Needs pytest and
hypothesis (``pip install 'ragstack[testing]'``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from ragstack.adapters.base import CollectionSpec, Record, VectorStore
from ragstack.errors import CollectionError, FilterError, InputError, StoreUnavailableError
from ragstack.filters import Condition, parse_filter
from ragstack.testing.store_cases import DIM, FIELDS, SPEC, make_record, make_sparse, numbered, record_id
from ragstack.testing.store_conformance_iteration import IterationConformance
from ragstack.testing.store_conformance_search import EXACT, SearchConformance

CALLS: dict[str, Callable[[VectorStore, str], Any]] = {
    "upsert": lambda store, name: store.upsert(name, [make_record(1)]),
    "delete": lambda store, name: store.delete(name, ids=[record_id(1)]),
    "search_dense": lambda store, name: store.search_dense(name, make_record(1).dense, 3),
    "search_sparse": lambda store, name: store.search_sparse(name, make_sparse({1: 1.0}), 3),
    "fetch": lambda store, name: store.fetch(name, [record_id(1)]),
    "count": lambda store, name: store.count(name),
    "iterate": lambda store, name: list(store.iterate(name)),
    "flush": lambda store, name: store.flush(name),
    "optimize": lambda store, name: store.optimize(name),
}
"""Every method that reads or writes one collection."""

INVALID: list[tuple[Record, type[Exception]]] = [
    (make_record(1, dim=DIM + 1), CollectionError),
    (make_record(1, dense=[float("nan")] * DIM), InputError),
    (make_record(1, dense=[float("inf")] + [0.0] * (DIM - 1)), InputError),
    (Record("not-a-uuid", np.ones(DIM, dtype=np.float32), make_sparse({}), {}), InputError),
    (Record(record_id(1).upper(), np.ones(DIM, dtype=np.float32), make_sparse({}), {}), InputError),
    (make_record(1, sparse={1: float("nan")}), InputError),
    (make_record(1, {"x": float("nan")}), InputError),
    (make_record(1, {"x": object()}), InputError),
    (make_record(1, {"integer": "1"}), InputError),
    (make_record(1, {"integer": 2**63}), InputError),
    (make_record(1, {"keyword": ["a", None]}), InputError),
    (make_record(1, {"bool": 1}), InputError),
    (make_record(1, {"datetime": "yesterday"}), InputError),
]
"""Records for ``SPEC`` that every store refuses, with the error."""


class VectorStoreConformance(SearchConformance, IterationConformance):
    """Tests of the contract; see the module."""

    @pytest.fixture
    def store(self) -> Iterator[VectorStore]:
        """An open store without collections. Override; close the store after the ``yield``."""
        raise NotImplementedError("override the fixture `store`")

    def reopen(self, store: VectorStore) -> VectorStore:
        """Close ``store`` and open what it stored again. Override for a store that persists."""
        raise NotImplementedError("override `reopen`, or declare capabilities.persistent = False")

    @pytest.fixture
    def filled(self, store: VectorStore) -> VectorStore:
        """The store with the collection ``main`` of 40 records; record ``i`` is ``numbered(i)``."""
        store.ensure_collection(SPEC)
        store.upsert("main", [numbered(number) for number in range(40)])
        return store

    # Collections

    def test_a_collection_is_created_once_and_listed(self, store: VectorStore) -> None:
        assert store.collections() == []
        for name in ("b", "a", "A-1_x.y", "b"):
            store.ensure_collection(CollectionSpec(name, DIM))
        assert store.collections() == ["A-1_x.y", "a", "b"]
        assert store.count("a") == 0
        assert store.search_dense("a", make_record(1).dense, 5) == []
        assert store.search_sparse("a", make_sparse({1: 1.0}), 5) == []
        assert list(store.iterate("a")) == []
        assert store.fetch("a", [record_id(1)]) == {}

    def test_ensuring_again_keeps_the_records(self, filled: VectorStore) -> None:
        filled.ensure_collection(SPEC)
        filled.ensure_collection(CollectionSpec("main", DIM))
        assert filled.count("main", Condition("integer", "gte", 0)) == 40

    @pytest.mark.parametrize(
        "other",
        [CollectionSpec("main", DIM + 1, FIELDS), CollectionSpec("main", DIM, {"integer": "float"})],
        ids=["dimension", "field type"],
    )
    def test_a_mismatch_is_refused_and_changes_nothing(self, filled: VectorStore, other: CollectionSpec) -> None:
        with pytest.raises(CollectionError):
            filled.ensure_collection(other)
        assert filled.count("main", Condition("integer", "lt", 7)) == 7

    def test_a_new_field_holds_for_the_records_already_there(self, store: VectorStore) -> None:
        store.ensure_collection(CollectionSpec("main", DIM, {"integer": "integer"}))
        store.upsert("main", [make_record(i, {"integer": i, "tag": [f"t{i % 2}"]} if i else {}) for i in range(6)])
        with pytest.raises(FilterError, match="integer"):
            store.count("main", Condition("tag", "eq", "t1"))
        store.ensure_collection(CollectionSpec("main", DIM, {"tag": "keyword"}))
        assert store.count("main", Condition("tag", "contains", "t1")) == 3
        assert store.count("main", Condition("tag", "exists", False)) == 1
        assert store.count("main", Condition("integer", "gt", 2)) == 3

    def test_a_new_field_that_does_not_fit_is_refused(self, store: VectorStore) -> None:
        store.ensure_collection(CollectionSpec("main", DIM))
        store.upsert("main", [make_record(1, {"year": "MMXX"})])
        with pytest.raises(CollectionError, match="year"):
            store.ensure_collection(CollectionSpec("main", DIM, {"year": "integer"}))
        with pytest.raises(FilterError):
            store.count("main", Condition("year", "eq", 2020))

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_a_missing_collection_is_named(self, store: VectorStore, call: Callable[[VectorStore, str], Any]) -> None:
        with pytest.raises(CollectionError, match="nowhere"):
            call(store, "nowhere")
        assert store.collections() == []

    @pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "é", "-a", "a" * 101, "a\0", "a\n"])
    def test_a_bad_name_is_refused(self, store: VectorStore, name: str) -> None:
        with pytest.raises(InputError):
            store.ensure_collection(CollectionSpec(name, DIM))
        with pytest.raises(InputError):
            store.drop(name)

    def test_drop_deletes_everything_and_needs_no_collection(self, filled: VectorStore) -> None:
        filled.drop("main")
        filled.drop("main")
        assert filled.collections() == []
        with pytest.raises(CollectionError):
            filled.count("main")
        filled.ensure_collection(CollectionSpec("main", DIM + 3))
        assert filled.count("main") == 0

    def test_two_collections_are_apart(self, filled: VectorStore) -> None:
        filled.ensure_collection(CollectionSpec("other", 3, {"integer": "keyword"}))
        filled.upsert("other", [make_record(1, {"integer": "one"}, dim=3)])
        assert filled.count("other", Condition("integer", "eq", "one")) == 1
        assert len(filled.search_dense("other", make_record(1, dim=3).dense, 10)) == 1
        filled.drop("other")
        assert filled.count("main", Condition("integer", "eq", 1)) == 1

    # Records

    def test_records_come_back_whole(self, filled: VectorStore) -> None:
        records = [make_record(100 + i, {"n": i}, sparse={i: 0.5, 2**32 - 1 - i: 2.0}) for i in range(5)]
        records.append(make_record(9))
        filled.upsert("main", records)
        found = filled.fetch("main", [*(record.id for record in records), record_id(77)])
        assert found.keys() == {record.id for record in records}
        for record in records:
            _assert_same(found[record.id], record)
        assert filled.fetch("main", []) == {}

    @pytest.mark.parametrize(
        "payload",
        [
            {},
            {"text": "日本語 e\u0301 🜚 \u202eabc \0 \r\n \u2028", "": 1, "a.b": {"c": [1, {"d": None}]}, "ключ": "да"},
            {"text": "x€" * 16_384},
            {"big": 2**70, "small": -(2**63), "float": 0.1, "whole": 2.0, "yes": True, "none": None, "list": []},
            {"surrogate": "\ud800", "payload": "p", "lists": [], "dense": 1, "id": "z"},
        ],
        ids=["empty", "unicode", "64 KB", "numbers", "odd keys"],
    )
    def test_payloads_come_back_equal(self, filled: VectorStore, payload: dict[str, Any]) -> None:
        record = make_record(1, payload, sparse={1000: 1.0})
        filled.upsert("main", [record])
        seen = [
            filled.fetch("main", [record.id])[record.id].payload,
            filled.search_dense("main", record.dense, 1)[0].payload,
            filled.search_sparse("main", make_sparse({1000: 1.0}), 1)[0].payload,
            next(hit.payload for hit in filled.iterate("main") if hit.id == record.id),
        ]
        for found in seen:
            assert found == payload
            assert {key: type(value) for key, value in found.items()} == {k: type(v) for k, v in payload.items()}

    def test_upsert_replaces_whole_and_is_idempotent(self, filled: VectorStore) -> None:
        new = make_record(3, {"keyword": "new"}, dense=[1.0] * DIM, sparse={1000: 1.0})
        for _ in range(2):
            filled.upsert("main", [new])
            assert filled.count("main") == 40
            _assert_same(filled.fetch("main", [new.id])[new.id], new)
        assert filled.count("main", Condition("integer", "eq", 3)) == 0
        assert new.id not in {hit.id for hit in filled.search_sparse("main", make_sparse({3: 1.0}), 40)}
        assert [hit.id for hit in filled.search_sparse("main", make_sparse({1000: 1.0}), 5)] == [new.id]
        assert filled.search_dense("main", new.dense, 1, params=EXACT)[0].id == new.id

    def test_of_one_id_twice_in_a_call_the_last_wins(self, filled: VectorStore) -> None:
        new = record_id(100)
        filled.upsert("main", [make_record(100, {"n": 1}), make_record(2), make_record(100, {"n": 2}, sparse={5: 1.0})])
        assert filled.count("main") == 41
        assert filled.fetch("main", [new])[new].payload == {"n": 2}

    def test_a_call_with_an_invalid_record_writes_nothing(self, filled: VectorStore) -> None:
        for bad, error in INVALID:
            with pytest.raises(error):
                filled.upsert("main", [make_record(100), bad, make_record(101)])
            assert filled.count("main") == 40, bad
        assert filled.fetch("main", [record_id(100), record_id(101)]) == {}

    def test_delete_by_ids(self, filled: VectorStore) -> None:
        filled.delete("main", ids=[])
        filled.delete("main", ids=[record_id(999)])
        assert filled.count("main") == 40
        filled.delete("main", ids=[record_id(4), record_id(999), record_id(5), record_id(4)])
        assert filled.count("main") == 38
        assert filled.fetch("main", [record_id(4)]) == {}
        assert filled.count("main", Condition("integer", "in", (4, 5))) == 0

    def test_delete_by_filter(self, filled: VectorStore) -> None:
        filled.delete("main", filter=Condition("integer", "lt", 0))
        assert filled.count("main") == 40
        filled.delete("main", filter=Condition("integer", "gte", 10))
        assert {hit.payload["integer"] for hit in filled.iterate("main")} == set(range(10))
        filled.delete("main", filter=parse_filter({"and": []}))
        assert filled.count("main") == 0

    def test_delete_takes_exactly_one_of_ids_and_filter(self, filled: VectorStore) -> None:
        with pytest.raises(InputError):
            filled.delete("main")
        with pytest.raises(InputError):
            filled.delete("main", ids=[], filter=Condition("integer", "eq", 1))
        with pytest.raises(FilterError):
            filled.delete("main", filter=Condition("undeclared", "eq", 1))
        assert filled.count("main") == 40

    def test_malformed_ids_are_refused(self, filled: VectorStore) -> None:
        for call in (filled.fetch, lambda name, ids: filled.delete(name, ids=ids)):
            with pytest.raises(InputError):
                call("main", ["nonsense"])

    # Reading everything

    def test_iterate_gives_each_record_once_in_id_order(self, filled: VectorStore) -> None:
        for batch_size in (1, 7, 40, 41, 1000):
            hits = list(filled.iterate("main", batch_size=batch_size))
            assert [hit.id for hit in hits] == sorted(record_id(i) for i in range(40))
            assert all(hit.score == 0 and record_id(hit.payload["integer"]) == hit.id for hit in hits)
            some = list(filled.iterate("main", Condition("integer", "gte", 30), batch_size=batch_size))
            assert [hit.id for hit in some] == sorted(record_id(i) for i in range(30, 40))
        with pytest.raises(InputError):
            filled.iterate("main", batch_size=0)

    def test_iterate_while_writing(self, filled: VectorStore) -> None:
        seen = []
        for number, hit in enumerate(filled.iterate("main", batch_size=5)):
            seen.append(hit.id)
            filled.upsert("main", [make_record(1000 + number), make_record(number % 40, {"integer": number % 40})])
            filled.delete("main", ids=[record_id(1000 + number - 3)])
            assert number < 500, "the iteration follows its own writes"
        assert len(seen) == len(set(seen))
        assert seen == sorted(seen)
        assert {record_id(i) for i in range(40)} <= set(seen)

    def test_reads_see_the_writes_before_them(self, filled: VectorStore) -> None:
        for number in range(100, 120):
            record = make_record(number, {"integer": number}, sparse={number: 1.0})
            filled.upsert("main", [record])
            assert filled.count("main", Condition("integer", "eq", number)) == 1
            assert [hit.id for hit in filled.search_sparse("main", make_sparse({number: 1.0}), 1)] == [record.id]
            assert filled.search_dense("main", record.dense, 1)[0].id == record.id
            filled.delete("main", ids=[record.id])
            assert filled.search_sparse("main", make_sparse({number: 1.0}), 1) == []

    def test_optimize_and_flush_change_no_answer(self, filled: VectorStore) -> None:
        query = make_record(60).dense
        before = filled.search_dense("main", query, 20, params=EXACT)
        for step in (filled.flush, filled.optimize, filled.optimize):
            step("main")
            assert filled.search_dense("main", query, 20, params=EXACT) == before
            assert filled.count("main") == 40

    def test_several_threads_at_once(self, filled: VectorStore) -> None:
        failures: list[BaseException] = []

        def run(worker: int) -> None:
            try:
                for round_ in range(8):
                    number = 1000 * (worker + 1) + round_
                    filled.upsert("main", [make_record(number, {"integer": number})])
                    assert filled.count("main", Condition("integer", "eq", number)) == 1
                    assert len(filled.search_dense("main", make_record(number).dense, 10)) == 10
                    filled.search_sparse("main", make_sparse({1: 1.0}), 10)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert filled.count("main") == 40 + 4 * 8

    # The end

    def test_close_is_idempotent_and_final(self, filled: VectorStore) -> None:
        running = filled.iterate("main", batch_size=1)
        next(running)
        filled.close()
        filled.close()
        for call in CALLS.values():
            with pytest.raises(StoreUnavailableError):
                call(filled, "main")
        for whole in (filled.collections, lambda: filled.drop("main"), lambda: filled.ensure_collection(SPEC)):
            with pytest.raises(StoreUnavailableError):
                whole()

    def test_what_was_flushed_is_there_after_reopening(self, filled: VectorStore) -> None:
        filled.delete("main", ids=[record_id(0)])
        filled.flush("main")
        if not filled.capabilities.persistent:
            return  # it promises no more than that flush is accepted
        before = (list(filled.iterate("main")), filled.search_dense("main", make_record(5).dense, 20, params=EXACT))
        again = self.reopen(filled)
        try:
            assert again.collections() == ["main"]
            after = (list(again.iterate("main")), again.search_dense("main", make_record(5).dense, 20, params=EXACT))
            assert after == before
            assert again.count("main", Condition("integer", "lt", 10)) == 9
            again.ensure_collection(SPEC)
            again.upsert("main", [make_record(0, {"integer": 0})])
            assert again.count("main") == 40
        finally:
            again.close()


def _assert_same(found: Record, record: Record) -> None:
    assert found.payload == record.payload
    assert found.dense.dtype == np.float32
    np.testing.assert_allclose(found.dense, record.dense / np.linalg.norm(record.dense), atol=1e-6)
    assert found.sparse.indices.tolist() == record.sparse.indices.tolist()
    assert found.sparse.values.tolist() == record.sparse.values.tolist()
