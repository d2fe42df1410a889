"""The pure half of indexing one file: bytes → documents → chunks. No store is touched here."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ragstack.archive.base import DocumentKey
from ragstack.chunking.base import Chunker
from ragstack.config.models import FieldConfig
from ragstack.errors import InputError, SourceError
from ragstack.indexer.discovery import FoundFile
from ragstack.indexer.fields import field_values
from ragstack.indexer.text_languages import text_languages
from ragstack.ledger.spans import StoredSpan
from ragstack.ledger.writer import FileStat, PublishedSource, SourceRow
from ragstack.parsing.base import RawSource
from ragstack.parsing.registry import is_supported, media_type_of, parser_for, sniff
from ragstack.source_names import name_of_path
from ragstack.types import Chunk, ChunkSpan, Document, Source, Tokenizer, chunk_id, embedded_prefix, sha256_hex

_READ_ATTEMPTS = 3
_PARSER_WARNINGS = {"front_matter_error": "its front matter is read as text", "structure": "its structure is not read"}


@dataclass(frozen=True)
class FileBytes:
    """A file's bytes, what the file system said of them, and when (nanoseconds since the epoch)."""

    data: bytes
    stat: FileStat
    checked_at_ns: int


@dataclass(frozen=True)
class PreparedChunk:
    """A chunk on its way to the store, with the document it came from.

    ``parser`` is ``name/version media-type``; ``record`` is the record of a container, or empty.
    """

    chunk: Chunk
    media_type: str
    parser: str
    record: str


@dataclass(frozen=True)
class Prepared:
    """One source version, ready to be embedded and published. Without chunks, ``row.skipped`` says why.

    ``warnings`` say what a parser could not use of the source (broken front matter).
    """

    row: SourceRow
    documents: Sequence[tuple[DocumentKey, Document]] = ()
    chunks: Sequence[PreparedChunk] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Unchanged:
    """A file whose times or place changed but whose bytes are those published."""

    source_id: str
    stat: FileStat
    checked_at_ns: int
    source_uri: str


@dataclass(frozen=True)
class Vanished:
    """A file that was gone when it was to be read."""

    source_id: str


@dataclass(frozen=True)
class Failed:
    """A file that could not be read or parsed."""

    path: str
    reason: str


Outcome = Prepared | Unchanged | Vanished | Failed


