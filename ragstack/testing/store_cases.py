"""Records, payloads and filters that try a vector store: what the conformance suite feeds it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ragstack.adapters.base import CollectionSpec, FieldType, Record
from ragstack.filters import And, Condition, Filter, Not, Op, Or
from ragstack.types import Float32Array, SparseVector

DIM = 8
FIELDS: Mapping[str, FieldType] = {
    "keyword": "keyword",
    "integer": "integer",
    "float": "float",
    "bool": "bool",
    "datetime": "datetime",
    'a.b[] "c" é': "keyword",
}
"""One field of each type, and one whose name is a puzzle for stores that read names as paths."""

SPEC = CollectionSpec("main", DIM, FIELDS)

_BIG = 2**53
VALUES: Mapping[FieldType, Sequence[Any]] = {
    "keyword": ["", "a", "A", "b", "a b", "é", "e\u0301", "日本", "🜚", '"', "'", "\\", "a.b", "*", "null", "true", "1",
                "\0", "\0\"a\"", "\ud800", "x" * 5000],
    "integer": [0, 1, -1, 2, 7, 100, _BIG - 1, _BIG, _BIG + 1, _BIG + 2, -_BIG - 1, 2**62, 2**62 + 1, 2**62 + 513,
                2**63 - 1, 2**63 - 2, 2**63 - 1024, -(2**63), -(2**63) + 1, 1_700_000_000_123_456_789],
    "float": [0.0, -0.0, 1.0, -1.0, 0.1, 0.1 + 0.2, 0.3, 1e-300, 5e-324, -5e-324, 1e308, 1, 7, float(_BIG)],
    "bool": [True, False],
    "datetime": ["2024-05-31", "2024-05-31T00:00:00Z", "2024-05-31T02:00:00+02:00", "2024-05-31T00:00:00.000001Z",
                 "2024-05-30T23:59:59.999999Z", "1969-12-31T23:59:59.5Z", "0001-01-01", "9999-12-31T23:59:59.999999Z",
                 "2024-05-31t00:00:00.1234567z"],
}  # fmt: skip


def record_id(number: int) -> str:
    """A UUID whose order is not that of ``number``."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))


def make_record(
    number: int,
    payload: Mapping[str, Any] | None = None,
    *,
    dense: Sequence[float] | Float32Array | None = None,
    sparse: Mapping[int, float] | None = None,
    dim: int = DIM,
) -> Record:
    """A record with a random vector that depends on ``number`` alone, unless ``dense`` is given."""
    vector = np.random.default_rng(number).normal(size=dim) if dense is None else dense
    return Record(record_id(number), np.asarray(vector, dtype=np.float32), make_sparse(sparse or {}), payload or {})


def numbered(number: int) -> Record:
    """A record with ``integer`` ``number``, one of three keywords and the sparse term ``number % 7``."""
    payload = {"integer": number, "keyword": f"k{number % 3}"}
    return make_record(number, payload, sparse={number % 7: 1.0 + number / 40})


def make_sparse(weights: Mapping[int, float]) -> SparseVector:
    """A sparse vector from index to weight."""
    indices = sorted(weights)
    return SparseVector(
        np.array(indices, dtype=np.uint32), np.array([weights[index] for index in indices], dtype=np.float32)
    )


def random_sparse(rng: np.random.Generator, terms: int, vocabulary: int) -> SparseVector:
    """``terms`` random positive weights."""
    indices = np.sort(rng.choice(vocabulary, size=terms, replace=False)).astype(np.uint32)
    return SparseVector(indices, rng.uniform(0.1, 3.0, size=terms).astype(np.float32))


def clustered(rng: np.random.Generator, count: int, dim: int, clusters: int) -> Float32Array:
    """``(count, dim) float32`` vectors around ``clusters`` centres: more like embeddings than white noise."""
    centres = rng.normal(size=(clusters, dim))
    return (centres[rng.integers(0, clusters, count)] + 0.6 * rng.normal(size=(count, dim))).astype(np.float32)


def payload_population() -> list[dict[str, Any]]:
    """Payloads with each value of each type alone, in lists of one and two, missing, null and empty."""
    population: list[dict[str, Any]] = [{}]
    for name, type_ in FIELDS.items():
        values = VALUES[type_]
        population += [{name: None}, {name: []}]
        population += [{name: value} for value in values]
        population += [{name: [value]} for value in values]
        population += [{name: [value, values[0]]} for value in values]
    rng = np.random.default_rng(7)
    for _ in range(60):
        chosen = {name: VALUES[type_][int(rng.integers(len(VALUES[type_])))] for name, type_ in FIELDS.items()}
        population.append({name: value for name, value in chosen.items() if rng.random() < 0.8})
    return population


def payloads() -> st.SearchStrategy[dict[str, Any]]:
    """Payloads with any subset of :data:`FIELDS`: scalars, lists, null."""
    parts = {}
    for name, type_ in FIELDS.items():
        scalar = field_values(type_)
        parts[name] = scalar | st.none() | st.lists(scalar, max_size=3)
    return st.fixed_dictionaries({}, optional=parts)


def payload_lists() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Up to six payloads."""
    return st.lists(payloads(), max_size=6)


def field_values(type_: FieldType) -> st.SearchStrategy[Any]:
    """Values that a field of the type may hold, edge cases first."""
    known = st.sampled_from(list(VALUES[type_]))
    if type_ == "keyword":
        return known | st.text(max_size=5)
    if type_ == "integer":
        return known | st.integers(-(2**63), 2**63 - 1)
    if type_ == "float":
        return known | st.floats(allow_nan=False, allow_infinity=False)
    return known


def every_condition() -> Iterator[Condition]:
    """Each operator that takes one value, on each field, with each of its :data:`VALUES`."""
    for name, type_ in FIELDS.items():
        ops: list[Op] = ["eq", "contains"]
        if type_ in ("integer", "float", "datetime"):
            ops += ["gt", "gte", "lt", "lte"]
        for op in ops:
            for value in VALUES[type_]:
                yield Condition(name, op, value)


def filters(fields: Mapping[str, FieldType] = FIELDS) -> st.SearchStrategy[Filter]:
    """Valid filters over ``fields``: every operator that each type allows, nested."""
    conditions = st.one_of([_conditions(name, type_) for name, type_ in fields.items()])
    return st.recursive(
        conditions,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda parts: And(tuple(parts))),
            st.lists(inner, max_size=3).map(lambda parts: Or(tuple(parts))),
            inner.map(Not),
        ),
        max_leaves=6,
    )


def _conditions(name: str, type_: FieldType) -> st.SearchStrategy[Filter]:
    values = field_values(type_)
    if type_ == "integer":
        values = values | st.integers(-(2**65), 2**65)
    forms: list[st.SearchStrategy[Filter]] = [
        st.builds(Condition, st.just(name), st.sampled_from(["eq", "ne", "contains"]), values),
        st.builds(Condition, st.just(name), st.sampled_from(["in", "nin"]), st.lists(values, max_size=3).map(tuple)),
        st.builds(Condition, st.just(name), st.just("exists"), st.booleans()),
    ]
    if type_ in ("integer", "float", "datetime"):
        bounds = values | st.floats(-1e19, 1e19) if type_ == "integer" else values
        forms.append(st.builds(Condition, st.just(name), st.sampled_from(["gt", "gte", "lt", "lte"]), bounds))
    return st.one_of(forms)
