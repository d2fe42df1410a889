"""Records as Qdrant points and back.

A point's payload is ours: ``payload`` holds the record's payload as JSON text, so it comes back equal
whatever its keys and numbers are; each declared field has an index key (``f0``, ``f1``, ...) with its
value or values in the form that filters compare; ``lists`` names the keys whose value is a list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import qdrant_edge as qdrant

from ragstack.adapters.base import Hit, Payload, Record
from ragstack.adapters.checks import check_records, payload_text
from ragstack.adapters.qdrant_arrays import dense_of, sparse_of
from ragstack.adapters.qdrant_values import LISTS_KEY, keyword
from ragstack.errors import InputError
from ragstack.filters import FieldType, Scalar, typed_values
from ragstack.types import SparseVector

PAYLOAD_KEY = "payload"
DENSE, SPARSE = "dense", "sparse"
_decode = json.JSONDecoder().raw_decode
_KEYWORDS = ("keyword", "bool")
_INDEX_PARAMS: dict[FieldType, Any] = {
    "keyword": qdrant.KeywordIndexParams,
    "bool": qdrant.KeywordIndexParams,
    "integer": qdrant.IntegerIndexParams,
    "float": qdrant.FloatIndexParams,
    "datetime": qdrant.DatetimeIndexParams,
}


def field_index(key: str, type_: FieldType, memory: qdrant.Memory | None) -> qdrant.UpdateOperation:
    """Makes the payload index that serves filters on a field of this type, kept in this kind of memory."""
    return qdrant.UpdateOperation.create_field_index(key, _INDEX_PARAMS[type_](memory=memory))


def to_points(
    records: Sequence[Record], dim: int, keys: Mapping[str, tuple[str, FieldType]]
) -> tuple[list[qdrant.Point], int]:
    """The points of records, and the characters of their payloads.

    InputError or CollectionError (dimension) names the record and what is wrong.
    """
    check_records(records, dim)
    texts = [payload_text(record.payload, record.id) for record in records]
    points = [
        qdrant.Point(
            record.id,
            {DENSE: record.dense.tolist(), SPARSE: sparse_to_driver(record.sparse)},
            {PAYLOAD_KEY: text, **index_values(record.payload, record.id, keys)},
        )
        for record, text in zip(records, texts, strict=True)
    ]
    return points, sum(map(len, texts))


def index_values(payload: Payload, id_: str, keys: Mapping[str, tuple[str, FieldType]]) -> dict[str, Any]:
    """The index keys of one payload; InputError names the record and a field whose value is of another type."""
    values: dict[str, Any] = {}
    lists = []
    for name, (key, type_) in keys.items():
        value = payload.get(name)
        if value is None:
            continue
        try:
            members = typed_values(name, type_, value)
        except InputError as error:
            raise InputError(f"record {id_}: {error.message}", hint=error.hint) from error
        if members:
            values[key] = _stored(members if type_ not in _KEYWORDS else [keyword(member) for member in members])
        if isinstance(value, (list, tuple)):
            lists.append(key)
    if lists:
        values[LISTS_KEY] = _stored(lists)
    return values


def _stored(members: Sequence[Scalar]) -> Scalar | list[Scalar]:
    """A list of one means the same to the index, and takes the driver several times as long to read."""
    return members[0] if len(members) == 1 else list(members)


def payload_of(point: qdrant.ScoredPoint | qdrant.Record) -> dict[str, Any]:
    """The payload of a point that was read with :data:`PAYLOAD_KEY`."""
    stored: Any = point.payload
    try:
        payload: dict[str, Any] = _decode(stored[PAYLOAD_KEY])[0]
    except (KeyError, TypeError) as error:
        raise ValueError(f"point {point.id} has no payload") from error
    return payload


def to_hits(
    points: Sequence[qdrant.ScoredPoint],
    scores: Sequence[float],
    top_k: int,
    vectors: Sequence[SparseVector | None],
) -> list[Hit]:
    """The best ``top_k`` of the points by these scores, ties by id; ``vectors`` are the sparse ones that were read."""
    ids = [str(point.id) for point in points]
    ranked = sorted(zip([-score for score in scores], ids, range(len(points)), strict=True))
    return [Hit(id_, -score, payload_of(points[at]), vectors[at]) for score, id_, at in ranked[:top_k]]


def to_record(point: qdrant.Record) -> Record:
    """The record of a point that was read with vectors and payload."""
    vectors: Any = point.vector
    sparse = vectors[SPARSE]
    return Record(str(point.id), dense_of(vectors[DENSE]), sparse_of(sparse.indices, sparse.values), payload_of(point))


def sparse_to_driver(vector: SparseVector) -> qdrant.SparseVector:
    """The driver's form of a sparse vector."""
    return qdrant.SparseVector(vector.indices.tolist(), vector.values.tolist())
