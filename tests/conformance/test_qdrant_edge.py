"""The embedded store keeps the contract, also where it searches its graph and its immutable segments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ragstack.adapters.base import VectorStore
from ragstack.adapters.qdrant_edge import QdrantEdgeStore
from ragstack.testing.store_cases import SPEC, numbered
from ragstack.testing.store_conformance import VectorStoreConformance
from ragstack.testing.store_conformance_search import SearchConformance


class TestQdrantEdge(VectorStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[QdrantEdgeStore]:
        with QdrantEdgeStore(tmp_path / "store") as store:
            yield store

    def reopen(self, store: VectorStore) -> VectorStore:
        assert isinstance(store, QdrantEdgeStore)
        store.close()
        return QdrantEdgeStore(store.path)


class TestQdrantEdgeWithGraph(SearchConformance):
    """Every collection gets a graph from ``optimize``, as large ones do."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[QdrantEdgeStore]:
        with QdrantEdgeStore(tmp_path / "store", hnsw_min_points=1) as store:
            yield store

    @pytest.fixture
    def filled(self, store: QdrantEdgeStore) -> QdrantEdgeStore:
        store.ensure_collection(SPEC)
        store.upsert("main", [numbered(number) for number in range(40)])
        store.optimize("main")
        return store
