"""How an expected passage is written, and how a text is found."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.errors import InputError
from ragstack.retrieval.explain.target import Expected, SourcePlace, find_text, parse_expected

_ID = "e76fa0ba-165d-5c4a-8b4f-3561075c8d01"


@pytest.mark.parametrize(
    ("given", "places", "text"),
    [
        ("docs/a.md", [SourcePlace("docs/a.md")], None),
        ("docs/a.md:12", [SourcePlace("docs/a.md:12"), SourcePlace("docs/a.md", lines=(12, 12))], None),
        ("a.md:3-9", [SourcePlace("a.md:3-9"), SourcePlace("a.md", lines=(3, 9))], None),
        ("a.md@0-9", [SourcePlace("a.md@0-9"), SourcePlace("a.md", byte_range=(0, 9))], None),
        ("id:r/a.md:2", [SourcePlace("id:r/a.md:2"), SourcePlace("id:r/a.md", lines=(2, 2))], None),
        ("mbox#7:1", [SourcePlace("mbox#7:1"), SourcePlace("mbox#7", lines=(1, 1))], None),
        ("my file.md", [SourcePlace("my file.md")], "my file.md"),
        ("ten years: 12", [SourcePlace("ten years: 12")], "ten years: 12"),
        ("'ten'", [], "ten"),
        ('"ten years"', [], "ten years"),
        ("“ten”", [], "ten"),
        ("text: ten", [], " ten"),
    ],
)
def test_forms(given: str, places: list[SourcePlace], text: str | None) -> None:
    assert parse_expected(given) == Expected(given, places=tuple(places), text=text)


def test_a_uuid_is_a_chunk() -> None:
    assert parse_expected(_ID.upper()) == Expected(_ID.upper(), chunk_id=_ID)


@pytest.mark.parametrize(
    "given", ["", "  ", "a.md:0", "a.md:9-3", "a.md@9-9", "a.md@9-3", "text:", "'' ", "x" * 20_000]
)
def test_mistakes(given: str) -> None:
    with pytest.raises(InputError):
        parse_expected(given)


def test_a_text_is_found_whatever_its_case_and_line_breaks() -> None:
    text = "Größe: «Ten\r\n  years» — and TEN YEARS."
    assert [text.encode()[start:end].decode() for start, end in find_text(text, " ten years ")] == [
        "Ten\r\n  years",
        "TEN YEARS",
    ]
    assert find_text(text, "ten.years") == []
    assert find_text(text, "  ") == []


@given(st.text(), st.text(min_size=1), st.text())
def test_what_is_there_is_found_at_its_bytes(before: str, wanted: str, after: str) -> None:
    whole = f"{before}{wanted}{after}"
    if not wanted.split():
        return
    data = whole.encode("utf-8", "surrogatepass")
    found = find_text(whole, wanted)
    assert found
    for start, end in found:
        assert data[start:end].decode("utf-8", "surrogatepass").split()
    assert found == sorted(found)
    assert all(first[1] <= second[0] for first, second in pairwise(found))
