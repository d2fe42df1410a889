"""One leg of a search on a Qdrant server: what is asked, and whether an answer settles it. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qdrant_client import models

from ragstack.adapters.base import Hit
from ragstack.adapters.qdrant_server_records import SPARSE, payload_of
from ragstack.adapters.qdrant_sparse import rescored_vectors
from ragstack.types import Float32Array, SparseVector

_WIDER = 4


class Leg:
    """``request`` is None where nothing can be found; it is widened until the whole tie at ``top_k`` is known.

    Points of the sparse leg come with their vectors and are scored again here.
    """

    def __init__(
        self, collection: str, top_k: int, request: models.QueryRequest | None, query: Float32Array | SparseVector
    ) -> None:
        self.request, self.hits = request, list[Hit]()
        self.settled = request is None
        self._collection, self._top_k, self._query = collection, top_k, query

    def take(self, points: Sequence[models.ScoredPoint]) -> None:
        """Take the answer to ``request``: afterwards the leg is settled, or its request is a wider one."""
        assert self.request is not None and self.request.limit is not None
        # A score is a 32-bit float; what JSON makes of it may differ from it beyond its last digit.
        told = np.array([point.score for point in points], dtype=np.float32)
        scores, error, vectors = self._scores(points, told)
        if len(points) == self.request.limit and not self._is_cut_known(told, error):
            self.request = self.request.model_copy(update={"limit": self.request.limit * _WIDER})
            return
        ranked = sorted(
            (
                (-float(score), str(point.id), point, vector)
                for score, point, vector in zip(scores, points, vectors, strict=True)
                if score > 0 or not isinstance(self._query, SparseVector)
            ),
            key=lambda row: row[:2],
        )
        self.hits = [
            Hit(id_, -score, payload_of(point, self._collection), vector)
            for score, id_, point, vector in ranked[: self._top_k]
        ]
        self.settled = True

    def _is_cut_known(self, told: Float32Array, error: float) -> bool:
        """Whether no point beyond the last one can belong to the hits."""
        if float(told[-1]) + error < float(told[self._top_k - 1]):
            return True
        return isinstance(self._query, SparseVector) and float(told[-1]) < -error

    def _scores(
        self, points: Sequence[models.ScoredPoint], told: Float32Array
    ) -> tuple[Float32Array, float, Sequence[SparseVector | None]]:
        """The scores, by how much two of the server's may be out of their true order, and sparse vectors read."""
        if isinstance(self._query, SparseVector):
            stored: list[Any] = [point.vector for point in points]
            vectors, scores, error = rescored_vectors(self._query, [vectors[SPARSE] for vectors in stored])
            return scores, error, vectors
        return np.clip(told, -1.0, 1.0), 0.0, [None] * len(points)  # rounding may take it a bit beyond 1
