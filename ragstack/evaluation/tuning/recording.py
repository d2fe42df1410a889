"""Asks each question once an index and keeps what other weights and depths can be tried on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragstack.adapters.base import Hit
from ragstack.citations.chain import Chain
from ragstack.config.loader import LoadedConfig
from ragstack.config.models import PipelineConfig
from ragstack.errors import InputError
from ragstack.evaluation.ask import stop_if_asked
from ragstack.evaluation.dataset import DocumentSpan, Question
from ragstack.evaluation.target import Target
from ragstack.evaluation.tuning.space import can_be_replayed, reranker_weights, with_values
from ragstack.indexer.interruption import Interruption
from ragstack.reranking.base import RerankScore
from ragstack.retrieval.engine import QueryRequest

_DEPTH_FACTOR = 2
_LARGEST_DEPTH = 1000


@dataclass(frozen=True)
class Recorded:
    """The candidates of one question, in the order of their chunk ids.

    ``legs`` are the hits of each leg, best first. ``parts`` has a column ``(n,) float64`` of summands for each part of
    the reranker's score at weight 1; ``order`` is each candidate's place in the reranker's own order. Both hold NaN for
    candidates that were not reranked.
    """

    question: Question
    chunk_ids: tuple[str, ...]
    spans: tuple[DocumentSpan, ...]
    legs: Mapping[str, tuple[Hit, ...]]
    parts: Mapping[str, NDArray[np.float64]]
    order: NDArray[np.float64]


def recording_config(loaded: LoadedConfig) -> LoadedConfig:
    """The config with which candidates are recorded: deeper than it is used, every part at weight 1.

    A candidate within ``top_k`` of a leg may be beyond ``top_k`` of the default fusion and within it under other
    weights; at twice the depth few of them are missing. A reranker whose scores cannot be replayed is asked as it is.
    """
    config = loaded.config
    values: dict[str, object] = {"retrieval.min_relevance": 0.0, "retrieval.top_n": 1}
    if can_be_replayed(config):
        depth = min(_DEPTH_FACTOR * config.retrieval.top_k, max(_LARGEST_DEPTH, config.retrieval.top_k))
        values |= {"retrieval.top_k": depth, "retrieval.rerank_k": min(depth, _LARGEST_DEPTH)}
        values |= {f"reranker.{name}_weight": 1.0 for name in reranker_weights(config)}
    return with_values(loaded, values)


def record(
    target: Target,
    config: PipelineConfig,
    on_asked: Callable[[int], None],
    interruption: Interruption | None,
) -> list[Recorded]:
    """Ask every answerable question of ``target``, whose pipeline has the recording config of ``config``.

    Raises InterruptedRunError when ``interruption`` was asked, and what a query raises; a question that the engine
    refuses to take (empty, longer than the model reads) is left out.
    """
    engine = target.pipeline.engine
    engine.warm_up()
    recorded = []
    for number, question in enumerate(target.questions, 1):
        stop_if_asked(interruption, number - 1, len(target.questions))
        if question.is_answerable:
            ranked: list[RerankScore] = []
            try:
                chain = engine.query(QueryRequest(question.text, with_answer=False, on_ranked=ranked.extend))
            except InputError:
                continue
            recorded.append(_recorded(question, chain, ranked, config, target))
        on_asked(number)
    return recorded


def _recorded(
    question: Question, chain: Chain, ranked: list[RerankScore], config: PipelineConfig, target: Target
) -> Recorded:
    candidates = sorted(chain.candidates, key=lambda candidate: candidate.chunk_id)
    index = {candidate.chunk_id: i for i, candidate in enumerate(candidates)}
    top_k = config.retrieval.top_k
    legs = {
        leg: tuple(
            Hit(candidate.chunk_id, candidate.legs[leg].score)
            for candidate in sorted(
                (c for c in candidates if leg in c.legs and c.legs[leg].rank <= top_k), key=lambda c: c.legs[leg].rank
            )
        )
        for leg in ("dense", "sparse")
        if chain.query.mode in ("hybrid", leg)
    }
    parts = {name: np.full(len(candidates), np.nan) for name in reranker_weights(config)}
    order = np.full(len(candidates), np.nan)
    for rank, score in enumerate(ranked):
        order[index[score.chunk_id]] = rank
        for name, column in parts.items():
            column[index[score.chunk_id]] = score.parts[name]
    return Recorded(
        question,
        tuple(index),
        tuple(DocumentSpan(target.document_of(c.source_id), c.byte_start, c.byte_end) for c in candidates),
        legs,
        parts,
        order,
    )
