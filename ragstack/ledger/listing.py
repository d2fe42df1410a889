"""The sources of the active generation, page by page, read without the writer's lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ragstack.ledger.schema import FORMAT_VERSION, LEDGER_FILE, WHAT
from ragstack.ledger.spans import unpack_spans
from ragstack.sqlite import open_read_only, translated


@dataclass(frozen=True, slots=True)
class ListedSource:
    """One source as it is indexed. ``checked_at_ns``: when these bytes were read last (since the epoch).

    ``skipped`` says why it has no chunks, or is empty.
    """

    source_id: str
    source_version: str
    source_uri: str
    media_type: str
    size_bytes: int
    chunk_count: int
    checked_at_ns: int
    skipped: str


_COLUMNS = "source_id, source_version, source_uri, media_type, size_bytes, spans, checked_at_ns, skipped"


def list_sources(state_dir: Path, after: str, limit: int) -> list[ListedSource]:
    """Up to ``limit`` sources whose ids follow ``after`` ('' is before all), in the order of their ids.

    Empty where there is no index yet.
    """
    return _rows(state_dir, "source_id > ? ORDER BY source_id LIMIT ?", (after, limit))


def find_source(state_dir: Path, source_id: str) -> ListedSource | None:
    """The source with this id, or None when it is not indexed."""
    found = _rows(state_dir, "source_id = ?", (source_id,))
    return found[0] if found else None


def _rows(state_dir: Path, where: str, parameters: Sequence[object]) -> list[ListedSource]:
    path = state_dir / LEDGER_FILE
    if not path.exists():
        return []
    with translated(path, WHAT):
        connection = open_read_only(path, FORMAT_VERSION, what=WHAT)
        try:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM sources WHERE generation ="  # noqa: S608 - fixed text
                f" (SELECT generation FROM generations WHERE state='active') AND {where}",
                parameters,
            ).fetchall()
        finally:
            connection.close()
    return [
        ListedSource(source_id, version, uri, media_type, size, len(unpack_spans(spans)), checked, skipped)
        for source_id, version, uri, media_type, size, spans, checked, skipped in rows
    ]
