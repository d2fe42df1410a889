"""The part of the conformance suite about dense and sparse search and filters; see ``store_conformance``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from ragstack.adapters.base import CollectionSpec, Record, SearchParams, VectorStore
from ragstack.errors import CapabilityError, CollectionError, FilterError, InputError
from ragstack.filters import And, Condition, Filter, Not
from ragstack.testing import store_cases as cases
from ragstack.testing.filter_oracle import matches
from ragstack.testing.store_cases import DIM, FIELDS, SPEC, make_record, make_sparse, record_id

EXACT = SearchParams(exact=True)
_unhurried = settings(deadline=None, suppress_health_check=list(HealthCheck))

MISTYPED: list[tuple[str, str, Any]] = [
    ("undeclared", "eq", 1), ("undeclared", "exists", True), ("keyword", "eq", 1), ("keyword", "gt", "a"),
    ("integer", "eq", "1"), ("integer", "eq", True), ("integer", "eq", 1.5), ("integer", "in", (1, "2")),
    ("float", "eq", "1.0"), ("float", "lt", True), ("float", "eq", 2**53 + 1), ("float", "gt", 10**400),
    ("bool", "eq", 1), ("bool", "eq", "true"), ("bool", "gte", 0), ("datetime", "gt", 2024),
    ("datetime", "eq", "31.5.2024"), ("datetime", "lt", "2024-05-31T10:00:00"),
    ("datetime", "eq", "2024-13-01"),
]  # fmt: skip
"""Conditions on :data:`FIELDS` that every store refuses: field, operator, value."""


class SearchConformance:
    """Tests of searching and filtering, over the fixtures of ``VectorStoreConformance``.

    Every ``condition_step``-th condition of one operator and ``filter_examples`` nested filters are tried on one
    population of payloads, and ``payload_examples`` on ones of their own, each in a new collection. Override them
    with less for a store that answers slowly.
    """

    condition_step: ClassVar[int] = 1
    filter_examples: ClassVar[int] = 150
    payload_examples: ClassVar[int] = 15

    # Dense search

    def test_dense_scores_are_cosines_best_first(self, filled: VectorStore) -> None:
        vectors = np.stack([make_record(i).dense for i in range(40)]).astype(np.float64)
        query = np.arange(1, DIM + 1, dtype=np.float32)
        cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
        hits = filled.search_dense("main", query, 40, params=EXACT)
        assert [hit.id for hit in hits] == [record_id(int(i)) for i in np.argsort(-cosines)]
        assert [hit.score for hit in hits] == pytest.approx(sorted(cosines, reverse=True), abs=2e-6)
        assert all(-1 <= hit.score <= 1 for hit in filled.search_dense("main", make_record(3).dense, 40))
        scaled = filled.search_dense("main", query * np.float32(1000), 40, params=EXACT)
        assert [hit.score for hit in scaled] == pytest.approx([hit.score for hit in hits], abs=2e-6)

    def test_top_k(self, filled: VectorStore) -> None:
        query = make_record(50).dense
        terms = make_sparse(dict.fromkeys(range(7), 1.0))
        dense = [hit.id for hit in filled.search_dense("main", query, 40, params=EXACT)]
        sparse = [hit.id for hit in filled.search_sparse("main", terms, 40)]
        assert len(dense) == len(sparse) == 40
        for top_k in (0, 1, 5, 39, 40, 41, 400):
            assert [hit.id for hit in filled.search_dense("main", query, top_k, params=EXACT)] == dense[:top_k]
            assert [hit.id for hit in filled.search_sparse("main", terms, top_k)] == sparse[:top_k]

    def test_top_k_out_of_bounds(self, filled: VectorStore) -> None:
        limit = filled.capabilities.max_top_k
        searches: list[Callable[[int], Any]] = [
            lambda k: filled.search_dense("main", make_record(1).dense, k),
            lambda k: filled.search_sparse("main", make_sparse({1: 1.0}), k),
        ]
        for search in searches:
            assert len(search(limit)) <= 40
            with pytest.raises(CapabilityError, match=str(limit)):
                search(limit + 1)
            with pytest.raises(InputError):
                search(-1)

    def test_ties_are_ordered_and_cut_by_id_whatever_the_order_of_insertion(self, store: VectorStore) -> None:
        same = [make_record(i, dense=[1.0, 2.0] + [0.0] * (DIM - 2), sparse={3: 1.5}) for i in range(300)]
        best = make_record(1000, dense=[1.0] + [0.0] * (DIM - 1), sparse={3: 2.0})
        expected = [best.id, *sorted(record.id for record in same)]
        for name, order in (("one", 1), ("two", -1)):
            store.ensure_collection(CollectionSpec(name, DIM))
            for start in range(0, 300, 60):
                store.upsert(name, same[::order][start : start + 60])
            store.upsert(name, [best])
            for top_k in (1, 2, 10, 200, 301):
                dense = store.search_dense(name, best.dense, top_k, params=EXACT)
                assert [hit.id for hit in dense] == expected[:top_k]
                sparse = store.search_sparse(name, make_sparse({3: 1.0, 4: 1.0}), top_k)
                assert [hit.id for hit in sparse] == expected[:top_k]

    def test_results_do_not_depend_on_the_order_of_insertion(self, store: VectorStore) -> None:
        rng = np.random.default_rng(5)
        vectors = cases.clustered(rng, 200, DIM, 10)
        records = [
            Record(record_id(i), vectors[i], cases.random_sparse(rng, 20, 60), {"n": i}) for i in range(len(vectors))
        ]
        shuffled = [records[i] for i in rng.permutation(len(records))]
        answers = []
        for name, order in (("one", records), ("two", shuffled)):
            store.ensure_collection(CollectionSpec(name, DIM))
            for start in range(0, len(order), 50):
                store.upsert(name, order[start : start + 50])
            query = cases.random_sparse(np.random.default_rng(6), 15, 60)
            dense = [store.search_dense(name, vectors[i], 20, params=EXACT) for i in range(20)]
            answers.append((dense, store.search_sparse(name, query, 50)))
        assert answers[0] == answers[1]

    def test_recall_of_the_default_search(self, store: VectorStore) -> None:
        rng = np.random.default_rng(3)
        vectors = cases.clustered(rng, 1500, 32, 40)
        store.ensure_collection(CollectionSpec("main", 32))
        store.upsert("main", [make_record(i, dense=vectors[i]) for i in range(len(vectors))])
        store.optimize("main")
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        found = []
        for number, query in enumerate(cases.clustered(rng, 30, 32, 40)):
            nearest = {record_id(int(i)) for i in np.argsort(-(unit @ query))[:10]}
            found.append(len(nearest & {hit.id for hit in store.search_dense("main", query, 10)}) / 10)
            if number < 3:
                assert {hit.id for hit in store.search_dense("main", query, 10, params=EXACT)} == nearest
        assert np.mean(found) >= 0.95

    def test_queries_that_mean_nothing_are_refused(self, filled: VectorStore) -> None:
        for bad in (np.zeros(DIM), np.full(DIM, np.nan), np.full(DIM, np.inf)):
            with pytest.raises(InputError):
                filled.search_dense("main", bad.astype(np.float32), 3)
        for shape in (np.ones(DIM + 1), np.ones((1, DIM)), np.ones(0)):
            with pytest.raises(CollectionError):
                filled.search_dense("main", shape.astype(np.float32), 3)
        with pytest.raises(InputError):
            filled.search_sparse("main", make_sparse({1: float("nan")}), 3)

    # Sparse search

    def test_sparse_scores_are_positive_dot_products(self, store: VectorStore) -> None:
        rng = np.random.default_rng(11)
        store.ensure_collection(SPEC)
        vectors = {record_id(i): cases.random_sparse(rng, 12, 50) for i in range(120)}
        store.upsert("main", [Record(id_, make_record(1).dense, vector, {}) for id_, vector in vectors.items()])
        for weights in ({1: 1.0}, {i: 0.1 * i for i in range(1, 30)}, {i: (-1.0) ** i for i in range(50)}, {99: 1.0}):
            expected = {}
            for id_, vector in vectors.items():
                terms = zip(vector.indices.tolist(), vector.values.tolist(), strict=True)
                expected[id_] = sum(value * weights.get(index, 0.0) for index, value in terms)
            hits = store.search_sparse("main", make_sparse(weights), 200)
            assert {hit.id for hit in hits} == {id_ for id_, score in expected.items() if score > 0}
            assert [hit.score for hit in hits] == pytest.approx([expected[hit.id] for hit in hits], rel=1e-5)
            for hit in hits:
                if hit.sparse is not None:
                    assert hit.sparse.indices.tolist() == vectors[hit.id].indices.tolist()
                    assert hit.sparse.values.tolist() == vectors[hit.id].values.tolist()
            assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.id))

    def test_empty_sparse_vectors_find_nothing_and_are_not_found(self, filled: VectorStore) -> None:
        filled.upsert("main", [make_record(200)])
        assert filled.search_sparse("main", make_sparse({}), 10) == []
        everything = filled.search_sparse("main", make_sparse(dict.fromkeys(range(10), 1.0)), 100)
        assert len(everything) == 40
        assert len(filled.fetch("main", [record_id(200)])[record_id(200)].sparse) == 0

    # Filters

    def test_filters_mean_what_the_grammar_says(self, store: VectorStore) -> None:
        population = _population(store)
        for condition in list(cases.every_condition())[:: self.condition_step]:
            expected = sorted(_matching(condition, population))
            assert [hit.id for hit in store.iterate("main", condition)] == expected, condition

        @settings(_unhurried, max_examples=self.filter_examples)
        @given(cases.filters())
        def check(filter: Filter) -> None:
            expected = sorted(_matching(filter, population))
            assert [hit.id for hit in store.iterate("main", filter)] == expected
            assert store.count("main", filter) == len(expected)
            assert store.count("main", Not(filter)) == len(population) - len(expected)

        check()

    def test_searches_keep_to_their_filter(self, store: VectorStore) -> None:
        population = _population(store)
        for wanted in (
            Condition("keyword", "ne", "a"),
            Condition("integer", "lt", 7),
            Condition("float", "in", (0, 1)),
            Not(And((Condition("keyword", "exists", True), Condition("bool", "exists", True)))),
        ):
            found = _matching(wanted, population)
            dense = store.search_dense("main", make_record(1).dense, 1000, filter=wanted, params=EXACT)
            assert {hit.id for hit in dense} == found
            assert {hit.id for hit in store.search_sparse("main", make_sparse({1: 1.0}), 1000, filter=wanted)} == found

    def test_filters_over_any_payloads(self, store: VectorStore) -> None:
        @settings(_unhurried, max_examples=self.payload_examples)
        @given(cases.payload_lists(), cases.filters())
        def check(stored: list[dict[str, Any]], filter: Filter) -> None:
            store.drop("main")
            store.ensure_collection(SPEC)
            store.upsert("main", [make_record(i, payload) for i, payload in enumerate(stored)])
            expected = _matching(filter, stored)
            assert {hit.id for hit in store.iterate("main", filter)} == expected
            store.delete("main", filter=filter)
            assert store.count("main") == len(stored) - len(expected)

        check()

    def test_filters_of_another_type_are_refused(self, filled: VectorStore) -> None:
        for field, op, value in MISTYPED:
            self._check_refused(filled, field, op, value)
        assert filled.count("main") == 40

    def _check_refused(self, filled: VectorStore, field: str, op: Any, value: Any) -> None:
        wanted = Not(Condition(field, op, value))
        calls: list[Callable[[], Any]] = [
            lambda: filled.count("main", wanted),
            lambda: filled.iterate("main", wanted),
            lambda: filled.search_dense("main", make_record(1).dense, 3, filter=wanted),
            lambda: filled.search_sparse("main", make_sparse({1: 1.0}), 3, filter=wanted),
            lambda: filled.delete("main", filter=wanted),
        ]
        for call in calls:
            with pytest.raises(FilterError, match=field):
                call()


def _population(store: VectorStore) -> list[dict[str, Any]]:
    """Payloads of a new collection ``main``, record ``i`` with the one at ``i``.

    One half is written before ``optimize`` and the other after it, since a store may find them in different ways.
    """
    population = cases.payload_population()
    records = [make_record(i, payload, sparse={1: 1.0}) for i, payload in enumerate(population)]
    store.ensure_collection(SPEC)
    store.upsert("main", records[::2])
    store.optimize("main")
    store.upsert("main", records[1::2])
    return population


def _matching(filter: Filter, payloads: Sequence[dict[str, Any]]) -> set[str]:
    """The ids of the records that must match, by the oracle."""
    return {record_id(i) for i, payload in enumerate(payloads) if matches(filter, payload, FIELDS)}
