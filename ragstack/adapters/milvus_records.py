"""Records as Milvus rows and back. Pure.

============  ==================================================================================
column        holds
============  ==================================================================================
``id``        the record's id, the primary key
``dense``     the dense vector, of length 1 (its inner product with a query of length 1 is the cosine)
``payload``   the payload as JSON text, cut into parts that Milvus takes as strings
``weights``   the sparse vector as it was given: indices and values, Base64, cut into parts
``sparse``    where the server searches sparse vectors: an upper bound of it, see ``milvus_sparse``
``terms``,    what filters are compiled over, see ``milvus_filters``
``bounds``
``tenant``    where collections are partitioned: the code of the tenant, or empty
============  ==================================================================================
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ragstack.adapters.base import Payload, Record
from ragstack.adapters.checks import payload_text
from ragstack.adapters.milvus_filters import FieldKey, code
from ragstack.adapters.milvus_sparse import NEGATIVE_TERM, bounding_weights
from ragstack.errors import CapabilityError, InputError
from ragstack.filters import typed_values
from ragstack.types import Float32Array, SparseVector

PART_BYTES = 60_000  # Milvus takes strings of 65,535 bytes
MAX_TERMS = 4096  # and arrays of 4,096 members
MAX_BOUNDS_BYTES = 65_000  # and JSON of 65,536 bytes
MAX_ROW_BYTES = 4 * 2**20  # its message queue takes messages of 5 MB
_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class Layout:
    """What the rows of one collection look like. ``dim`` dimensions; ``keys`` of the declared fields, by name."""

    dim: int
    keys: Mapping[str, FieldKey]
    sparse: bool
    tenant: bool


def to_row(record: Record, layout: Layout) -> tuple[dict[str, Any], int]:
    """The row of a record whose id and vectors were checked, and about how many bytes it takes.

    InputError (its payload) or CapabilityError (too large) names the record.
    """
    text = payload_text(record.payload, record.id).encode()
    row: dict[str, Any] = {
        "id": record.id,
        "dense": unit_length(record.dense),
        "payload": _text_parts(text),
        "weights": _sparse_parts(record.sparse),
        **derived_keys(record.payload, record.id, layout, negative=bool((record.sparse.values < 0).any())),
    }
    if layout.sparse:
        row["sparse"] = bounding_weights(record.sparse)
    size = 4 * layout.dim + len(text) + 22 * len(record.sparse) + 60 * len(row["terms"]) + 300
    if size > MAX_ROW_BYTES:
        raise CapabilityError(
            f"record {record.id} takes {size} bytes; Milvus takes at most {MAX_ROW_BYTES} in one record.",
            hint="Cut the document into smaller chunks, or leave large values out of the payload.",
        )
    return row, size


def derived_keys(payload: Payload, id_: str, layout: Layout, *, negative: bool) -> dict[str, Any]:
    """The columns ``terms``, ``bounds`` and ``tenant`` of one payload.

    InputError names the record and a field whose value is of another type; CapabilityError, too many values.
    """
    terms: set[str] = {NEGATIVE_TERM} if negative else set()
    bounds: dict[str, str] = {}
    tenant = ""
    for name, key in layout.keys.items():
        value = payload.get(name)
        if value is None:
            continue
        try:
            members = typed_values(name, key.type, value)
        except InputError as error:
            raise InputError(f"record {id_}: {error.message}", hint=error.hint) from error
        is_list = isinstance(value, (list, tuple))
        if key.is_tenant and is_list:
            raise InputError(
                f"record {id_}: the field {name!r} holds a list, but it is store.tenant_field and holds one tenant."
            )
        if is_list:
            terms.add(f"{key.key}:l")
        if not members:
            continue
        terms.add(f"{key.key}:x")
        codes = [code(key.type, member) for member in members]
        if key.is_tenant:
            tenant = codes[0]
        terms.update(f"{key.key}={one}" for one in codes)
        if key.type in ("integer", "float", "datetime"):
            bounds[f"{key.key}a"], bounds[f"{key.key}z"] = min(codes), max(codes)
    if len(terms) > MAX_TERMS or 50 * len(bounds) > MAX_BOUNDS_BYTES:
        raise CapabilityError(
            f"record {id_} has {len(terms)} values in its declared fields; Milvus indexes at most {MAX_TERMS}.",
            hint="Shorten the lists in its payload, or declare fewer fields.",
        )
    columns: dict[str, Any] = {"terms": sorted(terms), "bounds": bounds}
    return {**columns, "tenant": tenant} if layout.tenant else columns


def unit_length(vector: Float32Array) -> Float32Array:
    """The vector divided by its length, ``(dim,) float32``; zeros stay zeros."""
    wide = vector.astype(np.float64)
    wide /= np.abs(wide).max() or 1.0  # so that squares neither overflow nor vanish
    length = float(np.linalg.norm(wide))
    unit: Float32Array = (wide / (length or 1.0)).astype(np.float32)
    return unit


def payload_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of a row that was read with the column ``payload``."""
    payload: dict[str, Any] = _decode("".join(row["payload"]))[0]
    return payload


def sparse_of(row: Mapping[str, Any]) -> SparseVector:
    """The sparse vector of a row that was read with the column ``weights``."""
    data = base64.b64decode("".join(row["weights"]))
    size = len(data) // 8
    return SparseVector(np.frombuffer(data, "<u4", size).copy(), np.frombuffer(data, "<f4", size, 4 * size).copy())


def to_record(row: Mapping[str, Any]) -> Record:
    """The record of a row that was read with ``id``, ``dense``, ``payload`` and ``weights``."""
    return Record(str(row["id"]), np.asarray(row["dense"], dtype=np.float32), sparse_of(row), payload_of(row))


def _sparse_parts(vector: SparseVector) -> list[str]:
    data = vector.indices.astype("<u4").tobytes() + vector.values.astype("<f4").tobytes()
    text = base64.b64encode(data).decode()
    return [text[start : start + PART_BYTES] for start in range(0, len(text), PART_BYTES)]


def _text_parts(text: bytes) -> list[str]:
    """UTF-8 cut between characters into parts of at most ``PART_BYTES``."""
    parts: list[str] = []
    start = 0
    while start < len(text):
        end = min(start + PART_BYTES, len(text))
        while end < len(text) and text[end] & 0xC0 == 0x80:
            end -= 1
        parts.append(text[start:end].decode())
        start = end
    return parts


def batches(rows: Sequence[tuple[dict[str, Any], int]], max_rows: int, max_bytes: int) -> list[list[dict[str, Any]]]:
    """Rows in groups within both limits, in their order."""
    groups: list[list[dict[str, Any]]] = []
    room = 0
    for row, size in rows:
        if not groups or len(groups[-1]) >= max_rows or size > room:
            groups.append([])
            room = max_bytes
        groups[-1].append(row)
        room -= size
    return groups
