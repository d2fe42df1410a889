"""Plain text: paragraphs between blank lines, whatever ends a line."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.parsing.lines import paragraph_ranges, split_lines


@pytest.mark.parametrize(
    ("data", "paragraphs"),
    [
        (b"", []),
        (b"\n \n\t\r\n", []),
        (b"one\ntwo\n\nthree", [b"one\ntwo", b"three"]),
        (b"one\r\ntwo\r\n\r\nthree\r\n", [b"one\r\ntwo", b"three"]),
        (b"one\rtwo\r\rthree\r", [b"one\rtwo", b"three"]),
        (b"one\n \t\n  two", [b"one", b"  two"]),
        (b"one\x0c\ntwo\xe2\x80\xa8\xe2\x80\xa8three", [b"one\x0c\ntwo\xe2\x80\xa8\xe2\x80\xa8three"]),
        (b"a\r", [b"a"]),
        (b"\n\n\na", [b"a"]),
    ],
)
def test_paragraphs(parse, data: bytes, paragraphs: list[bytes]) -> None:
    document = parse(data)
    assert [data[b.byte_start : b.byte_end] for b in document.blocks] == paragraphs
    assert {b.kind for b in document.blocks} <= {"paragraph"}


@given(st.text("ab \t\n\r\x0c", max_size=40).map(str.encode))
def test_lines_against_a_regular_expression(data: bytes) -> None:
    ends = [m.end() for m in re.finditer(rb"\r\n|\r|\n", data)]
    starts = [0, *ends] if data else []
    if starts and starts[-1] == len(data):
        starts.pop()
    lines = split_lines(data)
    assert lines.starts.tolist() == starts
    bounds = [*starts, len(data)]
    assert lines.blank.tolist() == [not data[a:b].strip() for a, b in pairwise(bounds)]
    inside = b"".join(data[a:b] for a, b in paragraph_ranges(data))
    assert inside.translate(None, b" \t\r\n\x0c") == data.translate(None, b" \t\r\n\x0c")
