"""Late interaction: rerank by the embedder's own token vectors (MaxSim, Khattab and Zaharia 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragstack.errors import InputError, StoreError
from ragstack.reranking.base import RerankCandidate, RerankQuery, RerankScore, TokenVectorStore
from ragstack.reranking.relevance import MIN_RELEVANCE
from ragstack.reranking.relevance import relevance as relevance_of
from ragstack.types import Float32Array, TokenVectors


class LateInteractionReranker:
    """A :class:`ragstack.reranking.base.Reranker`: cosine + MaxSim + share of the best BM25 score.

    The score of a candidate is the sum of three parts, each times its weight:

    * ``dense``: the cosine of query and passage, in [-1, 1];
    * ``maxsim``: each query token's best cosine with a token of the passage, averaged with the tokens'
      idf as weights, in [-1, 1];
    * ``sparse``: the BM25 score, divided by the largest among the candidates, in [0, 1].

    ``relevance`` is made of the same three, whatever the weights, see :mod:`ragstack.reranking.relevance`: unlike the
    score, it means the same for every query.

    A candidate without a ``dense_score`` is given the lowest one among the candidates, for the dense leg
    did not find it; the query path computes the true one from the stored vector. One without a
    ``sparse_score`` shares no term with the query: its part is 0. ``token_vectors`` must hold every
    candidate; the query's own vectors come projected into its space.

    Raises InputError for weights that are negative, not finite or all 0, and for a query whose arrays do
    not belong together; StoreError, naming the chunk, for one that has no token vectors or vectors of
    another dimension than the query's. Safe to call from several threads if ``token_vectors`` is.
    """

    name = "late_interaction"
    min_relevance = MIN_RELEVANCE

    def __init__(
        self,
        token_vectors: TokenVectorStore,
        dense_weight: float = 1.0,
        maxsim_weight: float = 1.0,
        sparse_weight: float = 0.3,
    ) -> None:
        weights = {"dense_weight": dense_weight, "maxsim_weight": maxsim_weight, "sparse_weight": sparse_weight}
        for name, weight in weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise InputError(f"reranker.{name}: must be a number from 0 up, got {weight!r}.")
        if not any(weights.values()):
            hint = "Set reranker.type to none to keep the fused order."
            raise InputError("reranker: all three weights are 0.", hint=hint)
        self._token_vectors = token_vectors
        self._dense_weight = dense_weight
        self._maxsim_weight = maxsim_weight
        self._sparse_weight = sparse_weight

    def rerank(self, query: RerankQuery, candidates: Sequence[RerankCandidate]) -> list[RerankScore]:
        """Scores of all candidates, best first; ties by chunk id. Each ``parts`` holds the weighted summands."""
        if not candidates:
            return []
        # In a fixed order the rounding inside the matrix product is the same for every order of the candidates.
        ordered = sorted(candidates, key=lambda candidate: candidate.chunk.chunk_id)
        cosine = _dense_scores(ordered)
        maxsim = max_sim(query, self._tokens_of(ordered, query))
        # A question of stop words has no tokens to be matched.
        compared = maxsim if len(query.tokens) else None
        relevance = relevance_of(query.scale, cosine, _sparse_scores(ordered), compared)
        parts = {
            "dense": self._dense_weight * cosine,
            "maxsim": self._maxsim_weight * maxsim,
            "sparse": self._sparse_weight * _sparse_shares(ordered),
        }
        total = parts["dense"] + parts["maxsim"] + parts["sparse"]
        scores = [
            RerankScore(
                chunk_id=candidate.chunk.chunk_id,
                score=float(total[i]),
                relevance=float(relevance[i]),
                parts={name: float(part[i]) for name, part in parts.items()},
            )
            for i, candidate in enumerate(ordered)
        ]
        return sorted(scores, key=lambda score: (-score.score, score.chunk_id))

    def _tokens_of(self, candidates: Sequence[RerankCandidate], query: RerankQuery) -> list[TokenVectors]:
        stored = self._token_vectors.get([candidate.chunk.chunk_id for candidate in candidates])
        found: list[TokenVectors] = []
        for candidate in candidates:
            tokens = stored.get(candidate.chunk.chunk_id)
            where = f"chunk {candidate.chunk.chunk_id} of {candidate.chunk.source_id}"
            if tokens is None:
                raise StoreError(
                    f"{where}: the index holds no token vectors, which late interaction compares.",
                    hint="Rebuild the index with: ragstack index --rebuild",
                )
            if len(tokens) and len(query.tokens) and tokens.vectors.shape[1] != query.tokens.vectors.shape[1]:
                raise StoreError(
                    f"{where}: its token vectors have {tokens.vectors.shape[1]} dimensions, "
                    f"the query's {query.tokens.vectors.shape[1]}.",
                    hint="Bring the query's into the store's space with its project(), or index again.",
                )
            found.append(tokens)
        return found


def max_sim(query: RerankQuery, passages: Sequence[TokenVectors]) -> NDArray[np.float64]:
    """The idf-weighted MaxSim of each passage, ``(n,) float64`` in [-1, 1].

    ``sum_i idf_i * max_j q_i . d_j / sum_i idf_i``. 0 for a passage without tokens, and for every passage
    when the query has no tokens or none with an idf above 0. Raises InputError when ``token_idf`` does
    not fit the query's tokens.
    """
    idf = np.asarray(query.token_idf, dtype=np.float64)
    if idf.shape != (len(query.tokens),) or not np.all(np.isfinite(idf) & (idf >= 0)):
        raise InputError(
            f"token_idf must hold one finite number from 0 up for each of the query's {len(query.tokens)} tokens; "
            f"its shape is {idf.shape}."
        )
    result = np.zeros(len(passages))
    filled = [i for i, passage in enumerate(passages) if len(passage)]
    if idf.sum() <= 0 or not filled:
        return result
    tokens: Float32Array = np.concatenate([passages[i].vectors for i in filled])
    lengths = np.array([len(passages[i]) for i in filled])
    # (all passage tokens, query tokens); each passage is a run of rows.
    similarities = tokens @ query.tokens.vectors.T
    best = np.maximum.reduceat(similarities, np.cumsum(lengths) - lengths, axis=0)
    result[filled] = best.astype(np.float64) @ idf / idf.sum()
    return result


def _dense_scores(candidates: Sequence[RerankCandidate]) -> NDArray[np.float64]:
    known = [candidate.dense_score for candidate in candidates if candidate.dense_score is not None]
    lowest = min(known, default=0.0)
    return np.array([lowest if c.dense_score is None else c.dense_score for c in candidates], dtype=np.float64)


def _sparse_scores(candidates: Sequence[RerankCandidate]) -> NDArray[np.float64]:
    return np.array([candidate.sparse_score or 0.0 for candidate in candidates], dtype=np.float64)


def _sparse_shares(candidates: Sequence[RerankCandidate]) -> NDArray[np.float64]:
    scores = _sparse_scores(candidates)
    largest = scores.max()
    return scores / largest if largest > 0 else np.zeros(len(scores))
