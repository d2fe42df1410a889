"""The first stage: dense and sparse legs over one snapshot, fused once, the same way for every store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ragstack.adapters.base import Hit, SearchParams, VectorStore
from ragstack.config.retrieval import FusionConfig, RetrievalConfig
from ragstack.errors import IndexFormatError
from ragstack.filters import Condition, Filter, all_of
from ragstack.ledger.schema import collection_name
from ragstack.ledger.snapshot import Snapshot
from ragstack.reranking.base import RerankCandidate
from ragstack.retrieval.fusion import FusedHit, fuse_rrf, fuse_weighted
from ragstack.types import Chunk, Float32Array, SparseVector


@dataclass(frozen=True)
class LegQuery:
    """The query as the two legs see it; None for a leg that is not searched."""

    dense: Float32Array
    sparse: SparseVector


@dataclass(frozen=True)
class Retriever:
    """Searches one store. ``params`` are the dense leg's."""

    store: VectorStore
    config: RetrievalConfig
    params: SearchParams = field(default_factory=SearchParams)

    def candidates(self, query: LegQuery, snapshot: Snapshot, filter: Filter | None, top_k: int) -> list[FusedHit]:
        """Up to ``top_k`` hits of each leg, fused, best first; only chunks that the snapshot shows."""
        collection = collection_name(snapshot.generation)
        pinned = filter
        if snapshot.needs_filter:
            pinned = all_of(filter, Condition("seq", "lte", snapshot.committed_seq))
        first: dict[str, list[Hit]] = {}
        if self.config.mode == "hybrid":
            both = self.store.search_hybrid(
                collection, query.dense, query.sparse, top_k, filter=pinned, params=self.params
            )
            first = {"dense": both.dense, "sparse": both.sparse}
        legs: dict[str, list[Hit]] = {}
        if self.config.mode in ("hybrid", "dense"):
            legs["dense"] = _refilled(
                lambda k: self.store.search_dense(collection, query.dense, k, filter=pinned, params=self.params),
                top_k,
                snapshot.stale,
                first.get("dense"),
            )
        if self.config.mode in ("hybrid", "sparse"):
            legs["sparse"] = _refilled(
                lambda k: self.store.search_sparse(collection, query.sparse, k, filter=pinned),
                top_k,
                snapshot.stale,
                first.get("sparse"),
            )
        return fuse_legs(legs, self.config.fusion)

    def with_scores(self, query: LegQuery, hits: Sequence[FusedHit], snapshot: Snapshot) -> list[RerankCandidate]:
        """The hits with both legs' scores: what a leg did not return is computed from the stored vectors."""
        missing = [hit.id for hit in hits if hit.ranks.get("dense") is None or hit.ranks.get("sparse") is None]
        records = self.store.fetch(collection_name(snapshot.generation), missing) if missing else {}
        candidates = []
        for hit in hits:
            scores = {leg: found.score for leg, found in hit.ranks.items() if found is not None}
            if hit.id in records:
                record = records[hit.id]
                scores.setdefault("dense", float(record.dense @ query.dense))
                scores.setdefault("sparse", sparse_dot(query.sparse, record.sparse))
            candidates.append(RerankCandidate(chunk_of(hit.id, hit.payload), scores.get("dense"), scores.get("sparse")))
        return candidates


def fuse_legs(legs: Mapping[str, Sequence[Hit]], fusion: FusionConfig) -> list[FusedHit]:
    """The hits of the legs, each best first, fused as the config says; best first."""
    set_weights = {"dense": fusion.dense_weight, "sparse": fusion.sparse_weight}
    # Fusing one leg keeps its order, whatever its weight.
    weights = {leg: set_weights[leg] if len(legs) > 1 else 1.0 for leg in legs}
    if fusion.type == "rrf":
        return fuse_rrf(legs, k=fusion.k, weights=weights)
    return fuse_weighted(legs, weights=weights)


def _refilled(
    search: Callable[[int], list[Hit]], top_k: int, stale: frozenset[str], first: list[Hit] | None
) -> list[Hit]:
    """Search until ``top_k`` hits are left after the stale ones are dropped, or the store has no more.

    ``first`` is what a search for ``top_k`` has already found, if there was one.
    """
    wanted = top_k
    while True:
        hits, first = (search(wanted) if first is None else first), None
        kept = [hit for hit in hits if hit.id not in stale]
        if len(kept) >= top_k or len(hits) < wanted:
            return kept[:top_k]
        wanted = min(wanted * 2, top_k + len(stale))


def sparse_dot(first: SparseVector, second: SparseVector) -> float:
    """The dot product of two sparse vectors."""
    _, left, right = np.intersect1d(first.indices, second.indices, assume_unique=True, return_indices=True)
    return float(first.values[left] @ second.values[right])


def chunk_of(chunk_id: str, payload: Mapping[str, Any]) -> Chunk:
    """The chunk in a stored payload. Raises IndexFormatError when the payload is not one this package wrote."""
    try:
        return Chunk(
            chunk_id,
            payload["source_id"],
            payload["source_version"],
            payload["byte_start"],
            payload["byte_end"],
            payload["text"],
            payload["token_count"],
            tuple(payload["heading_path"]),
        )
    except (KeyError, TypeError) as error:
        raise IndexFormatError(
            f"the store's record {chunk_id} is not a chunk written by this version: {error} is missing.",
            hint="Rebuild the index with: ragstack index --rebuild",
        ) from error
