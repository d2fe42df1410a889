"""No second stage: the fused order stays."""

from __future__ import annotations

from collections.abc import Sequence

from ragstack.reranking.base import RerankCandidate, RerankQuery, RerankScore


class NoReranker:
    """Keeps the order in which the candidates come; the one reranker whose result depends on it.

    The score is ``1 / (1 + position)``, positions from 0: it orders, and means nothing else. ``relevance``
    is the cosine, cut to [0, 1]; 0 where the dense leg did not find the candidate.
    """

    name = "none"
    min_relevance = 0.25

    def rerank(self, query: RerankQuery, candidates: Sequence[RerankCandidate]) -> list[RerankScore]:
        """One score per candidate, in the order given."""
        return [
            RerankScore(
                chunk_id=candidate.chunk.chunk_id,
                score=1 / (1 + position),
                relevance=min(max(candidate.dense_score or 0.0, 0.0), 1.0),
                parts={"fused_position": 1 / (1 + position)},
            )
            for position, candidate in enumerate(candidates)
        ]
