"""Declared metadata fields: from what a document declares to what the store filters by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, timezone
from typing import Any

from ragstack.config.models import FieldConfig
from ragstack.errors import SourceError
from ragstack.types import FieldValue


def field_values(metadata: Mapping[str, Any], declared: Mapping[str, FieldConfig]) -> dict[str, FieldValue]:
    """The declared fields that ``metadata`` has, in their declared types; lists stay lists.

    Raises SourceError for a value that is not of the declared type: leaving it out would make
    filters miss the document without a word.
    """
    values: dict[str, FieldValue] = {}
    for name, config in declared.items():
        value = metadata.get(name)
        if value is None or value == []:
            continue
        convert = _CONVERTERS[config.type]
        try:
            values[name] = [convert(item) for item in value] if isinstance(value, list) else convert(value)
        except (TypeError, ValueError) as error:
            raise SourceError(
                f"the metadata field {name!r} is declared as {config.type}, but the document has {value!r}.",
                hint="Mend the document's front matter or the `fields` of the config.",
            ) from error
    return values


def _keyword(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise TypeError


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise TypeError
    return value


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return float(value)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _datetime(value: Any) -> str:
    """RFC 3339 in UTC; a date is its first instant, a time without zone is UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value.replace("Z", "+00:00"))
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise TypeError
    aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
    return aware.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "keyword": _keyword,
    "integer": _integer,
    "float": _float,
    "bool": _bool,
    "datetime": _datetime,
}
