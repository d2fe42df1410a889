"""Records as Qdrant points and back.

A point's payload is ours: ``payload`` holds the record's payload as JSON text, so it comes back equal
whatever its keys and numbers are; each declared field has an index key (``f0``, ``f1``, ...) with its
value or values in the form that filters compare; ``lists`` names the keys whose value is a list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import qdrant_edge as qdrant

from ragstack.adapters.base import Payload, Record
from ragstack.adapters.checks import check_record, payload_text
from ragstack.adapters.qdrant_values import LISTS_KEY, keyword
from ragstack.errors import InputError
from ragstack.filters import FieldType, typed_values
from ragstack.types import SparseVector

PAYLOAD_KEY = "payload"
DENSE, SPARSE = "dense", "sparse"
_decode = json.JSONDecoder().raw_decode
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


def to_point(record: Record, dim: int, keys: Mapping[str, tuple[str, FieldType]]) -> qdrant.Point:
    """The point of a record; InputError or CollectionError (dimension) names the record and what is wrong."""
    check_record(record, dim)
    vectors: dict[str, Any] = {DENSE: record.dense.tolist(), SPARSE: sparse_to_driver(record.sparse)}
    text = payload_text(record.payload, record.id)
    return qdrant.Point(record.id, vectors, {PAYLOAD_KEY: text, **index_values(record.payload, record.id, keys)})


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
            stored = [keyword(member) for member in members] if type_ in ("keyword", "bool") else members
            # A list of one means the same to the index, and takes the driver several times as long to read.
            values[key] = stored[0] if len(stored) == 1 else list(stored)
        if isinstance(value, (list, tuple)):
            lists.append(key)
    if lists:
        values[LISTS_KEY] = lists
    return values


def payload_of(point: qdrant.ScoredPoint | qdrant.Record) -> dict[str, Any]:
    """The payload of a point that was read with :data:`PAYLOAD_KEY`."""
    stored = point.payload
    if stored is None or not isinstance(stored.get(PAYLOAD_KEY), str):
        raise ValueError(f"point {point.id} has no payload")
    payload: dict[str, Any] = _decode(stored[PAYLOAD_KEY])[0]
    return payload


def to_record(point: qdrant.Record) -> Record:
    """The record of a point that was read with vectors and payload."""
    vectors: Any = point.vector
    return Record(
        id=str(point.id),
        dense=np.asarray(vectors[DENSE], dtype=np.float32),
        sparse=sparse_of(vectors),
        payload=payload_of(point),
    )


def sparse_of(vectors: Mapping[str, Any]) -> SparseVector:
    """The sparse vector among a point's vectors, sorted by index."""
    stored = vectors[SPARSE]
    indices = np.asarray(stored.indices, dtype=np.uint32)
    values = np.asarray(stored.values, dtype=np.float32)
    order = np.argsort(indices)
    return SparseVector(indices[order], values[order])


def sparse_to_driver(vector: SparseVector) -> qdrant.SparseVector:
    """The driver's form of a sparse vector."""
    return qdrant.SparseVector(vector.indices.tolist(), vector.values.tolist())
