"""From bytes to text: byte order marks, strict UTF-8, and messages that say what to do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.errors import SourceError
from ragstack.parsing.registry import sniff

UTF8_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=80)


@given(text=UTF8_TEXT, mark=st.sampled_from([b"", b"\xef\xbb\xbf"]), path=st.sampled_from(["a.txt", "a.md", "a.py"]))
def test_text_is_kept_and_mapped(parse, text: str, mark: bytes, path: str) -> None:
    if not mark and text.startswith("\ufeff"):
        text = text.lstrip("\ufeff")
    # Above this length a pattern of NULs says UTF-16, which has its own test.
    data = mark + text.replace("\x00", "").encode("utf-8")
    document = parse(data, path)
    assert document.canonical_bytes == data[len(mark) :]
    assert document.source_encoding == "utf-8"
    position = 0
    for character in document.text:
        end = position + len(character.encode("utf-8"))
        span = document.source_map.locate(position, end)
        (found,) = span.source_ranges
        assert span.source_verbatim
        assert data[found.byte_start : found.byte_end].decode(document.source_encoding) == character
        position = end
    for block in document.blocks:
        document.canonical_bytes[block.byte_start : block.byte_end].decode("utf-8")


def test_controls_and_nuls_of_valid_utf8_stay(parse) -> None:
    data = b"before\x00after \x07\x1b[0m\x7f and a longer line of text\r\n\x0cnext"
    assert parse(data).canonical_bytes == data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"caf\xe9 au lait", ["byte 3", "line 1", "0xe9", "UTF-8"]),
        (b"\xef\xbb\xbfone\ntwo \xff", ["byte 11", "line 2", "0xff"]),
        (b"cut \xe2\x82", ["byte 4", "0xe2"]),
        (b"surrogate \xed\xa0\x80", ["byte 10"]),
        ("a text".encode("utf-16"), ["utf-16", "byte order mark", "iconv"]),
        (b"\xfe\xff" + "a text".encode("utf-16-be"), ["utf-16-be", "fe ff"]),
        ("a text".encode("utf-32"), ["utf-32", "byte order mark"]),
        ("a text without a mark".encode("utf-16-le"), ["utf-16-le", "NUL"]),
        ("a text without a mark".encode("utf-16-be"), ["utf-16-be", "NUL"]),
        ("a text without a mark".encode("utf-32-le"), ["utf-32-le", "NUL"]),
        ("a text without a mark".encode("utf-32-be"), ["utf-32-be", "NUL"]),
    ],
)
def test_what_is_not_utf8_is_refused(parse, data: bytes, words: list[str]) -> None:
    with pytest.raises(SourceError) as caught:
        parse(data)
    assert "root/a.txt" in caught.value.message
    for word in words:
        assert word in str(caught.value)


def test_encoding_from_the_config(parse) -> None:
    assert parse(b"\xef\xbb\xbfabc", encoding="UTF-8-SIG").text == "abc"
    assert parse(b"abc", encoding="utf8").source_encoding == "utf-8"
    with pytest.raises(SourceError, match="iso8859-1"):
        parse(b"abc", encoding="latin-1")
    with pytest.raises(SourceError, match="unknown encoding 'klingon'"):
        parse(b"abc", encoding="klingon")


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"", "text/plain"),
        (b"just words\n", "text/plain"),
        ("größer 東京".encode(), "text/plain"),
        ("größer".encode("latin-1"), "text/plain"),
        ("utf-16 text, no mark".encode("utf-16-le"), "text/plain"),
        (b"\xff\xfea\x00", "text/plain"),
        (b"#!/usr/bin/env python3\nprint(1)\n", "text/x-python"),
        (b"#!/bin/sh\necho\n", "text/x-shellscript"),
        (b"%PDF-1.7\n...", "application/pdf"),
        (b"\n <!DOCTYPE html><p>", "text/html"),
        (b"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00", None),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", None),
        (bytes(range(1, 256)) * 4, None),
        (b"text and then \x00 a NUL that nothing explains", None),
        (("é" * 5000).encode()[:-1], "text/plain"),
    ],
)
def test_sniff(data: bytes, media_type: str | None) -> None:
    assert sniff(data) == media_type
