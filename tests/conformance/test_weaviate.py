"""A real Weaviate server keeps the contract: with its graph, with a flat index, and with tenants."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from ragstack.adapters.base import CollectionSpec, VectorStore
from ragstack.adapters.weaviate import WeaviateStore
from ragstack.config.stores.weaviate import WeaviateFlat, WeaviateStoreConfig
from ragstack.testing.store_cases import SPEC, numbered
from ragstack.testing.store_conformance import VectorStoreConformance
from ragstack.testing.store_conformance_search import SearchConformance
from tests.servers.weaviate import WeaviateServer, weaviate_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeaviateServer]:
    """One server for all tests of the session."""
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


class TestWeaviate(VectorStoreConformance):
    @pytest.fixture
    def block(self, server: WeaviateServer) -> WeaviateStoreConfig:
        return block_for(server)

    @pytest.fixture
    def store(self, block: WeaviateStoreConfig) -> Iterator[WeaviateStore]:
        yield from opened(block)

    def reopen(self, store: VectorStore) -> VectorStore:
        assert isinstance(store, WeaviateStore)
        store.close()
        return WeaviateStore(store.block)


class TestWeaviateFlat(SearchConformance):
    """Every vector is scanned."""

    @pytest.fixture
    def store(self, server: WeaviateServer) -> Iterator[WeaviateStore]:
        yield from opened(block_for(server, index=WeaviateFlat()))

    @pytest.fixture
    def filled(self, store: WeaviateStore) -> WeaviateStore:
        store.ensure_collection(SPEC)
        store.upsert("main", [numbered(number) for number in range(40)])
        return store
