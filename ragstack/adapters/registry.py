"""The vector stores by the name used as ``store.type`` in a config."""

from __future__ import annotations

from ragstack.registry import Entry, Registry

STORES = Registry("stores", {"qdrant_edge": Entry("ragstack.adapters.qdrant_edge:QdrantEdgeStore")})
