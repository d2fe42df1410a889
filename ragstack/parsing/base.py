"""The seam between raw bytes and documents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from ragstack.types import Document, Source


@dataclass(frozen=True, slots=True)
class RawSource:
    """One source version with its bytes, as discovery hands it to a parser.

    ``encoding`` is set where the config names one for this file; otherwise the parser finds it.
    """

    source: Source
    data: bytes
    media_type: str
    encoding: str | None = None


class Parser(Protocol):
    """Turns the raw bytes of one source version into documents.

    ``version`` is part of the pipeline fingerprint: raise it when the same bytes give another
    canonical text, block list or map. ``parse`` yields one document for most formats and several for
    containers of records (a record's ``source_id`` then ends in ``#<index>``). For every document:

    * C1: ``canonical_bytes[a:b].decode() `` is the text of the range, for any range on character bounds.
    * C2: decoding a segment's raw range with ``source_encoding``, and undoing the format's escapes
      where the segment is not ``verbatim``, gives the segment's canonical text.
    * The text is never normalised: no case, width, newline or white-space changes.

    A parser does no I/O, keeps no state between calls, and treats its input as hostile. It raises
    SourceError, with the byte offset where there is one, for bytes that it cannot read.
    """

    name: str
    version: str

    def parse(self, raw: RawSource) -> Iterable[Document]: ...
