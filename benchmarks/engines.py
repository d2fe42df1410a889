"""The stores that the benchmarks compare, each with a real engine behind it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from ragstack.adapters.base import VectorStore

Opener = Callable[[Path], AbstractContextManager[VectorStore]]
PREFIX = "bench"


@contextmanager
def _edge(folder: Path) -> Iterator[VectorStore]:
    from ragstack.adapters.qdrant_edge import QdrantEdgeStore

    with QdrantEdgeStore(folder / "store") as store:
        yield store


@contextmanager
def _milvus_lite(folder: Path) -> Iterator[VectorStore]:
    from ragstack.adapters.milvus import MilvusStore
    from ragstack.config.stores.milvus import MilvusStoreConfig

    with MilvusStore(MilvusStoreConfig(uri=str(folder / "milvus.db"), prefix=PREFIX)) as store:
        yield store


@contextmanager
def _milvus(folder: Path) -> Iterator[VectorStore]:
    from ragstack.adapters.milvus import MilvusStore
    from ragstack.config.stores.milvus import MilvusStoreConfig
    from tests.servers.milvus import TOKEN, running_server

    with (
        running_server(folder / "milvus") as server,
        MilvusStore(MilvusStoreConfig(uri=server.uri, token=SecretStr(TOKEN), prefix=PREFIX)) as store,
    ):
        yield store


@contextmanager
def _weaviate(folder: Path) -> Iterator[VectorStore]:
    from ragstack.adapters.weaviate import WeaviateStore
    from ragstack.config.stores.weaviate import WeaviateStoreConfig
    from tests.servers.weaviate import weaviate_server

    server = weaviate_server(folder / "weaviate")
    server.start()
    try:
        block = WeaviateStoreConfig(uri=server.url, grpc_port=server.grpc_port, prefix=PREFIX)
        with WeaviateStore(block) as store:
            yield store
    finally:
        server.stop()


@contextmanager
def _qdrant_local(folder: Path) -> Iterator[VectorStore]:
    from ragstack.adapters.qdrant import QdrantStore
    from ragstack.config.stores.qdrant import IN_MEMORY, QdrantStoreConfig

    with warnings.catch_warnings():
        # The client says that its local mode is slow from 20,000 points on; how slow is what is measured.
        warnings.filterwarnings("ignore", "Local mode is not recommended", UserWarning)
        with QdrantStore(QdrantStoreConfig(uri=IN_MEMORY, prefix=PREFIX)) as store:
            yield store


@contextmanager
def _qdrant(folder: Path, *, prefer_grpc: bool) -> Iterator[VectorStore]:
    from ragstack.adapters.qdrant import QdrantStore
    from ragstack.config.stores.qdrant import QdrantStoreConfig

    key = os.environ.get("RAGSTACK_TEST_QDRANT_API_KEY")
    block = QdrantStoreConfig(
        uri=os.environ["RAGSTACK_TEST_QDRANT_URL"],
        api_key=SecretStr(key) if key else None,
        prefer_grpc=prefer_grpc,
        grpc_port=int(os.environ.get("RAGSTACK_TEST_QDRANT_GRPC_PORT", "6334")),
        prefix=f"{PREFIX}{os.getpid()}",
    )
    with QdrantStore(block) as store:
        try:
            yield store
        finally:
            for name in store.collections():
                store.drop(name)


ENGINES: dict[str, Opener] = {
    "qdrant_edge": _edge,
    "milvus-lite": _milvus_lite,
    "milvus-2.3.5": _milvus,
    "weaviate-1.39.0": _weaviate,
    "qdrant-local": _qdrant_local,
}
"""By name, what opens an empty store with its files below a folder. A server of Qdrant is one that is there already."""

if os.environ.get("RAGSTACK_TEST_QDRANT_URL"):
    ENGINES["qdrant-http"] = lambda folder: _qdrant(folder, prefer_grpc=False)
    ENGINES["qdrant-grpc"] = lambda folder: _qdrant(folder, prefer_grpc=True)

Absent = pytest.skip.Exception
"""Raised on entering an engine whose server is not in the cache; its text says how to fetch it."""
