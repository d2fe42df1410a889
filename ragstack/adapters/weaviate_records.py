"""Records as Weaviate objects and back. Pure.

An object has the record's id, one named vector of length 1, and properties of ours: ``payload``, the
record's payload as JSON text, so that it comes back equal whatever its keys and numbers are; ``sparse`` and
``terms`` (see ``weaviate_sparse``); for each declared field an index property (``f0``, ``f1``, ...) with its
values in the form that filters compare; ``marks``, which also puts the record into one of ``PARTITIONS``
parts of about the same size.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from weaviate.classes.data import DataObject

from ragstack.adapters.base import Payload, Record
from ragstack.adapters.checks import payload_text
from ragstack.adapters.weaviate_filters import LIST, MARKS, index_key
from ragstack.adapters.weaviate_sparse import decode_sparse, encode_sparse, words_of_record
from ragstack.errors import InputError
from ragstack.filters import FieldType, Scalar, typed_values
from ragstack.types import Float32Array

DENSE = "dense"
PAYLOAD, SPARSE, TERMS = "payload", "sparse", "terms"
ALL = "all"
"""The mark that every record has."""
PARTITIONS = 256
_decode = json.JSONDecoder().raw_decode


def to_object(record: Record, keys: Mapping[str, tuple[str, FieldType]]) -> DataObject[Any, Any]:
    """The object of a record whose id and vectors were checked; InputError names it and what its payload has wrong."""
    properties: dict[str, Any] = {
        PAYLOAD: payload_text(record.payload, record.id),
        SPARSE: encode_sparse(record.sparse),
        TERMS: words_of_record(record.sparse),
        **index_values(record.payload, record.id, keys),
    }
    return DataObject(uuid=record.id, properties=properties, vector={DENSE: unit(record.dense).tolist()})


def unit(vector: Float32Array) -> Float32Array:
    """The vector at length 1, by 64-bit floats; one of length 0 stays."""
    wide = vector.astype(np.float64)
    length = float(np.linalg.norm(wide))
    return (wide / length if length else wide).astype(np.float32)


def index_values(payload: Payload, id_: str, keys: Mapping[str, tuple[str, FieldType]]) -> dict[str, Any]:
    """The index properties of one payload; InputError names the record and a field with a value of another type."""
    values: dict[str, Any] = {}
    marks = [ALL, partition(id_)]
    for name, (key, type_) in keys.items():
        value = payload.get(name)
        members = field_values(name, type_, value, id_)
        if not members:
            continue
        values[key] = sorted({index_key(type_, member) for member in members})
        marks.append(key)
        if isinstance(value, (list, tuple)):
            marks.append(key + LIST)
    values[MARKS] = marks
    return values


def field_values(name: str, type_: FieldType, value: object, id_: str) -> tuple[Scalar, ...]:
    """The members of a declared field's value; InputError names the record when one is of another type."""
    if value is None:
        return ()
    try:
        return typed_values(name, type_, value)
    except InputError as error:
        raise InputError(f"record {id_}: {error.message}", hint=error.hint) from error


def partition(id_: str) -> str:
    """The mark of the part that a record is in."""
    return part_mark(zlib.crc32(id_.encode()) % PARTITIONS)


def part_mark(number: int) -> str:
    """The mark of a part, from 0 to ``PARTITIONS`` - 1."""
    return f"part-{number:02x}"


def size_of(object_: DataObject[Any, Any], dim: int) -> int:
    """About how many bytes an object takes in a request."""
    properties = object_.properties
    index = sum(len(value) for values in properties.values() if isinstance(values, list) for value in values)
    texts = sum(len(value.encode()) for value in properties.values() if isinstance(value, str))
    return 4 * dim + texts + index + 512


def payload_of(properties: Mapping[str, Any], id_: str) -> dict[str, Any]:
    """The payload of an object that was read with :data:`PAYLOAD`."""
    stored = properties.get(PAYLOAD)
    if not isinstance(stored, str):
        raise ValueError(f"the object {id_} has no payload")
    payload: dict[str, Any] = _decode(stored)[0]
    return payload


def to_record(found: Any) -> Record:
    """The record of an object that was read with vector, payload and sparse vector."""
    id_ = str(found.uuid)
    return Record(
        id=id_,
        dense=np.asarray(found.vector[DENSE], dtype=np.float32),
        sparse=decode_sparse(found.properties[SPARSE]),
        payload=payload_of(found.properties, id_),
    )
