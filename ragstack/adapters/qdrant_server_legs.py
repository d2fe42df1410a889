"""The legs of a search on a Qdrant server: what is asked, and whether an answer settles it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

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
        rows = zip((-scores).tolist(), [str(point.id) for point in points], range(len(points)), strict=True)
        ranked = sorted(row for row in rows if row[0] < 0 or not isinstance(self._query, SparseVector))
        self.hits = [
            Hit(id_, -score, payload_of(points[at], self._collection), vectors[at])
            for score, id_, at in ranked[: self._top_k]
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


def ask(
    client: QdrantClient, physical: str, requests: Sequence[models.QueryRequest], consistency: Any
) -> Sequence[models.QueryResponse]:
    """The answers to all requests, in one call of the server."""
    if len(requests) > 1:
        return client.query_batch_points(physical, requests, consistency=consistency)
    # The client copies the requests of a batch number by number, which takes it longer than all the rest.
    (one,) = requests
    answer = client.query_points(
        physical,
        query=one.query,
        using=one.using,
        query_filter=one.filter,
        search_params=one.params,
        limit=one.limit or 0,
        with_payload=one.with_payload or False,
        with_vectors=one.with_vector or False,
        score_threshold=one.score_threshold,
        consistency=consistency,
    )
    return [answer]
