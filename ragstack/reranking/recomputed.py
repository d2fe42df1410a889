"""Late interaction without stored token vectors: each query embeds its candidates anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ragstack.reranking.base import RerankCandidate, RerankQuery, RerankScore
from ragstack.reranking.late_interaction import LateInteractionReranker
from ragstack.reranking.memory_token_vectors import MemoryTokenVectorStore
from ragstack.types import TokenVectors


class RecomputedLateInteraction:
    """A :class:`ragstack.reranking.base.Reranker` that scores as
    :class:`ragstack.reranking.late_interaction.LateInteractionReranker` does, over vectors that it makes itself.

    ``embed`` gives the token vectors of passages, ``prepare`` brings them into the form of the query's. The weights are
    those of late interaction. An index needs 11 times less space for tokens, and every query runs the
    model over all candidates: seconds on a CPU (docs/ranking.md). Raises what ``embed`` raises.
    """

    name = LateInteractionReranker.name
    min_relevance = LateInteractionReranker.min_relevance

    def __init__(
        self,
        embed: Callable[[Sequence[str]], Sequence[TokenVectors]],
        prepare: Callable[[TokenVectors], TokenVectors],
        dense_weight: float = 1.0,
        maxsim_weight: float = 1.0,
        sparse_weight: float = 0.3,
    ) -> None:
        self._embed, self._prepare = embed, prepare
        self._weights = (dense_weight, maxsim_weight, sparse_weight)

    def rerank(self, query: RerankQuery, candidates: Sequence[RerankCandidate]) -> list[RerankScore]:
        """Scores of all candidates, best first; ties by chunk id."""
        chunks = [candidate.chunk for candidate in candidates]
        made = self._embed([chunk.embedded_text for chunk in chunks]) if chunks else ()
        tokens = {chunk.chunk_id: self._prepare(found) for chunk, found in zip(chunks, made, strict=True)}
        return LateInteractionReranker(MemoryTokenVectorStore(tokens), *self._weights).rerank(query, candidates)
