"""Records as points of a Qdrant server and back, and in portions that fit into a request. Pure.

``payload`` holds a record's payload as JSON text, so it comes back equal; the other keys are those of
``qdrant_server_keys``. A sparse vector without entries is not written: a point has it or not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from qdrant_client import models

from ragstack.adapters.base import Record, empty_sparse
from ragstack.adapters.checks import check_record, payload_text
from ragstack.adapters.qdrant_server_keys import FieldKeys, index_values
from ragstack.errors import CollectionError
from ragstack.types import SparseVector

DENSE, SPARSE = "dense", "sparse"
PAYLOAD_KEY = "payload"
_BYTES_PER_NUMBER, _BYTES_PER_TERM, _BYTES_PER_POINT = 22, 34, 200


def to_point(record: Record, dim: int, fields: Mapping[str, FieldKeys]) -> models.PointStruct:
    """The point of a record; InputError or CollectionError (dimension) names the record and what is wrong."""
    check_record(record, dim)
    vectors: dict[str, Any] = {DENSE: record.dense.tolist()}
    if len(record.sparse):
        vectors[SPARSE] = sparse_to_driver(record.sparse)
    text = payload_text(record.payload, record.id)
    payload = {PAYLOAD_KEY: text, **index_values(record.payload, record.id, fields)}
    return models.PointStruct(id=record.id, vector=vectors, payload=payload)


def portions(
    points: Sequence[models.PointStruct], max_points: int, max_bytes: int
) -> Iterator[list[models.PointStruct]]:
    """The points in order, at most ``max_points`` and about ``max_bytes`` at a time; a larger point stands alone."""
    portion: list[models.PointStruct] = []
    taken = 0
    for point in points:
        size = estimated_bytes(point)
        if portion and (len(portion) == max_points or taken + size > max_bytes):
            yield portion
            portion, taken = [], 0
        portion.append(point)
        taken += size
    if portion:
        yield portion


def estimated_bytes(point: models.PointStruct) -> int:
    """About how long a point is in JSON, on the high side."""
    vectors: Any = point.vector
    terms = len(vectors[SPARSE].indices) if SPARSE in vectors else 0
    payload = point.payload or {}
    text = 2 * len(payload[PAYLOAD_KEY])  # quotes are escaped, and characters beyond ASCII take more bytes
    indexed = sum(len(key) + _length(payload[key]) for key in payload if key != PAYLOAD_KEY)
    return _BYTES_PER_POINT + len(vectors[DENSE]) * _BYTES_PER_NUMBER + terms * _BYTES_PER_TERM + text + indexed


def _length(value: str | int | list[str | int]) -> int:
    if isinstance(value, list):
        return sum(map(_length, value))
    return 2 * len(value) + 4 if isinstance(value, str) else _BYTES_PER_NUMBER


def payload_of(point: models.ScoredPoint | models.Record, collection: str) -> dict[str, Any]:
    """The payload of a point that was read with :data:`PAYLOAD_KEY`."""
    try:
        payload: dict[str, Any] = json.loads((point.payload or {})[PAYLOAD_KEY])
    except (KeyError, TypeError, ValueError) as error:
        raise CollectionError(
            f"the point {point.id} of the collection {collection!r} was not written by ragstack.",
            hint="Let nothing else write into the collections below store.prefix.",
        ) from error
    return payload


def to_record(point: models.Record, collection: str) -> Record:
    """The record of a point that was read with vectors and payload."""
    vectors: Any = point.vector
    return Record(
        id=str(point.id),
        dense=np.asarray(vectors[DENSE], dtype=np.float32),
        sparse=_sparse_of(vectors),
        payload=payload_of(point, collection),
    )


def sparse_to_driver(vector: SparseVector) -> models.SparseVector:
    """The driver's form of a sparse vector."""
    return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())


def _sparse_of(vectors: Mapping[str, Any]) -> SparseVector:
    stored = vectors.get(SPARSE)
    if stored is None:
        return empty_sparse()
    indices = np.asarray(stored.indices, dtype=np.uint32)
    values = np.asarray(stored.values, dtype=np.float32)
    order = np.argsort(indices)
    return SparseVector(indices[order], values[order])