@dataclass(frozen=True)
class Preparation:
    """What preparing any file needs: the chunker, the embedder's tokenizer and limit, the declared fields."""

    fingerprint: str
    chunker: Chunker
    tokenizer: Tokenizer
    max_embedded_tokens: int
    fields: Mapping[str, FieldConfig] = field(default_factory=dict)

    def prepare(self, file: FoundFile, published: PublishedSource | None) -> Outcome:  # noqa: PLR0911 - one a kind
        """Read, parse and chunk one file. Never raises for a fault of the file: that is :class:`Failed`."""
        try:
            read = read_file(file.path)
        except FileNotFoundError:
            return Vanished(file.source_id)
        except OSError as error:
            return Failed(str(file.path), error.strerror or str(error))
        except SourceError as error:
            return Failed(str(file.path), str(error))
        source = Source(file.source_id, file.path.as_uri(), sha256_hex(read.data))
        if published is not None and published.source_version == source.source_version:
            return Unchanged(file.source_id, read.stat, read.checked_at_ns, source.source_uri)
        try:
            return self._parse(file, source, read)
        except (SourceError, InputError) as error:
            return Failed(str(file.path), str(error))
        except Exception as error:  # parsers and chunkers may be third parties'; one bad file must not end the run
            return Failed(str(file.path), f"its parser or chunker failed: {type(error).__name__}: {error}")

    def _parse(self, file: FoundFile, source: Source, read: FileBytes) -> Prepared:
        def row(media_type: str, parser: str, skipped: str, spans: Sequence[StoredSpan] = ()) -> SourceRow:
            return SourceRow(
                source.source_id, source.source_version, source.source_uri, file.label, file.relative,
                read.stat, read.checked_at_ns, media_type, parser, skipped, tuple(spans),
            )  # fmt: skip

        if not read.data:
            return Prepared(row("", "", "empty"))
        media_type = media_type_of(name_of_path(file.path.name)) or sniff(read.data)
        if media_type is None:
            return Prepared(row("", "", "binary"))
        if not is_supported(media_type):
            return Prepared(row(media_type, "", f"no parser for {media_type}"))
        parser = parser_for(media_type)
        # The media type is part of it: the same bytes are other documents as .py and as .txt.
        parser_id = f"{parser.name}/{parser.version} {media_type}"
        documents = []
        chunks: list[PreparedChunk] = []
        for document in parser.parse(RawSource(source, read.data, media_type)):
            record = document.source.source_id[len(source.source_id) + 1 :]
            documents.append((DocumentKey(source.source_version, parser_id, record), document))
        languages = text_languages([document for _, document in documents])
        for (key, document), language in zip(documents, languages, strict=True):
            found = self._chunks(document, language)
            chunks += [PreparedChunk(chunk, media_type, parser_id, key.record) for chunk in found]
        spans = [StoredSpan(c.record, c.chunk.byte_start, c.chunk.byte_end, c.chunk.token_count) for c in chunks]
        warnings = [
            f"{file.path}: {words}: {document.metadata[key]}"
            for _, document in documents
            for key, words in _PARSER_WARNINGS.items()
            if key in document.metadata
        ]
        return Prepared(row(media_type, parser_id, "" if chunks else "empty", spans), documents, chunks, warnings)

    def _chunks(self, document: Document, language: str) -> list[Chunk]:
        values = field_values(document.metadata, self.fields)
        source, data = document.source, document.canonical_bytes
        chunks: list[Chunk] = []
        for span in self.chunker.chunk(document, self.tokenizer):
            text = _span_text(data, span, chunks, self.chunker)
            identity = chunk_id(
                source.source_id, source.source_version, span.byte_start, span.byte_end, self.fingerprint
            )
            path = self._fitting_path(span, text)
            chunks.append(
                Chunk(
                    identity, source.source_id, source.source_version, span.byte_start, span.byte_end,
                    text, span.token_count, path, values, language,
                )
            )  # fmt: skip
        return chunks

    def _fitting_path(self, span: ChunkSpan, text: str) -> tuple[str, ...]:
        """The heading path, its outermost titles dropped until path and text fit what the model reads."""
        path = span.heading_path
        while path:
            prefix = embedded_prefix(path)
            # A text has at most as many tokens as bytes, so most paths need no count.
            if len(prefix.encode()) + span.token_count <= self.max_embedded_tokens:
                break
            if self.tokenizer.count([prefix + text])[0] <= self.max_embedded_tokens:
                break
            path = path[1:]
        return path


def _span_text(data: bytes, span: ChunkSpan, before: Sequence[Chunk], chunker: Chunker) -> str:
    """The text of a span. Raises SourceError when the span breaks the chunker's contract: C1 rests on it."""
    fault = ""
    text = ""
    if not 0 <= span.byte_start < span.byte_end <= len(data):
        fault = f"is not inside the {len(data)} bytes of the text"
    elif before and span.byte_start < before[-1].byte_start:
        fault = "comes before the one ahead of it"
    else:
        try:
            text = data[span.byte_start : span.byte_end].decode("utf-8")
        except UnicodeDecodeError:
            fault = "cuts a character"
    if fault:
        raise SourceError(
            f"the chunker {type(chunker).__name__} returned the span"
            f" [{span.byte_start}, {span.byte_end}), which {fault}.",
            hint="This is a mistake in the chunker; use another chunker.type until it is mended.",
        )
    return text


def read_file(path: os.PathLike[str]) -> FileBytes:
    """Read a whole file; its size and times are the same before and after, so the bytes are one version.

    Raises OSError, and SourceError for a file that keeps changing while it is read.
    """
    for _ in range(_READ_ATTEMPTS):
        checked_at_ns = time.time_ns()
        with Path(path).open("rb") as file:
            before = os.fstat(file.fileno())
            data = file.read()
            after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns) and len(data) == after.st_size:
            stat = FileStat(after.st_size, after.st_mtime_ns, after.st_ctime_ns, after.st_ino)
            return FileBytes(data, stat, checked_at_ns)
    raise SourceError("the file changes while it is read.", hint="Run `ragstack index` again when it is at rest.")
