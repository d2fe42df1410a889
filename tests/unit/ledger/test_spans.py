"""Chunk spans as blobs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ragstack.ledger.spans import StoredSpan, pack_spans, record_source_id, span_chunk_ids, unpack_spans
from ragstack.types import chunk_id

RECORD = st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**6), st.integers(0, 512)), max_size=20)


@given(st.dictionaries(st.sampled_from(["", "0", "17"]), RECORD, max_size=3))
def test_round_trip(records: dict[str, list[tuple[int, int, int]]]) -> None:
    spans = [
        StoredSpan(record, start, start + length, tokens)
        for record, rows in records.items()
        for start, length, tokens in sorted(rows)
    ]
    assert unpack_spans(pack_spans(spans)) == spans


def test_ids_are_those_of_the_chunks() -> None:
    spans = [StoredSpan("", 0, 5, 1), StoredSpan("3", 7, 9, 1)]
    assert span_chunk_ids("docs/a.md", "f" * 64, spans, "p") == [
        chunk_id("docs/a.md", "f" * 64, 0, 5, "p"),
        chunk_id("docs/a.md#3", "f" * 64, 7, 9, "p"),
    ]
    assert record_source_id("a", "") == "a"
