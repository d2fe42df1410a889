"""Compiling the filter grammar to Qdrant's filters. Pure: no shard, no I/O.

Filters are compiled over *index keys* that the adapter writes beside each payload (see
``qdrant_records``), in which every value has the form of ``bind_filter``. Three facts of the driver
shape the rules:

* a range takes 64-bit floats, although an integer index compares integers: a bound that no double
  holds is met by the nearest one beyond it plus the integers in between, which are at most 1023;
* ``MatchValue(True)`` is read as the integer 1, so booleans are stored as keywords;
* an empty ``should`` matches everything, so "nothing" is an empty set of ids.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import qdrant_edge as qdrant

from ragstack.adapters.qdrant_values import LISTS_KEY, keyword
from ragstack.filters import (
    INT64_MAX,
    INT64_MIN,
    And,
    Condition,
    FieldType,
    Filter,
    Not,
    Scalar,
)

Clause: TypeAlias = "qdrant.FieldCondition | qdrant.HasIdCondition | qdrant.IsEmptyCondition | qdrant.Filter"


def compile_filter(filter: Filter, keys: Mapping[str, tuple[str, FieldType]]) -> qdrant.Filter:
    """Qdrant's form of a filter that ``bind_filter`` returned. ``keys`` gives each field its index key and type."""
    clause = _clause(filter, keys)
    return clause if isinstance(clause, qdrant.Filter) else qdrant.Filter(must=[clause])


def _clause(filter: Filter, keys: Mapping[str, tuple[str, FieldType]]) -> Clause:
    if isinstance(filter, Condition):
        return _condition(filter, *keys[filter.field])
    if isinstance(filter, Not):
        return _not(_clause(filter.part, keys))
    parts = [_clause(part, keys) for part in filter.parts]
    return _all(parts) if isinstance(filter, And) else _any(parts)


def _condition(condition: Condition, key: str, type_: FieldType) -> Clause:
    op, value = condition.op, condition.value
    if op == "exists":
        empty = qdrant.IsEmptyCondition(key)
        return _not(empty) if value else empty
    if isinstance(value, tuple):
        found = _equals_any(key, type_, value)
        return _not(found) if op == "nin" else found
    if op in ("eq", "ne", "contains"):
        found = _equals_any(key, type_, (value,))
        if op == "contains":
            return _all([found, qdrant.FieldCondition(LISTS_KEY, match=qdrant.MatchValue(key))])
        return _not(found) if op == "ne" else found
    return _compares(key, type_, op, value)


def _equals_any(key: str, type_: FieldType, values: Sequence[Scalar]) -> Clause:
    if type_ == "float":
        return _any([_float_range(key, gte=float(value), lte=float(value)) for value in values])
    if type_ == "datetime":
        return _any([_date_range(key, gte=str(value), lte=str(value)) for value in values])
    if type_ == "integer":
        return _one_of(key, [int(value) for value in values])
    stored = [keyword(value) for value in values]
    return qdrant.FieldCondition(key, match=qdrant.MatchAny(stored)) if stored else _nothing()


def _compares(key: str, type_: FieldType, op: str, value: Scalar) -> Clause:
    if type_ == "datetime":
        return _date_range(key, **{op: str(value)})
    if type_ == "float":
        return _float_range(key, **{op: float(value)})
    bound = int(value)
    if op in ("gt", "gte"):
        return _from(key, bound + 1 if op == "gt" else bound)
    return _up_to(key, bound - 1 if op == "lt" else bound)


def _from(key: str, low: int) -> Clause:
    """Integers from ``low`` on."""
    if low <= INT64_MIN:
        return _not(qdrant.IsEmptyCondition(key))
    if low > INT64_MAX:
        return _nothing()
    bound = float(low)
    if bound < low:
        bound = math.nextafter(bound, math.inf)
    beyond = [_float_range(key, gte=bound)] if bound <= INT64_MAX else []
    between = range(low, min(int(bound), INT64_MAX + 1))
    return _any([*beyond, *([_one_of(key, between)] if between else [])])


def _up_to(key: str, high: int) -> Clause:
    """Integers up to and including ``high``."""
    if high >= INT64_MAX:
        return _not(qdrant.IsEmptyCondition(key))
    if high < INT64_MIN:
        return _nothing()
    bound = float(high)
    if bound > high:
        bound = math.nextafter(bound, -math.inf)
    between = range(int(bound) + 1, high + 1)
    return _any([_float_range(key, lte=bound), *([_one_of(key, between)] if between else [])])


def _one_of(key: str, values: Sequence[int]) -> Clause:
    stored = [value for value in values if INT64_MIN <= value <= INT64_MAX]
    return qdrant.FieldCondition(key, match=qdrant.MatchAny(stored)) if stored else _nothing()


def _float_range(
    key: str, *, gt: float | None = None, gte: float | None = None, lt: float | None = None, lte: float | None = None
) -> Clause:
    return qdrant.FieldCondition(key, range=qdrant.RangeFloat(gt=gt, gte=gte, lt=lt, lte=lte))


def _date_range(
    key: str, *, gt: str | None = None, gte: str | None = None, lt: str | None = None, lte: str | None = None
) -> Clause:
    return qdrant.FieldCondition(key, range=qdrant.RangeDateTime(gt=gt, gte=gte, lt=lt, lte=lte))


def _all(parts: Sequence[Clause]) -> Clause:
    return qdrant.Filter(must=list(parts))


def _any(parts: Sequence[Clause]) -> Clause:
    if len(parts) == 1:
        return parts[0]
    return qdrant.Filter(should=list(parts)) if parts else _nothing()


def _not(part: Clause) -> Clause:
    return qdrant.Filter(must_not=[part])


def _nothing() -> Clause:
    return qdrant.HasIdCondition(set())
