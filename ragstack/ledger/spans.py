"""Chunk spans of one source version as a blob: what the ledger keeps to name its chunks again."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from ragstack.errors import IndexFormatError
from ragstack.types import chunk_id


class StoredSpan(NamedTuple):
    """One chunk of a source version. ``record`` is the index of the record inside a container, or empty."""

    record: str
    byte_start: int
    byte_end: int
    token_count: int


def pack_spans(spans: Sequence[StoredSpan]) -> bytes:
    """Compress spans: one JSON list per record, positions as differences to the span before."""
    records: dict[str, list[int]] = {}
    last: dict[str, int] = {}
    for span in spans:
        row = records.setdefault(span.record, [])
        row += [span.byte_start - last.get(span.record, 0), span.byte_end - span.byte_start, span.token_count]
        last[span.record] = span.byte_start
    return zlib.compress(json.dumps(records, separators=(",", ":")).encode(), 6)


def unpack_spans(blob: bytes) -> list[StoredSpan]:
    """The inverse of :func:`pack_spans`. Raises IndexFormatError for bytes that it did not write."""
    spans = []
    try:
        for record, row in json.loads(zlib.decompress(blob)).items():
            position = 0
            for i in range(0, len(row), 3):
                position += row[i]
                spans.append(StoredSpan(record, position, position + row[i + 1], row[i + 2]))
    except (zlib.error, ValueError, TypeError, AttributeError, IndexError) as error:
        raise IndexFormatError(
            f"the ledger is damaged: the chunk positions of a source cannot be read ({error}).",
            hint="Delete the state directory and run `ragstack index PATH` again; the sources are not touched.",
        ) from error
    return spans


def span_chunk_ids(source_id: str, source_version: str, spans: Sequence[StoredSpan], fingerprint: str) -> list[str]:
    """The chunk ids of a source version, in the order of its spans."""
    return [
        chunk_id(record_source_id(source_id, span.record), source_version, span.byte_start, span.byte_end, fingerprint)
        for span in spans
    ]


def record_source_id(source_id: str, record: str) -> str:
    """The ``source_id`` of a record inside a container; the container's own where ``record`` is empty."""
    return f"{source_id}#{record}" if record else source_id
