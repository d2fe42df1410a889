"""LangChain's own standard suite for vector stores, unchanged, over the adapters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_tests.integration_tests import VectorStoreIntegrationTests

import ragstack
from ragstack.integrations.langchain import RagstackVectorStore
from tests.integration.harness import SMALL_CONFIG
from tests.servers.weaviate import weaviate_server

pytestmark = pytest.mark.anyio  # the suite's async tests carry no mark of their own


@pytest.fixture(scope="module", params=["qdrant_edge", "qdrant", "milvus-lite", "weaviate"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ragstack.Pipeline]:
    """A pipeline over each store; the suite brings its own embeddings."""
    folder = tmp_path_factory.mktemp(request.param)
    server = weaviate_server(folder / "server") if request.param == "weaviate" else None
    blocks: dict[str, dict[str, Any]] = {
        "qdrant_edge": {"type": "qdrant_edge"},
        "qdrant": {"type": "qdrant", "uri": ":memory:"},
        "milvus-lite": {"type": "milvus", "uri": str(folder / "milvus.db")},
    }
    try:
        if server is not None:
            server.start()
            blocks["weaviate"] = {"type": "weaviate", "uri": server.url, "grpc_port": server.grpc_port}
        with ragstack.open({**SMALL_CONFIG, "store": blocks[request.param]}, state_dir=folder / "state") as pipeline:
            yield pipeline
    finally:
        if server is not None:
            server.stop()


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, opened: ragstack.Pipeline) -> Iterator[RagstackVectorStore]:
        store = RagstackVectorStore(self.get_embeddings(), pipeline=opened)
        yield store
        store.delete()
