"""What is written beside each payload on a Qdrant server, so that filters mean there what the grammar says. Pure.

Each declared field has a payload key of its own, made of its name and type. Keywords, booleans and dates are
written as they are compared. Numbers need care: a server takes the bounds of a range as 64-bit floats, and
reads JSON numbers with fractions or many digits only to within their last bit. So an integer stands for
itself, a float for the integer that orders it among all floats (the bits of a double do), and ranges are
only ever asked for with bounds up to 2**49, which come through in every form. For larger numbers two coarser
keys are written too, the number shifted right by 7 and by 14 bits: a comparison is then a range of the
coarsest, and at most 127 and 128 values of the finer ones, each of them a statement about one member of a list.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ragstack.adapters.base import Payload
from ragstack.adapters.qdrant_values import LISTS_KEY, keyword
from ragstack.errors import InputError
from ragstack.filters import FIELD_TYPES, FieldType, Scalar, typed_values

SAFE = 2**49
"""Bounds of ranges up to this magnitude are exact whatever way they take to the server."""
MID_BITS, COARSE_BITS = 7, 14
_LONGEST_NAME_HEX = 120  # the server makes folder names of keys
_MARK = "ragstack_format"
FORMAT = 1
FORMAT_KEY = f"{_MARK}_{FORMAT}"


@dataclass(frozen=True, slots=True)
class FieldKeys:
    """Where one field is indexed.

    ``mid`` and ``coarse`` hold the numbers beyond ``SAFE``, shifted right by ``MID_BITS`` and ``COARSE_BITS``;
    they are empty for other types.
    """

    type_: FieldType
    main: str
    mid: str = ""
    coarse: str = ""

    @property
    def is_number(self) -> bool:
        """Whether the field is compared as an ordered integer."""
        return self.mid != ""

    def indexes(self) -> dict[str, str]:
        """The payload indexes that filters on this field need: type by key."""
        if self.is_number:
            return {self.main: "integer", self.mid: "integer", self.coarse: "integer"}
        return {self.main: "datetime" if self.type_ == "datetime" else "keyword"}


def field_keys(name: str, type_: FieldType) -> FieldKeys:
    """The keys of a field; they depend on name and type alone."""
    data = name.encode("utf-8", "surrogatepass")
    told = data.hex()
    if len(told) > _LONGEST_NAME_HEX:
        told = f"h{hashlib.sha256(data).hexdigest()}"
    main = f"f_{type_}_{told}"
    if type_ in ("integer", "float"):
        return FieldKeys(type_, main, mid=f"m{main[1:]}", coarse=f"c{main[1:]}")
    return FieldKeys(type_, main)


def all_keys(fields: Mapping[str, FieldType]) -> dict[str, FieldKeys]:
    """The keys of each field."""
    return {name: field_keys(name, type_) for name, type_ in fields.items()}


def described(fields: Mapping[str, FieldType]) -> dict[str, Any]:
    """What a collection's metadata say of its fields: one entry each, so that entries of two writers merge."""
    # JSON text in ASCII: a name may hold lone surrogates, which no request can carry.
    return {field_keys(name, type_).main: json.dumps(name) for name, type_ in fields.items()}


def fields_of_metadata(metadata: Mapping[str, Any]) -> dict[str, FieldType]:
    """The inverse of :func:`described`; other entries are passed over."""
    fields = {}
    for key, told in metadata.items():
        type_ = _type_in(key)
        if type_ is not None and isinstance(told, str):
            fields[str(json.loads(told))] = type_
    return fields


def fields_of_indexes(keys: Iterable[str]) -> dict[str, FieldType]:
    """The fields whose names can be read from the keys of payload indexes."""
    fields = {}
    for key in keys:
        type_ = _type_in(key)
        told = key.rpartition("_")[2]
        if type_ is not None and not told.startswith("h"):
            fields[bytes.fromhex(told).decode("utf-8", "surrogatepass")] = type_
    return fields


def has_readable_key(name: str) -> bool:
    """Whether :func:`fields_of_indexes` gives the field back."""
    return not field_keys(name, "keyword").main.rpartition("_")[2].startswith("h")


def _type_in(key: str) -> FieldType | None:
    role, _, rest = key.partition("_")
    type_ = rest.partition("_")[0]
    return cast(FieldType, type_) if role == "f" and type_ in FIELD_TYPES else None


def format_key_of(keys: Iterable[str]) -> str | None:
    """The key that tells the format, among those of payload indexes; None without one."""
    return next((key for key in keys if key.startswith(_MARK)), None)


def ordered(type_: FieldType, value: Scalar) -> int:
    """A number as an integer that compares as it does; of 64 bits, signed, for every float."""
    if type_ == "integer":
        return int(value)
    (bits,) = struct.unpack("<q", struct.pack("<d", abs(float(value))))
    return int(bits) if float(value) >= 0 else -int(bits)


def index_values(payload: Payload, id_: str, fields: Mapping[str, FieldKeys]) -> dict[str, Any]:
    """The keys and values of one payload; InputError names the record and a field whose value is of another type."""
    values: dict[str, Any] = {}
    lists = []
    for name, keys in fields.items():
        value = payload.get(name)
        if value is None:
            continue
        try:
            members = typed_values(name, keys.type_, value)
        except InputError as error:
            raise InputError(f"record {id_}: {error.message}", hint=error.hint) from error
        if isinstance(value, (list, tuple)):
            lists.append(keys.main)
        if not members:
            continue
        if keys.is_number:
            numbers = [ordered(keys.type_, member) for member in members]
            values[keys.main] = _stored(numbers)
            large = [number for number in numbers if not -SAFE <= number <= SAFE]
            if large:
                values[keys.mid] = _stored([number >> MID_BITS for number in large])
                values[keys.coarse] = _stored([number >> COARSE_BITS for number in large])
        elif keys.type_ == "datetime":
            values[keys.main] = _stored(members)
        else:
            values[keys.main] = _stored([keyword(member) for member in members])
    if lists:
        values[LISTS_KEY] = lists
    return values


def _stored(members: Sequence[Scalar]) -> Scalar | list[Scalar]:
    """A list of one means the same to an index as its member, and takes longer on every way there."""
    return members[0] if len(members) == 1 else list(members)
