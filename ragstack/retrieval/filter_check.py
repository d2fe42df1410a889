"""Filters evaluated on one record in hand: whether it matches, and which conditions keep it out.

Stores do this for whole collections; here a single chunk's fields are known, and the question is about that chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ragstack.filters import And, Condition, FieldType, Filter, Not, typed_values


def matches(bound: Filter, payload: Mapping[str, Any], types: Mapping[str, FieldType]) -> bool:
    """Whether a record with this payload matches a filter that :func:`~ragstack.filters.bind_filter` has bound."""
    if isinstance(bound, Condition):
        return _matches(bound, payload.get(bound.field), types[bound.field])
    if isinstance(bound, Not):
        return not matches(bound.part, payload, types)
    parts = (matches(part, payload, types) for part in bound.parts)
    return all(parts) if isinstance(bound, And) else any(parts)


def _matches(condition: Condition, stored: Any, type_: FieldType) -> bool:
    # In this form equal instants are equal strings, and their order is that of the strings.
    members: tuple[Any, ...] = typed_values(condition.field, type_, stored)
    value: Any = condition.value
    outcome = {
        "exists": lambda: bool(members) is value,
        "eq": lambda: value in members,
        "ne": lambda: value not in members,
        "in": lambda: any(member in value for member in members),
        "nin": lambda: not any(member in value for member in members),
        "contains": lambda: isinstance(stored, (list, tuple)) and value in members,
        "gt": lambda: any(member > value for member in members),
        "gte": lambda: any(member >= value for member in members),
        "lt": lambda: any(member < value for member in members),
        "lte": lambda: any(member <= value for member in members),
    }
    return outcome[condition.op]()


def failing_conditions(bound: Filter, payload: Mapping[str, Any], types: Mapping[str, FieldType]) -> list[Condition]:
    """The conditions because of which a record with this payload does not match ``bound``, left to right.

    Empty when it matches, and for what no record can match (an empty ``or``). Of an ``or`` every part is told, since
    any one of them would do; of a ``not`` the conditions that hold and should not.
    """
    return _culprits(bound, payload, types, wanted=True)


def _culprits(
    bound: Filter, payload: Mapping[str, Any], types: Mapping[str, FieldType], *, wanted: bool
) -> list[Condition]:
    """The conditions that keep ``bound`` from giving ``wanted``."""
    if matches(bound, payload, types) is wanted:
        return []
    if isinstance(bound, Condition):
        return [bound]
    if isinstance(bound, Not):
        return _culprits(bound.part, payload, types, wanted=not wanted)
    return [found for part in bound.parts for found in _culprits(part, payload, types, wanted=wanted)]
