"""Reading a Milvus collection page by page in the order of ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ragstack.adapters.milvus_connection import Connection
from ragstack.adapters.milvus_errors import is_too_large
from ragstack.adapters.milvus_filters import EVERYTHING
from ragstack.adapters.milvus_records import Layout
from ragstack.adapters.milvus_schema import StoredSpec
from ragstack.errors import StoreError

STRONG = "Strong"


@dataclass(frozen=True)
class Collection:
    """A collection as it was described. ``at`` is its name in Milvus."""

    name: str
    at: str
    stored: StoredSpec

    @cached_property
    def layout(self) -> Layout:
        """How its rows are written."""
        return self.stored.layout

    def with_spec(self, stored: StoredSpec) -> Collection:
        """The same collection with another specification."""
        return replace(self, stored=stored)

    @staticmethod
    def touches(payload: Mapping[str, Any], added: Mapping[str, Any]) -> bool:
        """Whether a payload has a value of one of the fields."""
        return any(payload.get(name) is not None for name in added)


def query(
    connection: Connection, action: str, opened: Collection, expression: str, columns: Sequence[str], **options: Any
) -> list[dict[str, Any]]:
    """The rows that match, read with consistency Strong."""
    rows: list[dict[str, Any]] = connection.call(
        action,
        opened.name,
        lambda client, left: client.query(
            opened.at,
            filter=expression,
            output_fields=list(columns),
            consistency_level=STRONG,
            timeout=left,
            **options,
        ),
        opened.at,
    )
    return rows


def query_pages(
    connection: Connection, action: str, opened: Collection, expression: str, columns: Sequence[str], size: int
) -> Iterator[list[dict[str, Any]]]:
    """Every matching row once, in pages of at most ``size`` rows in the order of ids; no page is empty.

    A page whose answer is too large for server or client is asked for again in half the size.
    """
    last = ""
    while True:
        cursor = f'id > "{last}"'
        wanted = cursor if expression == EVERYTHING else f"({cursor} and {expression})"
        try:
            # What the driver's own iterator sends: rows come in the order of ids, and none is passed over where one
            # segment has run out and another has not. A page may then be short, so only an empty one is the last.
            rows = query(
                connection, action, opened, wanted, columns, limit=size, iterator="True", reduce_stop_for_best="True"
            )
        except StoreError as error:
            cause = error.__cause__
            if size == 1 or not isinstance(cause, Exception) or not is_too_large(cause):
                raise
            size = max(size // 2, 1)
            continue
        if not rows:
            return
        yield rows
        last = str(rows[-1]["id"])


def ids_in(ids: Sequence[str]) -> str:
    """The expression for a set of ids, which must have been checked."""
    quoted = ", ".join(f'"{one}"' for one in ids)
    return f"id in [{quoted}]"
