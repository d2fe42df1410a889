"""The seam to the document archive: canonical texts and source maps, kept to check citations by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ragstack.source_map import SourceMap
from ragstack.types import Document


class DocumentKey(NamedTuple):
    """What a document's text is a function of: the raw bytes (SHA-256, hex), the parser, the record inside.

    ``parser`` is ``name/version media-type``; ``record`` is empty but for containers of records.
    """

    source_version: str
    parser: str
    record: str = ""


@dataclass(frozen=True)
class ArchivedDocument:
    """A document as it was when it was indexed. ``canonical_bytes`` is UTF-8."""

    key: DocumentKey
    canonical_bytes: bytes
    media_type: str
    source_encoding: str
    source_map: SourceMap
    metadata: Mapping[str, Any]

    def text(self, byte_start: int, byte_end: int) -> str:
        """The canonical text of a byte range. Raises UnicodeDecodeError off character bounds."""
        return self.canonical_bytes[byte_start:byte_end].decode("utf-8")


class DocumentArchive(Protocol):
    """Immutable records by :class:`DocumentKey`.

    A record is written once: putting a key again changes nothing. Reading a record whose stored
    hash does not match raises IndexFormatError, as does an archive of another format.
    """

    def put(self, documents: Iterable[tuple[DocumentKey, Document]]) -> None:
        """Add documents; durable after :meth:`flush`."""

    def get(self, key: DocumentKey) -> ArchivedDocument | None:
        """The document, or None where the archive does not hold it."""

    def keys(self) -> Iterator[DocumentKey]:
        """Every key that is held, in order, without holding all of them in memory."""

    def delete(self, keys: Iterable[DocumentKey]) -> None:
        """Remove records; unknown keys are no error. Their bytes are overwritten, not only unlinked."""

    def flush(self) -> None:
        """Return once every change so far is durable."""

    def close(self) -> None: ...
