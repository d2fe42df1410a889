"""The store on a Qdrant server keeps the contract: in the client's local mode, and on a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ragstack.adapters.base import VectorStore
from ragstack.adapters.qdrant import QdrantStore
from ragstack.config.stores.qdrant import QdrantStoreConfig
from ragstack.testing.store_cases import make_record
from ragstack.testing.store_conformance import VectorStoreConformance
from ragstack.testing.store_conformance_search import EXACT


class TestQdrantLocalMode(VectorStoreConformance):
    @pytest.fixture
    def store(self) -> Iterator[QdrantStore]:
        with QdrantStore(QdrantStoreConfig(uri=":memory:")) as store:
            yield store

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
