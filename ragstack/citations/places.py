"""From a range of an archived document to a checkable place in its source."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ragstack.archive.base import ArchivedDocument, DocumentArchive, DocumentKey
from ragstack.citations.chain import Place, SourceRange
from ragstack.errors import IndexFormatError

_LINE_END = re.compile(rb"\r\n|\r|\n")
_CACHE_BYTES = 64 * 1024 * 1024


def line_starts(data: bytes) -> list[int]:
    """Where the lines of a text begin; what follows the last line end is a line, empty or not."""
    return [0, *(match.end() for match in _LINE_END.finditer(data))]


@dataclass(frozen=True)
class OpenDocument:
    """An archived document with its line starts found once."""

    document: ArchivedDocument

    @cached_property
    def _line_starts(self) -> list[int]:
        return line_starts(self.document.canonical_bytes)

    def line_of(self, byte_offset: int) -> int:
        """The line, from 1, that holds a byte of the canonical text. CRLF, LF and lone CR end lines."""
        return bisect_right(self._line_starts, byte_offset)

    def place(
        self, source_id: str, source_uri: str, byte_start: int, byte_end: int, heading_path: Sequence[str]
    ) -> Place:
        """The place of a canonical byte range."""
        document = self.document
        span = document.source_map.locate(byte_start, byte_end)
        return Place(
            source_id=source_id,
            source_uri=source_uri,
            source_version=document.key.source_version,
            parser=document.key.parser,
            record=document.key.record,
            media_type=document.media_type,
            byte_start=byte_start,
            byte_end=byte_end,
            text=document.text(byte_start, byte_end),
            source_ranges=tuple(
                SourceRange(byte_start=found.byte_start, byte_end=found.byte_end) for found in span.source_ranges
            ),
            source_encoding=document.source_encoding,
            source_verbatim=span.source_verbatim,
            source_locator=None if span.source_locator is None else dict(span.source_locator),
            heading_path=tuple(heading_path),
            line_start=self.line_of(byte_start),
            line_end=self.line_of(byte_end - 1),
        )


class DocumentReader:
    """Reads archived documents, the recently used ones kept in memory up to 64 MiB of text."""

    def __init__(self, archive: DocumentArchive) -> None:
        self._archive = archive
        self._cache: OrderedDict[DocumentKey, OpenDocument] = OrderedDict()
        self._cached_bytes = 0

    def open(self, key: DocumentKey) -> OpenDocument:
        """The document. Raises IndexFormatError where the archive does not hold it."""
        found = self._cache.get(key)
        if found is not None:
            self._cache.move_to_end(key)
            return found
        document = self._archive.get(key)
        if document is None:
            raise IndexFormatError(
                f"the archive does not hold source version {key.source_version}, though it is indexed.",
                hint="Rebuild the index with: ragstack index --rebuild",
            )
        opened = OpenDocument(document)
        self._cache[key] = opened
        self._cached_bytes += len(document.canonical_bytes)
        while self._cached_bytes > _CACHE_BYTES and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= len(dropped.document.canonical_bytes)
        return opened

    def forget(self) -> None:
        """Drop what is kept in memory."""
        self._cache.clear()
        self._cached_bytes = 0
