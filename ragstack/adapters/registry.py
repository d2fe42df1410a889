"""The vector stores by the name used as ``store.type`` in a config."""

from __future__ import annotations

from ragstack.registry import Entry, Registry

STORES = Registry(
    "stores",
    {
        "qdrant_edge": Entry("ragstack.adapters.qdrant_edge:QdrantEdgeStore"),
        "milvus": Entry("ragstack.adapters.milvus:MilvusStore", extra="milvus"),
        "qdrant": Entry("ragstack.adapters.qdrant:QdrantStore", extra="qdrant"),
        "weaviate": Entry("ragstack.adapters.weaviate:WeaviateStore", extra="weaviate"),
    },
)
