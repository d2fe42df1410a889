"""Milvus keeps the contract: Milvus Lite, and a standalone server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from ragstack.adapters.base import Hit, VectorStore
from ragstack.adapters.milvus import MilvusStore
from ragstack.adapters.milvus_sparse import dot
from ragstack.config.stores.milvus import MilvusStoreConfig
from ragstack.errors import CapabilityError
from ragstack.filters import Filter
from ragstack.testing.store_conformance import VectorStoreConformance
from ragstack.types import SparseVector
from tests.servers.milvus import TOKEN, MilvusServer, running_server


class TestMilvusLite(VectorStoreConformance):
    filter_examples = 40
    payload_examples = 8

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


class TestMilvusServer(VectorStoreConformance):
    filter_examples = 25
    payload_examples = 4

    @pytest.fixture
    def block(self, milvus_server: MilvusServer) -> MilvusStoreConfig:
        return MilvusStoreConfig(uri=milvus_server.uri, token=SecretStr(TOKEN), prefix=f"t{uuid.uuid4().hex[:12]}")

    @pytest.fixture
    def store(self, block: MilvusStoreConfig) -> Iterator[MilvusStore]:
        with emptied(block, WithSparseReference) as store:
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
        scores = {id_: dot(vector, record.sparse) for id_, record in records.items()}
        ranked = sorted((-score, id_) for id_, score in scores.items() if score > 0)[:top_k]
        return [Hit(id_, -score, payloads[id_]) for score, id_ in ranked]


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
