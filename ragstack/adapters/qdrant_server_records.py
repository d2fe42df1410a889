"""Records as points of a Qdrant server and back, and in portions that fit into a request. Pure.

``payload`` holds a record's payload as JSON text, so it comes back equal; the other keys are those of
``qdrant_server_keys``. A sparse vector without entries is not written: a point has it or not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qdrant_client import models

from ragstack.adapters.base import Record, empty_sparse
from ragstack.adapters.checks import check_records, payload_text
from ragstack.adapters.qdrant_arrays import dense_of, sparse_of
from ragstack.adapters.qdrant_server_keys import FieldKeys, index_values
from ragstack.errors import CollectionError
from ragstack.types import SparseVector

DENSE, SPARSE = "dense", "sparse"
PAYLOAD_KEY = "payload"
_decode = json.JSONDecoder().raw_decode
_BYTES_PER_NUMBER, _BYTES_PER_TERM, _BYTES_PER_POINT = 22, 34, 200


def to_points(records: Sequence[Record], dim: int, fields: Mapping[str, FieldKeys]) -> list[models.PointStruct]:
    """The points of records; InputError or CollectionError (dimension) names the record and what is wrong."""
    check_records(records, dim)
    return [_to_point(record, fields) for record in records]


def _to_point(record: Record, fields: Mapping[str, FieldKeys]) -> models.PointStruct:
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
    size = _BYTES_PER_POINT + len(vectors[DENSE]) * _BYTES_PER_NUMBER + terms * _BYTES_PER_TERM
    for key, value in (point.payload or {}).items():
        size += len(key) + _length(value)
    return size


def _length(value: str | int | list[str | int]) -> int:
    if isinstance(value, str):
        return 2 * len(value) + 4  # quotes are escaped, and characters beyond ASCII take more bytes
    return sum(map(_length, value)) if isinstance(value, list) else _BYTES_PER_NUMBER


def payload_of(point: models.ScoredPoint | models.Record, collection: str) -> dict[str, Any]:
    """The payload of a point that was read with :data:`PAYLOAD_KEY`."""
    try:
        payload: dict[str, Any] = _decode((point.payload or {})[PAYLOAD_KEY])[0]
    except (KeyError, TypeError, ValueError) as error:
        raise CollectionError(
            f"the point {point.id} of the collection {collection!r} was not written by ragstack.",
            hint="Let nothing else write into the collections below store.prefix.",
        ) from error
    return payload


def to_record(point: models.Record, collection: str) -> Record:
    """The record of a point that was read with vectors and payload."""
    vectors: Any = point.vector
    sparse = vectors.get(SPARSE)
    return Record(
        id=str(point.id),
        dense=dense_of(vectors[DENSE]),
        sparse=sparse_of(sparse.indices, sparse.values) if sparse is not None else empty_sparse(),
        payload=payload_of(point, collection),
    )


def sparse_to_driver(vector: SparseVector) -> models.SparseVector:
    """The driver's form of a sparse vector."""
    return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())
