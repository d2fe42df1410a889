"""What a filter means, in plain Python: the reference that stores are compared with.

It evaluates the grammar of ``ragstack.filters`` straight from its docstring, on raw payload values, and
shares no code with the compilers of the adapters.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from ragstack.filters import And, Condition, FieldType, Filter, Not, parse_datetime

_COMPARE = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def matches(filter: Filter, payload: Mapping[str, Any], fields: Mapping[str, FieldType]) -> bool:
    """Whether a payload matches. ``fields`` tells dates from other strings; nothing is checked against it."""
    if isinstance(filter, Condition):
        return _condition(filter, payload.get(filter.field), fields[filter.field])
    if isinstance(filter, Not):
        return not matches(filter.part, payload, fields)
    found = [matches(part, payload, fields) for part in filter.parts]
    return all(found) if isinstance(filter, And) else any(found)


def _condition(condition: Condition, stored: Any, type_: FieldType) -> bool:
    is_list = isinstance(stored, (list, tuple))
    raw = stored if is_list else [] if stored is None else [stored]
    members = [_comparable(member, type_) for member in raw]
    op, value = condition.op, condition.value
    if op == "exists":
        return bool(members) is value
    if op in ("in", "nin"):
        assert isinstance(value, tuple)
        found = any(member == _comparable(wanted, type_) for member in members for wanted in value)
        return found if op == "in" else not found
    wanted = _comparable(value, type_)
    if op in _COMPARE:
        return any(_COMPARE[op](member, wanted) for member in members)
    found = any(member == wanted for member in members)
    if op == "contains":
        return is_list and found
    return found if op == "eq" else not found


def _comparable(value: Any, type_: FieldType) -> Any:
    return parse_datetime(value) if type_ == "datetime" else value
