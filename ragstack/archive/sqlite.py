"""The local document archive: one SQLite file, texts and maps compressed with zlib."""

from __future__ import annotations

import hashlib
import json
import threading
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ragstack.archive.base import ArchivedDocument, DocumentKey
from ragstack.errors import IndexFormatError
from ragstack.source_map import SourceMap
from ragstack.sqlite import open_database, translated
from ragstack.types import Document, canonical_json

FORMAT_VERSION = 1
_WHAT = "document archive"
_PAGE = 1000
_SCHEMA = """
CREATE TABLE documents (
    source_version TEXT NOT NULL,
    parser TEXT NOT NULL,
    record TEXT NOT NULL,
    media_type TEXT NOT NULL,
    source_encoding TEXT NOT NULL,
    metadata TEXT NOT NULL,
    digest BLOB NOT NULL,
    source_map BLOB NOT NULL,
    canonical BLOB NOT NULL,
    PRIMARY KEY (source_version, parser, record)
) WITHOUT ROWID
"""


class SqliteArchive:
    """A :class:`~ragstack.archive.base.DocumentArchive` in one file. Safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection = open_database(path, _SCHEMA, FORMAT_VERSION, what=_WHAT)
        self._in_transaction = False

    def put(self, documents: Iterable[tuple[DocumentKey, Document]]) -> None:
        """Add documents; a key that is held already is left as it is."""
        rows = []
        for key, document in documents:
            canonical = document.canonical_bytes
            rows.append(
                (
                    *key,
                    document.media_type,
                    document.source_encoding,
                    canonical_json(dict(document.metadata)),
                    hashlib.sha256(canonical).digest(),
                    zlib.compress(canonical_json(document.source_map.to_json()).encode(), 6),
                    zlib.compress(canonical, 3),
                )
            )
        with self._lock, translated(self._path, _WHAT):
            self._begin()
            self._connection.executemany("INSERT OR IGNORE INTO documents VALUES (?,?,?,?,?,?,?,?,?)", rows)

    def get(self, key: DocumentKey) -> ArchivedDocument | None:
        """The document, or None. Raises IndexFormatError when its bytes do not match their hash."""
        with self._lock, translated(self._path, _WHAT):
            row = self._connection.execute(
                "SELECT media_type, source_encoding, metadata, digest, source_map, canonical FROM documents"
                " WHERE source_version=? AND parser=? AND record=?",
                key,
            ).fetchone()
        if row is None:
            return None
        media_type, encoding, metadata, digest, packed_map, packed = row
        try:
            canonical = zlib.decompress(packed)
            source_map = SourceMap.from_json(json.loads(zlib.decompress(packed_map)))
            told = json.loads(metadata)
        except (zlib.error, ValueError, TypeError) as error:
            raise self._damaged(key) from error
        if hashlib.sha256(canonical).digest() != digest:
            raise self._damaged(key)
        return ArchivedDocument(key, canonical, media_type, encoding, source_map, told)

    def keys(self) -> Iterator[DocumentKey]:
        """Every key that is held, in order."""
        last = ("", "", "")
        while True:
            # A page at a time: between two of them the caller may do anything, deleting included.
            with self._lock, translated(self._path, _WHAT):
                rows = self._connection.execute(
                    "SELECT source_version, parser, record FROM documents"
                    " WHERE (source_version, parser, record) > (?,?,?) ORDER BY 1, 2, 3 LIMIT ?",
                    (*last, _PAGE),
                ).fetchall()
            yield from (DocumentKey(*row) for row in rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1]

    def delete(self, keys: Iterable[DocumentKey]) -> None:
        """Remove records; SQLite overwrites their pages."""
        with self._lock, translated(self._path, _WHAT):
            self._begin()
            self._connection.executemany(
                "DELETE FROM documents WHERE source_version=? AND parser=? AND record=?", [tuple(key) for key in keys]
            )

    def flush(self) -> None:
        """Commit; SQLite syncs the file."""
        with self._lock, translated(self._path, _WHAT):
            if self._in_transaction:
                self._connection.execute("COMMIT")
                self._in_transaction = False

    def close(self) -> None:
        """Commit what was written and close the file. Idempotent."""
        self.flush()
        self._connection.close()

    def _begin(self) -> None:
        if not self._in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
            self._in_transaction = True

    def _damaged(self, key: DocumentKey) -> IndexFormatError:
        return IndexFormatError(
            f"{self._path}: the archived text of source version {key.source_version} is damaged.",
            hint="Mend the index with: ragstack fsck --repair",
        )
