"""Positions: from canonical bytes to raw bytes, for identity maps, wide encodings and escapes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.source_map import ByteRange, Segment, SourceMap


def utf16_map(text: str) -> SourceMap:
    """The map of a UTF-16-LE source without BOM: one segment for each character."""
    segments = []
    canonical = raw = 0
    for character in text:
        width, raw_width = len(character.encode()), len(character.encode("utf-16-le"))
        segments.append(Segment(canonical, canonical + width, raw, raw + raw_width, width, raw_width))
        canonical, raw = canonical + width, raw + raw_width
    return SourceMap(tuple(segments))


def test_identity_with_bom_shifts_by_three() -> None:
    span = SourceMap.identity(10, source_start=3).locate(2, 7)
    assert span.source_ranges == (ByteRange(5, 10),)
    assert span.source_verbatim


def test_empty_document_has_no_segments() -> None:
    assert SourceMap.identity(0).segments == ()
    assert SourceMap.identity(0).locate(0, 0).source_ranges == ()


@given(st.text(min_size=1, max_size=40, alphabet=st.characters(exclude_categories=["Cs"])), st.data())
def test_utf16_ranges_decode_to_the_text(text: str, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(text) - 1))
    last = data.draw(st.integers(first + 1, len(text)))
    raw, canonical = text.encode("utf-16-le"), text.encode()
    start, end = len(text[:first].encode()), len(text[:last].encode())
    span = utf16_map(text).locate(start, end)
    joined = "".join(raw[r.byte_start : r.byte_end].decode("utf-16-le") for r in span.source_ranges)
    assert joined == canonical[start:end].decode()
    assert span.source_verbatim
    assert len(span.source_ranges) == 1, "adjacent ranges are joined"


def test_run_of_equal_characters_is_arithmetic() -> None:
    # Three CJK characters in UTF-16: 3 canonical bytes for each 2 raw bytes.
    run = SourceMap((Segment(0, 9, 100, 106, 3, 2),))
    assert run.locate(3, 6).source_ranges == (ByteRange(102, 104),)


def test_escape_is_widened_to_its_unit_and_not_verbatim() -> None:
    # "a&amp;b" -> "a&b"
    escaped = SourceMap((Segment(0, 1, 0, 1), Segment(1, 2, 1, 6, 1, 5, verbatim=False), Segment(2, 3, 6, 7)))
    span = escaped.locate(0, 3)
    assert span.source_ranges == (ByteRange(0, 7),)
    assert not span.source_verbatim
    assert escaped.locate(2, 3).source_verbatim


def test_cut_inside_a_unit_is_not_verbatim() -> None:
    ligature = SourceMap((Segment(0, 4, 0, 8, 4, 8, verbatim=True),))
    span = ligature.locate(1, 2)
    assert span.source_ranges == (ByteRange(0, 8),)
    assert not span.source_verbatim


def test_added_text_is_not_covered() -> None:
    gap = SourceMap((Segment(0, 4, 0, 4), Segment(6, 8, 4, 6)))
    assert gap.covers(0, 4)
    assert not gap.covers(0, 8)
    assert not gap.locate(2, 7).source_verbatim
    assert gap.locate(2, 7).source_ranges == (ByteRange(2, 5),)
    assert gap.locate(4, 6).source_ranges == ()


def test_locator_without_positions() -> None:
    page = SourceMap((Segment(0, 4, locator={"page": 3}),))
    span = page.locate(0, 4)
    assert span.source_ranges == ()
    assert span.source_locator == {"page": 3}
    assert not span.source_verbatim


def test_separate_raw_ranges_stay_separate() -> None:
    tags = SourceMap((Segment(0, 4, 0, 4), Segment(4, 8, 11, 15)))
    assert tags.locate(2, 6).source_ranges == (ByteRange(2, 4), ByteRange(11, 13))


def test_unsorted_segments_are_refused() -> None:
    with pytest.raises(ValueError, match="sorted and disjoint"):
        SourceMap((Segment(4, 8, 0, 4), Segment(0, 4, 4, 8)))
    with pytest.raises(ValueError, match="not a byte range"):
        ByteRange(3, 2)


@given(st.text(max_size=30, alphabet=st.characters(exclude_categories=["Cs"])))
def test_json_round_trip(text: str) -> None:
    source_map = utf16_map(text)
    assert SourceMap.from_json(json.loads(json.dumps(source_map.to_json()))) == source_map
