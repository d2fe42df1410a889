"""Milvus keeps the contract: Milvus Lite, and a standalone server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ragstack.adapters.base import VectorStore
from ragstack.adapters.milvus import MilvusStore
from ragstack.config.stores.milvus import MilvusStoreConfig
from ragstack.testing.store_conformance import VectorStoreConformance


class TestMilvusLite(VectorStoreConformance):
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
