"""Compiling the filter grammar to the filters of a Qdrant server, over the keys of ``qdrant_server_keys``. Pure.

The client's classes are the shapes of the REST interface; the client itself turns them into gRPC messages.
An empty ``should`` matches everything on a server, so "nothing" is an empty set of ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from qdrant_client import models

from ragstack.adapters.qdrant_server_keys import COARSE_BITS, MID_BITS, SAFE, FieldKeys, ordered
from ragstack.adapters.qdrant_values import LISTS_KEY, keyword
from ragstack.filters import INT64_MAX, INT64_MIN, And, Condition, Filter, Not, Scalar, parse_datetime

Clause: TypeAlias = "models.FieldCondition | models.HasIdCondition | models.IsEmptyCondition | models.Filter"
_LINES = 1 << (COARSE_BITS - MID_BITS)


def compile_filter(filter: Filter, fields: Mapping[str, FieldKeys]) -> models.Filter:
    """The server's form of a filter that ``bind_filter`` returned."""
    return models.Filter(must=[_clause(filter, fields)])


def _clause(filter: Filter, fields: Mapping[str, FieldKeys]) -> Clause:
    if isinstance(filter, Condition):
        return _condition(filter, fields[filter.field])
    if isinstance(filter, Not):
        return _not(_clause(filter.part, fields))
    parts = [_clause(part, fields) for part in filter.parts]
    return models.Filter(must=list(parts)) if isinstance(filter, And) else _any(parts)


def _condition(condition: Condition, keys: FieldKeys) -> Clause:  # noqa: PLR0911 - one for each kind of operator
    op, value = condition.op, condition.value
    if op == "exists":
        return _exists(keys) if value else _not(_exists(keys))
    if isinstance(value, tuple):
        found = _equals_any(keys, value)
        return _not(found) if op == "nin" else found
    if op in ("eq", "ne", "contains"):
        found = _equals_any(keys, (value,))
        if op == "contains":
            is_list = models.FieldCondition(key=LISTS_KEY, match=models.MatchValue(value=keys.main))
            return models.Filter(must=[found, is_list])
        return _not(found) if op == "ne" else found
    if keys.type_ == "datetime":
        instant = parse_datetime(str(value))
        return models.FieldCondition(key=keys.main, range=models.DatetimeRange(**{op: instant}))
    number = ordered(keys.type_, value)
    if op in ("gt", "gte"):
        return _at_least(keys, number + 1 if op == "gt" else number)
    return _at_most(keys, number - 1 if op == "lt" else number)


def _equals_any(keys: FieldKeys, values: Sequence[Scalar]) -> Clause:
    if keys.is_number:
        return _one_of(keys.main, [ordered(keys.type_, value) for value in values])
    if keys.type_ == "datetime":
        instants = [parse_datetime(str(value)) for value in values]
        return _any(
            [models.FieldCondition(key=keys.main, range=models.DatetimeRange(gte=at, lte=at)) for at in instants]
        )
    stored = [keyword(value) for value in values]
    return models.FieldCondition(key=keys.main, match=models.MatchAny(any=stored)) if stored else _nothing()


def _at_least(keys: FieldKeys, low: int) -> Clause:
    """Numbers from ``low`` on."""
    if low <= INT64_MIN:
        return _exists(keys)
    if low > INT64_MAX:
        return _nothing()
    if abs(low) <= SAFE:
        return _range(keys.main, gte=low)
    line, block = low >> MID_BITS, low >> COARSE_BITS
    parts: list[Clause] = [
        _range(keys.coarse, gte=block + 1),
        _one_of(keys.mid, range(line + 1, (block + 1) * _LINES)),
        _one_of(keys.main, range(low, (line + 1) << MID_BITS)),
    ]
    return _any([*parts, _range(keys.main, gte=-SAFE)] if low < 0 else parts)


def _at_most(keys: FieldKeys, high: int) -> Clause:
    """Numbers up to and including ``high``."""
    if high >= INT64_MAX:
        return _exists(keys)
    if high < INT64_MIN:
        return _nothing()
    if abs(high) <= SAFE:
        return _range(keys.main, lte=high)
    line, block = high >> MID_BITS, high >> COARSE_BITS
    parts: list[Clause] = [
        _range(keys.coarse, lte=block - 1),
        _one_of(keys.mid, range(block * _LINES, line)),
        _one_of(keys.main, range(line << MID_BITS, high + 1)),
    ]
    return _any([*parts, _range(keys.main, lte=SAFE)] if high > 0 else parts)


def _one_of(key: str, values: Sequence[int]) -> Clause:
    stored = [value for value in values if INT64_MIN <= value <= INT64_MAX]
    return models.FieldCondition(key=key, match=models.MatchAny(any=stored)) if stored else _nothing()


def _range(key: str, *, gte: int | None = None, lte: int | None = None) -> Clause:
    return models.FieldCondition(key=key, range=models.Range(gte=gte, lte=lte))


def _exists(keys: FieldKeys) -> Clause:
    return _not(models.IsEmptyCondition(is_empty=models.PayloadField(key=keys.main)))


def _any(parts: Sequence[Clause]) -> Clause:
    return models.Filter(should=list(parts)) if parts else _nothing()


def _not(part: Clause) -> Clause:
    return models.Filter(must_not=[part])


def _nothing() -> Clause:
    return models.HasIdCondition(has_id=[])
