"""Compiling the filter grammar to Weaviate's filters. Pure: no client, no I/O.

Filters are compiled over *index properties* that the adapter writes beside each payload (see
``weaviate_records``): every value is a text of its own, tokenised as a whole, in a form whose order by bytes
is the order of the values. Weaviate's own numbers would not do: a list of integers is kept as 64-bit floats,
and dates lose digits. ``marks`` names the properties that have a value, and those whose value is a list, so
that neither needs the server's index of nulls.

A filter that matches everything or nothing whatever is stored never reaches the server.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

from weaviate.classes.query import Filter as Driver
from weaviate.collections.classes.filters import _Filters as DriverFilter

from ragstack.filters import INT64_MAX, INT64_MIN, And, Condition, FieldType, Filter, Not, Scalar

MARKS: Final = "marks"
"""Property that names, per record, the index properties with a value, and with ``LIST`` those that are lists."""
LIST: Final = "[]"
_LONGEST_READABLE = 200

Compiled: TypeAlias = "DriverFilter | Literal['everything', 'nothing']"
_EVERYTHING: Final = "everything"
_NOTHING: Final = "nothing"


def compile_filter(filter: Filter, keys: Mapping[str, tuple[str, FieldType]]) -> Compiled:
    """Weaviate's form of a filter that ``bind_filter`` returned, or that it matches everything or nothing.

    ``keys`` gives each field its index property and type.
    """
    if isinstance(filter, Condition):
        return _condition(filter, *keys[filter.field])
    if isinstance(filter, Not):
        return _not(compile_filter(filter.part, keys))
    parts = [compile_filter(part, keys) for part in filter.parts]
    return all_of(parts) if isinstance(filter, And) else any_of(parts)


def all_of(parts: Sequence[Compiled]) -> Compiled:
    """What matches every part."""
    if _NOTHING in parts:
        return _NOTHING
    real = [part for part in parts if not isinstance(part, str)]
    if not real:
        return _EVERYTHING
    return real[0] if len(real) == 1 else Driver.all_of(real)


def any_of(parts: Sequence[Compiled]) -> Compiled:
    """What matches at least one part."""
    if _EVERYTHING in parts:
        return _EVERYTHING
    real = [part for part in parts if not isinstance(part, str)]
    if not real:
        return _NOTHING
    return real[0] if len(real) == 1 else Driver.any_of(real)


def marked(*marks: str) -> DriverFilter:
    """Records with one of the marks."""
    return Driver.by_property(MARKS).contains_any(list(marks))


def _not(part: Compiled) -> Compiled:
    if isinstance(part, str):
        return _NOTHING if part == _EVERYTHING else _EVERYTHING
    return Driver.not_(part)


def _condition(condition: Condition, key: str, type_: FieldType) -> Compiled:
    op, value = condition.op, condition.value
    if op == "exists":
        return marked(key) if value else _not(marked(key))
    if isinstance(value, tuple):
        found = _equals_any(key, type_, value)
        return _not(found) if op == "nin" else found
    if op in ("eq", "ne", "contains"):
        found = _equals_any(key, type_, (value,))
        if op == "contains":
            return all_of([found, marked(key + LIST)])
        return _not(found) if op == "ne" else found
    return _compares(key, type_, op, value)


def _equals_any(key: str, type_: FieldType, values: Sequence[Scalar]) -> Compiled:
    stored = [index_key(type_, value) for value in values if not _beyond(type_, value)]
    return Driver.by_property(key).contains_any(stored) if stored else _NOTHING


def _compares(key: str, type_: FieldType, op: str, value: Scalar) -> Compiled:
    if _beyond(type_, value):
        above = int(value) > INT64_MAX
        return marked(key) if above == (op in ("lt", "lte")) else _NOTHING
    bound, by = index_key(type_, value), Driver.by_property(key)
    if op == "gt":
        return by.greater_than(bound)
    if op == "gte":
        return by.greater_or_equal(bound)
    return by.less_than(bound) if op == "lt" else by.less_or_equal(bound)


def _beyond(type_: FieldType, value: Scalar) -> bool:
    return type_ == "integer" and not INT64_MIN <= int(value) <= INT64_MAX


def index_key(type_: FieldType, value: Scalar) -> str:
    """The indexed form of a value as ``bind_filter`` gives it.

    Equal values have equal forms and others different ones; of numbers and dates the forms have their order.
    Keywords stand between ``=`` signs, because the server trims blanks; what is long or cannot be printed
    (NULs, lone surrogates) is indexed by its SHA-256.
    """
    if type_ == "integer":
        return f"{int(value) - INT64_MIN:016x}"
    if type_ == "float":
        return _float_key(float(value))
    if type_ == "bool":
        return "true" if value else "false"
    if type_ == "datetime":
        return str(value)  # UTC with six digits of a second: of fixed width
    text = str(value)
    if text.isprintable() and len(text) <= _LONGEST_READABLE:
        return f"={text}="
    return "#" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _float_key(value: float) -> str:
    (bits,) = struct.unpack(">Q", struct.pack(">d", value + 0.0))
    ordered = bits ^ (2**64 - 1) if bits >> 63 else bits | 1 << 63
    return f"{ordered:016x}"
