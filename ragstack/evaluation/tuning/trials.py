"""Scores settings on recorded candidates: no embedding, no store, the same fusion as a query's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ragstack.config.models import PipelineConfig
from ragstack.evaluation.dataset import DocumentSpan
from ragstack.evaluation.measures import gold_recall, ranking_measures
from ragstack.evaluation.tuning.recording import Recorded
from ragstack.evaluation.tuning.space import Settings, can_be_replayed
from ragstack.retrieval.fusion import fuse_rrf, fuse_weighted

MEASURES = ("nDCG@10", "MRR@10", "recall@5", "recall@10", "passage_recall@5")
_PASSAGES = 5


class Replay:
    """The recorded questions of one index, under any settings. Orders of fusion are computed once for all depths."""

    def __init__(self, recorded: Sequence[Recorded], config: PipelineConfig, measure: str) -> None:
        self._recorded = recorded
        self._config = config
        self._measure = measure
        self._fused: dict[tuple[float, float], list[NDArray[np.intp]]] = {}

    def score(self, settings: Settings) -> dict[str, float]:
        """The measure of each question, by its id."""
        fused = self._fused_orders(settings)
        orders = [self._order(item, order, settings) for item, order in zip(self._recorded, fused, strict=True)]
        if self._measure == "passage_recall@5":
            return {
                item.question.question_id: gold_recall(item.question.pieces, [item.spans[i] for i in order[:_PASSAGES]])
                for item, order in zip(self._recorded, orders, strict=True)
                if item.question.pieces
            }
        documents = {
            item.question.question_id: _documents(item.spans, order)
            for item, order in zip(self._recorded, orders, strict=True)
        }
        scores = ranking_measures([item.question for item in self._recorded], documents, [self._measure])
        return {question_id: values[self._measure] for question_id, values in scores.items()}

    def _order(self, item: Recorded, fused: NDArray[np.intp], settings: Settings) -> NDArray[np.intp]:
        considered = np.sort(fused[: settings.rerank_k])  # by chunk id, which settles ties
        if item.parts and can_be_replayed(self._config):
            score = sum(settings.weights[name] * column[considered] for name, column in item.parts.items())
        elif can_be_replayed(self._config):
            return fused[: settings.rerank_k]
        else:
            score = -item.order[considered]
        # What was not recorded (see recording_config) comes last.
        known = np.nan_to_num(np.asarray(score, dtype=np.float64), nan=-np.inf)
        return considered[np.argsort(-known, kind="stable")]

    def _fused_orders(self, settings: Settings) -> list[NDArray[np.intp]]:
        key = settings.dense_weight, settings.sparse_weight
        if key not in self._fused:
            self._fused[key] = [self._fuse(item, *key) for item in self._recorded]
        return self._fused[key]

    def _fuse(self, item: Recorded, dense_weight: float, sparse_weight: float) -> NDArray[np.intp]:
        fusion = self._config.retrieval.fusion
        given: Mapping[str, float] = {"dense": dense_weight, "sparse": sparse_weight}
        weights = {leg: given[leg] if len(item.legs) > 1 else 1.0 for leg in item.legs}
        hits = (
            fuse_rrf(item.legs, k=fusion.k, weights=weights)
            if fusion.type == "rrf"
            else fuse_weighted(item.legs, weights=weights)
        )
        index = {chunk_id: i for i, chunk_id in enumerate(item.chunk_ids)}
        return np.array([index[hit.id] for hit in hits], dtype=np.intp)


def _documents(spans: Sequence[DocumentSpan], order: NDArray[np.intp]) -> list[str]:
    return list(dict.fromkeys(spans[i].document_id for i in order))
