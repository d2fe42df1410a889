"""The first stage: dense and sparse legs over one snapshot, fused once, the same way for every store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ragstack.adapters.base import Hit, HybridHits, SearchParams, VectorStore
from ragstack.config.retrieval import RetrievalConfig
from ragstack.embedding.bm25_scores import Bm25Query, stored_term_count
from ragstack.errors import IndexFormatError
from ragstack.filters import Condition, Filter, all_of
from ragstack.ledger.schema import collection_name
from ragstack.ledger.snapshot import Snapshot
from ragstack.reranking.base import RerankCandidate
from ragstack.retrieval.fusion import FusedHit, fuse_rrf, fuse_weighted
from ragstack.retrieval.phrase_search import PhraseQuery, narrowed_to_phrases
from ragstack.retrieval.sparse_leg import SparseLeg, exact_scores
from ragstack.types import Chunk, Float32Array


@dataclass(frozen=True)
class LegQuery:
    """The query as the two legs see it. ``phrases`` is None for one without quoted phrases."""

    dense: Float32Array
    sparse: Bm25Query
    phrases: PhraseQuery | None = None


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
        sparse_leg = SparseLeg(self.store, collection, query.sparse, pinned, snapshot.stale)
        first: HybridHits | None = None
        if self.config.mode == "hybrid":
            # One request for both legs, where the store can; the dense leg is cut below.
            depth = sparse_leg.first_depth(top_k)
            first = self.store.search_hybrid(
                collection, query.dense, query.sparse.vector, depth, filter=pinned, params=self.params
            )
        legs: dict[str, list[Hit]] = {}
        if self.config.mode in ("hybrid", "dense"):
            legs["dense"] = _refilled(
                lambda k: self.store.search_dense(collection, query.dense, k, filter=pinned, params=self.params),
                top_k,
                snapshot.stale,
                first.dense if first else None,
            )
        if self.config.mode in ("hybrid", "sparse"):
            legs["sparse"] = sparse_leg.search(top_k, first.sparse if first else None)
        if query.phrases is not None:
            legs = narrowed_to_phrases(query.phrases, sparse_leg, legs, query.dense, top_k)
        fusion = self.config.fusion
        set_weights = {"dense": fusion.dense_weight, "sparse": fusion.sparse_weight}
        # Fusing one leg keeps its order, whatever its weight.
        weights = {leg: set_weights[leg] if len(legs) > 1 else 1.0 for leg in legs}
        if fusion.type == "rrf":
            return fuse_rrf(legs, k=fusion.k, weights=weights)
        return fuse_weighted(legs, weights=weights)

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
                if "sparse" not in scores:
                    count = stored_term_count(record.payload, record.id)
                    scores["sparse"] = float(exact_scores(query.sparse, [record.sparse], [count])[0])
            candidates.append(RerankCandidate(chunk_of(hit.id, hit.payload), scores.get("dense"), scores.get("sparse")))
        return candidates


def _refilled(
    search: Callable[[int], list[Hit]], top_k: int, stale: frozenset[str], first: list[Hit] | None
) -> list[Hit]:
    """Search until ``top_k`` hits are left after the stale ones are dropped, or the store has no more.

    ``first`` is what a search for at least ``top_k`` has already found, if there was one.
    """
    wanted = top_k
    while True:
        hits, first = (search(wanted) if first is None else first), None
        kept = [hit for hit in hits if hit.id not in stale]
        if len(kept) >= top_k or len(hits) < wanted:
            return kept[:top_k]
        wanted = min(wanted * 2, top_k + len(stale))


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
