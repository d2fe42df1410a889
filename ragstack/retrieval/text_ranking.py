"""Ranking texts that are in no index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragstack.cancellation import Cancellation
from ragstack.reranking.base import RerankCandidate, Reranker, RerankQuery, RerankScore, no_idf
from ragstack.types import Chunk, Float32Array, TokenVectors


def text_ids(count: int) -> list[str]:
    """The chunk ids that texts have in a ranking: their positions, in the order of positions."""
    return [f"{index:08d}" for index in range(count)]


def text_candidates(texts: Sequence[str], cosines: Float32Array | None = None) -> list[RerankCandidate]:
    """Texts as a reranker reads them, in their order.

    ``cosines`` ``(n,)`` are those of query and text, for rerankers that compare vectors.
    """
    # BM25's part would compare the texts of one request with each other; without it a text's score is its own.
    return [
        RerankCandidate(
            Chunk(chunk_id, "", "", 0, len(text.encode("utf-8", "surrogatepass")), text, 0),
            None if cosines is None else float(cosines[index]),
            None,
        )
        for index, (chunk_id, text) in enumerate(zip(text_ids(len(texts)), texts, strict=True))
    ]


def positions(scores: Sequence[RerankScore]) -> list[tuple[int, float]]:
    """Position and score of every text that :func:`text_candidates` made a candidate of, best first."""
    return [(int(score.chunk_id), score.score) for score in scores]


def rank_in_order(
    reranker: Reranker, query: RerankQuery, texts: Sequence[str], cosines: Float32Array | None = None
) -> list[tuple[int, float]]:
    """Position and score of every text, best first; of equal ones, the first given comes first.

    ``cosines``: see :func:`text_candidates`.
    """
    return positions(reranker.rerank(query, text_candidates(texts, cosines)))


def bare_query(text: str, cancellation: Cancellation) -> RerankQuery:
    """A query for rerankers that read text alone: without vectors."""
    none = TokenVectors(np.empty((0, 1), np.float32), np.empty(0, np.int32), np.empty((0, 2), np.int32))
    return RerankQuery(text, np.empty(0, np.float32), none, no_idf(0), cancellation=cancellation)
