"""No second stage: the fused order stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragstack.reranking.base import RerankCandidate, RerankQuery, RerankScore
from ragstack.reranking.relevance import MIN_RELEVANCE, relevance


class NoReranker:
    """Keeps the order in which the candidates come; the one reranker whose result depends on it.

    The score is ``1 / (1 + position)``, positions from 0: it orders, and means nothing else. ``relevance``
    is made of cosine and BM25 score, see :mod:`ragstack.reranking.relevance`; both count as 0 where they are not known.
    """

    name = "none"
    min_relevance = MIN_RELEVANCE

    def rerank(self, query: RerankQuery, candidates: Sequence[RerankCandidate]) -> list[RerankScore]:
        """One score per candidate, in the order given."""
        cosine = np.array([candidate.dense_score or 0.0 for candidate in candidates], dtype=np.float64)
        sparse = np.array([candidate.sparse_score or 0.0 for candidate in candidates], dtype=np.float64)
        relevances = relevance(query.scale, cosine, sparse)
        return [
            RerankScore(
                chunk_id=candidate.chunk.chunk_id,
                score=1 / (1 + position),
                relevance=float(relevances[position]),
                parts={"fused_position": 1 / (1 + position)},
            )
            for position, candidate in enumerate(candidates)
        ]
