"""Hybrid search for stores without one request for both legs."""

from __future__ import annotations

from ragstack.adapters.base import HybridHits, SearchParams, VectorStore
from ragstack.filters import Filter
from ragstack.types import Float32Array, SparseVector


class LegsInTurn:
    """Gives a store ``search_hybrid``: its own dense search, then its own sparse search."""

    def search_hybrid(
        self: VectorStore,
        collection: str,
        dense: Float32Array,
        sparse: SparseVector,
        top_k: int,
        *,
        filter: Filter | None = None,
        params: SearchParams = SearchParams(),
    ) -> HybridHits:
        """See :class:`ragstack.adapters.base.VectorStore`."""
        return HybridHits(
            self.search_dense(collection, dense, top_k, filter=filter, params=params),
            self.search_sparse(collection, sparse, top_k, filter=filter),
        )
