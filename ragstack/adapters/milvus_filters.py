"""Compiling the filter grammar to Milvus expressions. Pure: no server, no I/O.

Filters are compiled over *derived keys* that the adapter writes beside each payload, all of them plain
ASCII, so no value of a user ever stands in an expression and nothing has to be quoted:

* ``terms``, an array of strings, has for each declared field with a value ``<key>:x``, for one whose value
  is a list ``<key>:l``, and ``<key>=<code>`` for each of its members;
* ``bounds``, a JSON object, has the least and greatest code of each field that can be compared:
  ``<key>a`` and ``<key>z``. A comparison matches when any member does, so these two decide it.

A *code* is a string in the order of the values: 64-bit integers and doubles as 16 hex digits, dates as
UTC text of fixed width. Keywords are never compared by order; their code is a hash of 128 bits, since
they may be longer than Milvus lets a string be. ``<key>`` is a hash of a field's name and type.

A missing field has neither terms nor bounds. Milvus versions differ in what ``not`` makes of a comparison
with a missing JSON key, so ``not`` is pushed down to ``terms``, which is never missing.
"""

from __future__ import annotations

import hashlib
import heapq
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from ragstack.filters import COMPARISONS, INT64_MAX, INT64_MIN, And, Condition, FieldType, Filter, Not, Scalar

EVERYTHING = 'id != ""'
NOTHING = 'id == ""'
_VALUES_PER_CALL = 1000
_INVERSE = {"gt": "lte", "gte": "lt", "lt": "gte", "lte": "gt"}
_SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


@dataclass(frozen=True, slots=True)
class FieldKey:
    """How a declared field is found in the derived keys. ``is_tenant``: its code is in the column ``tenant`` too.

    Conditions on the tenant are compiled like all others: ``tenant in [...]`` would let the server skip
    partitions, and the upsert of Milvus 2.3.5 was seen to put rows into partitions that are not their tenant's.
    """

    key: str
    type: FieldType
    is_tenant: bool = False


def field_keys(fields: Mapping[str, FieldType], tenant_field: str | None) -> dict[str, FieldKey]:
    """The keys of declared fields, by name."""
    return {
        name: FieldKey(
            hashlib.sha256(f"{name}\0{type_}".encode("utf-8", "surrogatepass")).hexdigest()[:12],
            type_,
            name == tenant_field,
        )
        for name, type_ in fields.items()
    }


def code(type_: FieldType, value: Scalar) -> str:
    """The code of a value that ``bind_filter`` or ``typed_values`` returned; integers must fit in 64 bits."""
    if type_ == "integer":
        return f"{int(value) - INT64_MIN:016x}"
    if type_ == "float":
        (bits,) = struct.unpack(">Q", struct.pack(">d", float(value)))
        return f"{bits ^ (2**64 - 1) if bits >> 63 else bits | 1 << 63:016x}"
    if type_ == "bool":
        return "t" if value else "f"
    if type_ == "datetime":
        return str(value)
    return hashlib.blake2b(str(value).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def compile_filter(filter: Filter, keys: Mapping[str, FieldKey]) -> str:
    """Milvus's expression of a filter that ``bind_filter`` returned."""
    return _compile(filter, keys, negated=False)[1]


def _compile(filter: Filter, keys: Mapping[str, FieldKey], *, negated: bool) -> tuple[int, str]:
    """Depth of the expression, and the expression, which can stand beside any operator."""
    if isinstance(filter, Condition):
        return _condition(filter, keys[filter.field], negated)
    if isinstance(filter, Not):
        return _compile(filter.part, keys, negated=not negated)
    parts = [_compile(part, keys, negated=negated) for part in filter.parts]
    conjunction = isinstance(filter, And) is not negated
    return _joined("and", parts, EVERYTHING) if conjunction else _joined("or", parts, NOTHING)


def _condition(condition: Condition, key: FieldKey, negated: bool) -> tuple[int, str]:
    op, value = condition.op, condition.value
    if op == "exists":
        return _exists(key, bool(value) is not negated)
    if op in COMPARISONS and not isinstance(value, tuple):
        return _compares(key, op, value, negated)
    values = value if isinstance(value, tuple) else (value,)
    if op == "contains":
        if key.is_tenant:  # never a list
            return _constant(negated)
        parts = [_one_of(key, values, negated), _has(f"{key.key}:l", negated)]
        return _joined("or" if negated else "and", parts, NOTHING)
    return _one_of(key, values, (op in ("ne", "nin")) is not negated)


def _compares(key: FieldKey, op: str, value: Scalar, negated: bool) -> tuple[int, str]:
    if key.type == "integer":
        number = int(value)
        if number > INT64_MAX or number < INT64_MIN:
            always = (op in ("lt", "lte")) is (number > INT64_MAX)
            return _exists(key, not negated) if always else _constant(negated)
    bound = "z" if op in ("gt", "gte") else "a"
    sign = _SIGNS[_INVERSE[op] if negated else op]
    compared = (1, f'bounds["{key.key}{bound}"] {sign} "{code(key.type, value)}"')
    return _joined("or", [compared, _exists(key, False)], NOTHING) if negated else compared


def _one_of(key: FieldKey, values: Iterable[Scalar], negated: bool) -> tuple[int, str]:
    """Whether any member of the field is among the values."""
    codes = sorted(
        {
            code(key.type, value)
            for value in values
            if key.type != "integer" or INT64_MIN <= int(value) <= INT64_MAX  # no record holds others
        }
    )
    if not codes:
        return _constant(negated)
    if len(codes) == 1:
        return _has(f"{key.key}={codes[0]}", negated)
    parts = []
    for start in range(0, len(codes), _VALUES_PER_CALL):
        quoted = ", ".join(f'"{key.key}={one}"' for one in codes[start : start + _VALUES_PER_CALL])
        parts.append(_maybe_not(f"array_contains_any(terms, [{quoted}])", negated))
    return _joined("and" if negated else "or", parts, NOTHING)


def _exists(key: FieldKey, wanted: bool) -> tuple[int, str]:
    return _has(f"{key.key}:x", not wanted)


def _has(term: str, negated: bool) -> tuple[int, str]:
    return _maybe_not(f'array_contains(terms, "{term}")', negated)


def _maybe_not(expression: str, negated: bool) -> tuple[int, str]:
    return (2, f"(not {expression})") if negated else (1, expression)


def _constant(value: bool) -> tuple[int, str]:
    return (1, EVERYTHING if value else NOTHING)


def _joined(operator: str, parts: Sequence[tuple[int, str]], empty: str) -> tuple[int, str]:
    """The parts joined by ``and`` or ``or``, shallowest first: the server refuses trees of about 50 levels."""
    if not parts:
        return (1, empty)
    order = count()
    heap = [(depth, next(order), text) for depth, text in parts]
    heapq.heapify(heap)
    while len(heap) > 1:
        (left_depth, _, left), (right_depth, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        heapq.heappush(heap, (max(left_depth, right_depth) + 1, next(order), f"({left} {operator} {right})"))
    return heap[0][0], heap[0][2]
