"""How the tests of the parsers make a document."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ragstack.parsing.base import RawSource
from ragstack.parsing.registry import media_type_of, parser_for
from ragstack.types import Document, Source

Parse = Callable[..., Document]


@pytest.fixture(scope="session")
def parse() -> Parse:
    """``parse(data, path="a.txt", encoding=None)``: the one document that the parser for ``path`` makes."""

    def run(data: bytes, path: str = "a.txt", encoding: str | None = None) -> Document:
        media_type = media_type_of(path)
        assert media_type is not None
        raw = RawSource(Source(f"root/{path}", f"file:///root/{path}", "0" * 64), data, media_type, encoding)
        (document,) = parser_for(media_type).parse(raw)
        return document

    return run
