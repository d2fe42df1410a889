"""File names to media types to parsers."""

from __future__ import annotations

import pytest

from ragstack.errors import InputError
from ragstack.parsing import registry
from ragstack.parsing.registry import (
    FORMATS,
    PARSERS,
    Format,
    is_supported,
    media_type_of,
    parser_for,
    register_format,
)


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("docs/guide.md", "text/markdown"),
        ("GUIDE.MD", "text/markdown"),
        ("a\\b\\c.Py", "text/x-python"),
        ("README", "text/plain"),
        ("deploy/Dockerfile", "text/plain"),
        (".env", "text/plain"),
        ("CMakeLists.txt", "text/x-cmake"),
        ("page.html", "text/html"),
        ("paper.pdf", "application/pdf"),
        ("rows.csv", "text/csv"),
        ("noextension", None),
        ("archive.unknown", None),
        ("trailing.", None),
        ("folder.md/file", None),
    ],
)
def test_media_type_of(path: str, media_type: str | None) -> None:
    assert media_type_of(path) == media_type


def test_every_row_is_sound() -> None:
    words = [word for row in FORMATS for word in row.extensions.split()]
    assert len(words) == len(set(words))
    media_types = [row.media_type for row in FORMATS]
    assert len(media_types) == len(set(media_types))
    for row in FORMATS:
        assert is_supported(row.media_type) == (row.parser is not None)
        if row.parser is not None:
            assert parser_for(row.media_type) is parser_for(row.media_type)
            assert parser_for(row.media_type).name == row.parser


def test_unsupported_formats_are_refused() -> None:
    for media_type in ("text/html", "application/pdf", "application/x-unheard-of"):
        with pytest.raises(InputError, match=media_type):
            parser_for(media_type)


def test_register_format(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(FORMATS)
    monkeypatch.setattr(registry, "FORMATS", rows)
    monkeypatch.setattr(PARSERS, "entries", dict(PARSERS.entries))
    try:
        register_format(Format("text/x-recipe", "text", "recipe", "cookbook"))
        assert media_type_of("soup.recipe") == media_type_of("Cookbook") == "text/x-recipe"
        register_format(Format("text/markdown", None, "mdtext"))
        assert parser_for(str(media_type_of("a.mdtext"))).name == "markdown"
        with pytest.raises(ValueError, match="'md' means text/markdown"):
            register_format(Format("text/x-recipe", "text", "md"))
        # An entry point named after a media type takes it over.
        PARSERS.register("application/pdf", "ragstack.parsing.text:TextParser")
        assert parser_for("application/pdf").name == "text"
    finally:
        monkeypatch.undo()
        for table in (registry._by_extension, registry._by_name, registry._by_media_type, registry._instance):
            table.cache_clear()
    assert media_type_of("soup.recipe") is None
