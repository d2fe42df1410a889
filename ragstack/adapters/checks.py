"""What every store checks before it writes or searches, so that all refuse the same with the same words. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

import numpy as np

from ragstack.adapters.base import CollectionSpec, Payload, Record
from ragstack.errors import CapabilityError, CollectionError, InputError
from ragstack.filters import FIELD_TYPES, Filter
from ragstack.types import Float32Array, SparseVector

_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def is_name(name: str) -> bool:
    """Whether ``name`` may name a collection."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> None:
    """InputError for what cannot be the name of a collection."""
    if not isinstance(name, str) or not is_name(name):
        raise InputError(
            f"{name!r} cannot be the name of a collection.",
            hint="Use 1 to 100 characters of a-z A-Z 0-9 . _ - that start with a letter or digit.",
        )


def check_spec(spec: CollectionSpec) -> None:
    """InputError for a collection of a wrong name, dimension or field type."""
    check_name(spec.name)
    if spec.dim < 1:
        raise InputError(f"a collection holds vectors of dimension 1 or more; got {spec.dim}.")
    for name, type_ in spec.fields.items():
        if type_ not in FIELD_TYPES:
            raise InputError(f"the field {name!r} has the type {type_!r}.", hint=f"Types: {', '.join(FIELD_TYPES)}.")


def check_growth(have: CollectionSpec, spec: CollectionSpec) -> None:
    """CollectionError unless the collection ``have`` can serve ``spec``: same dimension, no field of another type."""
    if have.dim != spec.dim:
        raise CollectionError(
            f"the collection {spec.name!r} holds vectors of dimension {have.dim}, not {spec.dim}.",
            hint="Another embedding model needs another collection.",
        )
    for name, type_ in spec.fields.items():
        if have.fields.get(name, type_) != type_:
            raise CollectionError(
                f"the collection {spec.name!r} has the field {name!r} as {have.fields[name]}, not {type_}.",
                hint="Keep the type, use another name, or rebuild the index: ragstack index --rebuild",
            )


def check_top_k(top_k: int, max_top_k: int) -> None:
    """InputError for a negative ``top_k``, CapabilityError for one above the store's."""
    if top_k < 0:
        raise InputError(f"top_k must be 0 or more; got {top_k}.")
    if top_k > max_top_k:
        raise CapabilityError(f"top_k is {top_k}; this store returns at most {max_top_k} hits.", hint="Ask for fewer.")


def check_query(vector: Float32Array, dim: int) -> None:
    """What :func:`check_dense` refuses, and InputError for a query vector of length 0."""
    if vector.shape == (dim,) and 0 < _squares(vector) < math.inf:
        return  # nearly all; what is left is large, tiny or wrong
    check_dense(vector, dim, "the query")
    if not vector.any():
        raise InputError("the query vector is all zeros, so no cosine is defined.")


def check_records(records: Sequence[Record], dim: int) -> None:
    """What :func:`check_record` refuses, for the first of the records that it refuses; fast where it refuses none."""
    if not _are_sound(records, dim):
        for record in records:
            check_record(record, dim)


def _are_sound(records: Sequence[Record], dim: int) -> bool:
    """Whether :func:`check_record` would let all of them pass, seen in a few operations on all of their vectors."""
    if not records:
        return True
    if {type(record.id) for record in records} != {str} or not all(_UUID.fullmatch(record.id) for record in records):
        return False
    if any(record.dense.shape != (dim,) for record in records):
        return False
    indices = [record.sparse.indices for record in records]
    values = [record.sparse.values for record in records]
    if any(one.ndim != 1 or one.shape != other.shape for one, other in zip(indices, values, strict=True)):
        return False
    joined = np.concatenate(indices)
    grows = joined[1:] > joined[:-1]
    starts = np.cumsum([len(one) for one in indices])[:-1]
    grows[starts[(starts > 0) & (starts < len(joined))] - 1] = True  # the next vector begins anew
    return bool(grows.all()) and _is_finite(np.concatenate(values)) and _is_finite(_joined_dense(records))


def _joined_dense(records: Sequence[Record]) -> Float32Array:
    return np.concatenate([record.dense for record in records])


def check_record(record: Record, dim: int) -> None:
    """InputError or CollectionError (dimension) that names the record, for a wrong id or vector."""
    check_ids([record.id])
    check_dense(record.dense, dim, f"record {record.id}")
    check_sparse(record.sparse, f"record {record.id}")


def check_ids(ids: Sequence[str]) -> list[str]:
    """The ids, when all are canonical UUIDs; InputError names the first that is not."""
    for id_ in ids:
        if not isinstance(id_, str) or _UUID.fullmatch(id_) is None:
            raise InputError(f"the record id {id_!r} is not a UUID in lower-case canonical form.")
    return list(ids)


def payload_text(payload: Payload, id_: str) -> str:
    """A payload as JSON; InputError names the record when it is not a JSON object."""
    for key in payload:
        if not isinstance(key, str):
            raise InputError(f"the payload of record {id_} has a key that is not a string.")
    try:
        text = _encode(payload if type(payload) is dict else dict(payload))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the payload of record {id_} is not JSON: {error}.") from error
    try:
        text.encode()
    except UnicodeEncodeError:
        # A lone surrogate is JSON only in its escaped form.
        return _encode_ascii(dict(payload))
    return text


def check_dense(vector: Float32Array, dim: int, where: str) -> None:
    """CollectionError for another shape than ``(dim,)``, InputError for NaN or infinite entries."""
    if vector.shape != (dim,):
        raise CollectionError(
            f"{where}: the dense vector has shape {vector.shape}; the collection holds vectors of dimension {dim}.",
            hint="Another embedding model needs another collection.",
        )
    if not _is_finite(vector):
        raise InputError(f"{where}: the dense vector holds NaN or infinite values.")


def check_sparse(vector: SparseVector, where: str) -> None:
    """InputError unless indices are sorted and unique and values finite, one for each index."""
    indices, values = vector.indices, vector.values
    if indices.ndim != 1 or indices.shape != values.shape:
        raise InputError(f"{where}: the sparse vector has {indices.shape} indices and {values.shape} values.")
    if len(indices) > 1 and not (indices[1:] > indices[:-1]).all():
        raise InputError(f"{where}: the indices of the sparse vector are not sorted and unique.")
    if not _is_finite(values):
        raise InputError(f"{where}: the sparse vector holds NaN or infinite values.")


def _is_finite(values: Float32Array) -> bool:
    # The sum of squares is finite when all are, but for large ones, and several times as fast to see.
    return math.isfinite(_squares(values)) or bool(np.isfinite(values).all())


def _squares(values: Float32Array) -> float:
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, which is what is asked
        return float(values.dot(values))


def check_batch_size(batch_size: int) -> None:
    """InputError for pages of no records."""
    if batch_size < 1:
        raise InputError(f"batch_size must be 1 or more; got {batch_size}.")


def check_ids_or_filter(ids: Sequence[str] | None, filter: Filter | None) -> None:
    """InputError unless exactly one says what to delete."""
    if (ids is None) == (filter is None):
        raise InputError("delete takes either ids or a filter.", hint="Pass exactly one of the two.")
