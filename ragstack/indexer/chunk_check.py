"""Comparing one stored chunk with what ledger and archive say of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ragstack.adapters.base import Record
from ragstack.archive.base import ArchivedDocument
from ragstack.embedding.bm25 import Bm25Encoder
from ragstack.indexer.findings import Faults
from ragstack.indexer.reuse import encode_stored
from ragstack.ledger.spans import StoredSpan, record_source_id
from ragstack.ledger.writer import SourceRow

_UNIT_TOLERANCE = 1e-3
_SPARSE_TOLERANCE = 1e-4


def compare_chunk(
    record: Record,
    row: SourceRow,
    span: StoredSpan,
    document: ArchivedDocument | None,
    newest_seq: int | None,
    faults: Faults,
    bm25: Bm25Encoder | None,
) -> None:
    """Note every way in which a stored chunk is not what was indexed.

    ``newest_seq`` is the last published commit group, or None while a group is open. With ``bm25`` the
    sparse vector is made again and compared, too.
    """
    expected = {
        "source_id": record_source_id(row.source_id, span.record),
        "source_version": row.source_version,
        "byte_start": span.byte_start,
        "byte_end": span.byte_end,
        "token_count": span.token_count,
        "parser": row.parser,
        "record": span.record,
        "media_type": row.media_type,
    }
    for name, value in expected.items():
        if record.payload.get(name) != value:
            faults.add("payload_wrong", record.id, f"{name} is {record.payload.get(name)!r}, not {value!r}")
    seq = commit_group(record.payload)
    if newest_seq is not None and not 0 < seq <= newest_seq:
        faults.add("payload_wrong", record.id, f"its commit group is {seq}, the last one published is {newest_seq}")
    if document is not None:
        stored = record.payload.get("text")
        archived = document.canonical_bytes[span.byte_start : span.byte_end]
        if not isinstance(stored, str) or stored.encode("utf-8", "surrogatepass") != archived:
            faults.add("text_wrong", record.id, f"bytes {span.byte_start} to {span.byte_end}")
    if not _is_unit(record):
        faults.add("vector_damaged", record.id, "its dense vector is not of length 1")
    sparse = record.sparse
    if not np.isfinite(sparse.values).all() or (sparse.values <= 0).any():
        faults.add("vector_damaged", record.id, "its sparse vector has impossible weights")
    elif bm25 is not None:
        made = encode_stored(bm25, record.payload)
        if not np.array_equal(made.vector.indices, sparse.indices) or not np.allclose(
            made.vector.values, sparse.values, atol=_SPARSE_TOLERANCE
        ):
            faults.add("vector_damaged", record.id, "its sparse vector is not that of its text")
        elif made.term_count != record.payload.get("term_count"):
            told = record.payload.get("term_count")
            faults.add("payload_wrong", record.id, f"term_count is {told!r}, not {made.term_count}")


def _is_unit(record: Record) -> bool:
    dense = record.dense.astype(np.float64)
    return bool(np.isfinite(dense).all()) and abs(float(np.sqrt(dense @ dense)) - 1) < _UNIT_TOLERANCE


def commit_group(payload: Any) -> int:
    """The commit group of a payload; 0 where it is not a number, which no group has."""
    value = payload.get("seq")
    return value if isinstance(value, int) else 0
