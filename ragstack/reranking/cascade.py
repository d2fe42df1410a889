"""Rerankers one after the other: a cheap one over many candidates, a dear one over the best of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ragstack.errors import InputError, RerankingError
from ragstack.reranking.base import (
    RerankCandidate,
    Reranker,
    RerankQuery,
    RerankScore,
    StageScore,
    close_reranker,
    preload_reranker,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CascadeStage:
    """The ``rerank_k`` best so far are read, with None all. ``keeps_order``: a failure leaves the order as it is."""

    reranker: Reranker
    rerank_k: int | None = None
    keeps_order: bool = False


class CascadeReranker:
    """A :class:`ragstack.reranking.base.Reranker` made of others.

    The first stage reads every candidate, each later one the best ``rerank_k`` so far. What a stage does not read
    keeps its order, below all that it reads. ``stages`` of a score tell what each stage said. ``score`` is that of the
    last stage that read the candidate, lowered (``parts["below_stage"]``) so far that the scores of all candidates
    stand in their order. ``relevance`` and ``min_relevance`` are the first stage's, which alone has read them all:
    stages measure with different scales.

    A stage that raises RerankingError fails the query, unless it ``keeps_order``: then each candidate that it should
    have read tells why it did not. The first stage cannot keep an order. :meth:`close` closes the stages.
    """

    def __init__(self, stages: Sequence[CascadeStage]) -> None:
        if not stages or stages[0].keeps_order or stages[0].rerank_k is not None:
            raise InputError("a cascade needs a first stage that reads all candidates and may not fail.")
        if any(stage.rerank_k is not None and stage.rerank_k < 1 for stage in stages):
            raise InputError("a stage's rerank_k must be at least 1.")
        self._stages = tuple(stages)
        self.name = f"cascade({', '.join(stage.reranker.name for stage in stages)})"
        self.min_relevance = stages[0].reranker.min_relevance

    def rerank(self, query: RerankQuery, candidates: Sequence[RerankCandidate]) -> list[RerankScore]:
        """See :class:`ragstack.reranking.base.Reranker`. Raises what the stages raise."""
        by_id = {candidate.chunk.chunk_id: candidate for candidate in candidates}
        first = self._stages[0].reranker
        ranking = [
            replace(score, stages=(StageScore(first.name, rank, score.score),))
            for rank, score in enumerate(first.rerank(query, candidates), 1)
        ]
        for stage in self._stages[1:]:
            read, rest = ranking[: stage.rerank_k], ranking[len(ranking[: stage.rerank_k]) :]
            try:
                found = stage.reranker.rerank(query, [by_id[score.chunk_id] for score in read])
            except RerankingError as error:
                if not stage.keeps_order:
                    raise
                _log.warning("%s failed, the order before it is kept: %s", stage.reranker.name, error)
                ranking = [*(_with_failure(score, stage.reranker.name, error) for score in read), *rest]
            else:
                ranking = [*_merged(read, found, stage.reranker.name), *_lowered(rest, found)]
        return ranking

    def preload(self) -> None:
        """Load what the stages' first use would have to wait for."""
        for stage in self._stages:
            preload_reranker(stage.reranker)

    def close(self) -> None:
        """Close every stage. Idempotent."""
        for stage in self._stages:
            close_reranker(stage.reranker)


def stage_errors(ranking: Sequence[RerankScore]) -> tuple[str, ...]:
    """Why stages of a cascade did not order what they read, each once."""
    return tuple(dict.fromkeys(stage.error for score in ranking for stage in score.stages if stage.error))


def _with_failure(score: RerankScore, name: str, error: RerankingError) -> RerankScore:
    return replace(score, stages=(*score.stages, StageScore(name, None, None, str(error))))


def _merged(before: Sequence[RerankScore], found: Sequence[RerankScore], name: str) -> list[RerankScore]:
    """The order of ``found``, with the relevance and the stages of what was known before."""
    known = {score.chunk_id: score for score in before}
    return [
        replace(
            score,
            relevance=known[score.chunk_id].relevance,
            stages=(*known[score.chunk_id].stages, StageScore(name, rank, score.score)),
        )
        for rank, score in enumerate(found, 1)
    ]


def _lowered(rest: Sequence[RerankScore], found: Sequence[RerankScore]) -> list[RerankScore]:
    """``rest`` with scores below all of ``found``, the differences among them as they were."""
    if not rest or not found:
        return list(rest)
    by = max(0.0, rest[0].score - found[-1].score + 1)
    return [
        replace(
            score,
            score=score.score - by,
            parts={**score.parts, "below_stage": score.parts.get("below_stage", 0.0) - by},
        )
        for score in rest
    ]
