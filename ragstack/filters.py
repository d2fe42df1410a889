"""The filter grammar: one typed tree, compiled by each store adapter.

In JSON or YAML: ``{"field", "op", "value"}``, ``{"and": [...]}``, ``{"or": [...]}``, ``{"not": {...}}``.

=============================  ============================================================
op                             matches a record when
=============================  ============================================================
``eq`` / ``ne``                the field equals / does not equal the value
``in`` / ``nin``               the field is / is not one of the values
``gt`` ``gte`` ``lt`` ``lte``  the field compares so with the value (number or RFC 3339 date)
``exists``                     the field has a value (value true) or has none (value false)
``contains``                   the field is a list that has the value as a member
=============================  ============================================================

A missing field matches ``ne``, ``nin`` and whatever ``not`` negates to true, and never a comparison,
``eq``, ``in`` or ``contains``. An empty list counts as a missing field, and so does null. On a list,
``eq`` and ``in`` match when any member does; ``ne`` and ``nin`` are the negations of ``eq`` and ``in``;
comparisons match when any member does.

Fields have declared types, and :func:`bind_filter` checks a filter against them, so that every store
gives the same answer or the same error:

============  ======================================  ==============================  ============
type          stored values                           filter values                   comparisons
============  ======================================  ==============================  ============
``keyword``   strings, compared by code point         strings                         no
``integer``   integers of 64 bits, signed             numbers without a fraction;     yes
                                                      any number in comparisons
``float``     finite numbers that a double holds      the same                        yes
``bool``      true, false                             true, false                     no
``datetime``  RFC 3339: a date (its midnight in UTC)  the same; instants are equal,   yes
              or a time with an offset                not spellings; microseconds
============  ======================================  ==============================  ============
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Literal, TypeAlias, get_args

from ragstack.errors import FilterError, InputError

FieldType: TypeAlias = Literal["keyword", "integer", "float", "bool", "datetime"]
Op: TypeAlias = Literal["eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "exists", "contains"]
Scalar: TypeAlias = str | int | float | bool
OPS: tuple[str, ...] = get_args(Op)
COMPARISONS: tuple[str, ...] = ("gt", "gte", "lt", "lte")
FIELD_TYPES: tuple[str, ...] = get_args(FieldType)
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
_COMBINERS = ("and", "or", "not")
MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Condition:
    """A test of one field. ``value`` is a tuple for ``in`` and ``nin``, a bool for ``exists``, else a scalar."""

    field: str
    op: Op
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class And:
    """Every part matches; an empty ``And`` matches everything."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part matches; an empty ``Or`` matches nothing."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not match."""

    part: Filter


Filter: TypeAlias = Condition | And | Or | Not


def parse_filter(value: object, *, where: str = "filter") -> Filter:
    """Read a filter from its JSON form. Raises FilterError that names the place inside the filter."""
    return _parse(value, where, 0)


def _parse(value: object, where: str, depth: int) -> Filter:
    if depth > MAX_DEPTH:
        raise FilterError(f"{where}: nested deeper than {MAX_DEPTH} levels.", hint="Flatten the filter.")
    if not isinstance(value, Mapping):
        raise FilterError(
            f"{where}: expected an object, got {value!r}.",
            hint='Write {"field": ..., "op": ..., "value": ...} or {"and": [...]}, {"or": [...]}, {"not": {...}}.',
        )
    combiners = [key for key in _COMBINERS if key in value]
    if combiners:
        if len(value) != 1:
            raise FilterError(
                f"{where}: {combiners[0]!r} stands alone in its object; got keys {sorted(map(str, value))}."
            )
        key = combiners[0]
        if key == "not":
            return Not(_parse(value[key], f"{where}.not", depth + 1))
        parts = value[key]
        if not isinstance(parts, (list, tuple)):
            raise FilterError(f"{where}.{key}: expected a list of filters, got {parts!r}.")
        parsed = tuple(_parse(part, f"{where}.{key}[{i}]", depth + 1) for i, part in enumerate(parts))
        return And(parsed) if key == "and" else Or(parsed)
    return _parse_condition(value, where)


def _parse_condition(value: Mapping[Any, Any], where: str) -> Condition:
    if set(value) != {"field", "op", "value"}:
        raise FilterError(
            f"{where}: expected exactly the keys field, op and value; got {sorted(map(str, value))}.",
            hint=f"Operators: {', '.join(OPS)}.",
        )
    name, op, operand = value["field"], value["op"], value["value"]
    if not isinstance(name, str) or not name:
        raise FilterError(f"{where}.field: expected a field name, got {name!r}.")
    if op not in OPS:
        raise FilterError(f"{where}.op: unknown operator {op!r}.", hint=f"Operators: {', '.join(OPS)}.")
    if op in ("in", "nin"):
        if not isinstance(operand, (list, tuple)) or not all(_is_scalar(v) for v in operand):
            raise FilterError(f"{where}.value: {op!r} takes a list of strings, numbers or booleans; got {operand!r}.")
        return Condition(name, op, tuple(operand))
    if op == "exists":
        if not isinstance(operand, bool):
            raise FilterError(f"{where}.value: 'exists' takes true or false; got {operand!r}.")
    elif not _is_scalar(operand):
        raise FilterError(f"{where}.value: {op!r} takes one string, number or boolean; got {operand!r}.")
    elif op in COMPARISONS and isinstance(operand, bool):
        raise FilterError(f"{where}.value: {op!r} takes a number or a date; got {operand!r}.")
    return Condition(name, op, operand)


def _is_scalar(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, (str, int, bool))


def as_filter(filter: Filter | Mapping[str, Any] | None) -> Filter | None:
    """A filter that callers may give as a tree, in its JSON form, or not at all. Raises FilterError."""
    return filter if filter is None or isinstance(filter, (Condition, And, Or, Not)) else parse_filter(filter)


def filter_to_json(filter: Filter) -> dict[str, Any]:
    """The inverse of :func:`parse_filter`."""
    if isinstance(filter, Condition):
        value = list(filter.value) if isinstance(filter.value, tuple) else filter.value
        return {"field": filter.field, "op": filter.op, "value": value}
    if isinstance(filter, Not):
        return {"not": filter_to_json(filter.part)}
    return {"and" if isinstance(filter, And) else "or": [filter_to_json(part) for part in filter.parts]}


def conditions(filter: Filter) -> Iterator[Condition]:
    """Every condition in the tree, left to right."""
    if isinstance(filter, Condition):
        yield filter
    elif isinstance(filter, Not):
        yield from conditions(filter.part)
    else:
        for part in filter.parts:
            yield from conditions(part)


def all_of(*filters: Filter | None) -> Filter | None:
    """The conjunction of those that are not None; None when there is none."""
    parts = tuple(part for part in filters if part is not None)
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else And(parts)


def bind_filter(filter: Filter, fields: Mapping[str, FieldType]) -> Filter:
    """The filter with every value brought into the declared type of its field.

    Afterwards values are ``str`` (keyword), ``int`` (integer; may exceed 64 bits), ``float`` (float,
    never -0.0), ``bool`` (bool), or RFC 3339 text in UTC with six digits of a second (datetime). A
    comparison of an integer field with a fraction becomes the equal one with an integer.

    Raises FilterError for an undeclared field, a value of another type, and a comparison of a keyword
    or bool field.
    """
    if isinstance(filter, Condition):
        return _bind_condition(filter, fields)
    if isinstance(filter, Not):
        return Not(bind_filter(filter.part, fields))
    return replace(filter, parts=tuple(bind_filter(part, fields) for part in filter.parts))


def _bind_condition(condition: Condition, fields: Mapping[str, FieldType]) -> Condition:
    name, op, value = condition.field, condition.op, condition.value
    if name not in fields:
        declared = f"Declared fields: {', '.join(sorted(fields))}." if fields else "No fields are declared."
        raise FilterError(f"the filter names the field {name!r}, which is not declared.", hint=declared)
    if op == "exists":
        return condition
    type_ = fields[name]
    if op in COMPARISONS and type_ in ("keyword", "bool"):
        raise FilterError(
            f"{op!r} cannot compare the field {name!r}: it is declared {type_}.",
            hint="Comparisons need a field of type integer, float or datetime.",
        )
    try:
        if isinstance(value, tuple):
            return Condition(name, op, tuple(typed_value(type_, item) for item in value))
        if op in COMPARISONS and type_ == "integer" and isinstance(value, float):
            return Condition(name, op, math.floor(value) if op in ("gt", "lte") else math.ceil(value))
        return Condition(name, op, typed_value(type_, value))
    except ValueError as error:
        raise FilterError(f"the filter's value for the field {name!r} ({op}) is wrong: {error}.") from error


def typed_values(name: str, type_: FieldType, value: object) -> tuple[Scalar, ...]:
    """The members of a payload value of a declared field, in the form of :func:`bind_filter`; empty if missing.

    A scalar is its own only member. Raises InputError that names the field for a value of another type
    and for an integer beyond 64 bits.
    """
    if value is None:
        return ()
    # Most values by far, so that writing them costs little.
    if (type(value) is str and type_ == "keyword") or (type(value) is bool and type_ == "bool"):
        return (value,)
    if type(value) is int and type_ == "integer" and INT64_MIN <= value <= INT64_MAX:
        return (value,)
    members = value if isinstance(value, (list, tuple)) else (value,)
    try:
        typed = tuple([typed_value(type_, member) for member in members])
        for member in typed:
            if type_ == "integer" and isinstance(member, int) and not INT64_MIN <= member <= INT64_MAX:
                raise ValueError(f"{member} does not fit in 64 bits")
    except ValueError as error:
        raise InputError(
            f"the field {name!r} holds {_shown(value)}: {error}.",
            hint=f"It is declared {type_}: mend the value, or declare another type for the field.",
        ) from error
    return typed


def typed_value(type_: FieldType, value: object) -> Scalar:
    """``value`` in the form of :func:`bind_filter`; ValueError says why it is not of the type."""
    if type_ == "keyword" and isinstance(value, str):
        return value
    if type_ == "bool" and isinstance(value, bool):
        return value
    if type_ == "datetime" and isinstance(value, str):
        return _normalised_datetime(value)
    if type_ in ("integer", "float") and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _typed_integer(value) if type_ == "integer" else _typed_float(value)
    raise ValueError(f"{_shown(value)} is not of type {type_}")


def _typed_integer(value: int | float) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{value!r} is not an integer")
    return int(value)


def _typed_float(value: int | float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number != value:
        raise ValueError(f"{_shown(value)} is not a finite number that a double holds exactly")
    return number + 0.0  # -0.0 becomes 0.0: the two are equal, but not in every index


_DATETIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?([Zz]|[+-][0-9]{2}:[0-9]{2}))?"
)


def parse_datetime(text: str) -> datetime:
    """An RFC 3339 date (its midnight in UTC) or date and time with offset, as an aware datetime in UTC.

    Digits of a second beyond the sixth are cut. Raises ValueError for anything else.
    """
    found = _DATETIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{_shown(text)} is not an RFC 3339 date, such as 2024-05-31 or 2024-05-31T09:30:00Z")
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    microsecond = int((found[7] or "")[:6].ljust(6, "0"))
    offset = timedelta()
    if found[8] and found[8] not in "Zz":
        hours, minutes = int(found[8][1:3]), int(found[8][4:6])
        if hours > 23 or minutes > 59:
            raise ValueError(f"{_shown(text)} has an impossible offset")
        offset = timedelta(hours=hours, minutes=minutes) * (-1 if found[8][0] == "-" else 1)
    try:
        return datetime(year, month, day, hour, minute, second, microsecond, tzinfo=timezone.utc) - offset
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{_shown(text)} is not a date of the years 1 to 9999: {error}") from error


@lru_cache(maxsize=4096)  # the chunks of a document share its dates
def _normalised_datetime(text: str) -> str:
    return _utc_text(parse_datetime(text))


def _utc_text(instant: datetime) -> str:
    return f"{instant.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
