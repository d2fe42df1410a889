"""Plain text: the whole file is the canonical text; its blocks are the paragraphs between blank lines."""

from __future__ import annotations

from collections.abc import Iterable

from ragstack.parsing.base import RawSource
from ragstack.parsing.encoding import decode
from ragstack.parsing.lines import paragraph_ranges
from ragstack.types import Block, Document


class TextParser:
    """The parser of ``text/plain`` and of the formats that are read as plain text."""

    name = "text"
    version = "1"

    def parse(self, raw: RawSource) -> Iterable[Document]:
        """One document. Raises SourceError for bytes that are not UTF-8 text."""
        decoded = decode(raw)
        blocks = tuple(Block("paragraph", *span) for span in paragraph_ranges(decoded.text.encode("utf-8")))
        yield Document(
            source=raw.source,
            text=decoded.text,
            media_type=raw.media_type,
            source_encoding=decoded.encoding,
            source_map=decoded.source_map,
            blocks=blocks,
        )
