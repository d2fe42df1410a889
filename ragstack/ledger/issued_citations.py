"""The citations that a server has sent: where each leads, without a word of the text."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from ragstack.ledger.schema import CITATIONS_FILE
from ragstack.sqlite import open_database, transaction, translated

FORMAT_VERSION = 1
_WHAT = "list of issued citations"
_KEPT = 1_000_000
_SCHEMA = """
CREATE TABLE citations (
    citation_id TEXT NOT NULL,
    source_id TEXT NOT NULL,
    source_version TEXT NOT NULL,
    parser TEXT NOT NULL,
    record TEXT NOT NULL,
    byte_start INTEGER NOT NULL,
    byte_end INTEGER NOT NULL,
    chunk_id TEXT NOT NULL,
    issued_at REAL NOT NULL,
    UNIQUE (citation_id, source_id)
);
CREATE INDEX citations_by_source ON citations (source_id)
"""
_NAMES = ("citation_id", "source_id", "source_version", "parser", "record", "byte_start", "byte_end", "chunk_id")
_COLUMNS = ", ".join(_NAMES)


@dataclass(frozen=True, slots=True)
class IssuedCitation:
    """Where a citation leads: canonical bytes of a document version. ``chunk_id`` is a chunk of its passage."""

    citation_id: str
    source_id: str
    source_version: str
    parser: str
    record: str
    byte_start: int
    byte_end: int
    chunk_id: str


class IssuedCitations:
    """The file ``citations.db`` of a state directory. Safe to call from several threads.

    It is made with the first citation. Two sources with the same bytes have citations of the same id, so an id may
    lead to several places. Beyond a million the oldest are forgotten.
    """

    def __init__(self, state_dir: Path, *, kept: int = _KEPT) -> None:
        self._path = state_dir / CITATIONS_FILE
        self._kept = kept
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    def __enter__(self) -> IssuedCitations:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, citations: Iterable[IssuedCitation]) -> None:
        """Remember citations; durable when it returns. Known ones cost no write."""
        given = {(citation.citation_id, citation.source_id): citation for citation in citations}
        if not given:
            return
        with self._lock, translated(self._path, _WHAT):
            db = self._opened()
            known = "SELECT 1 FROM citations WHERE citation_id=? AND source_id=?"
            new = [citation for key, citation in given.items() if db.execute(known, key).fetchone() is None]
            if not new:
                return
            now = time.time()
            rows = [(*(getattr(citation, name) for name in _NAMES), now) for citation in new]
            with transaction(db):
                db.executemany(
                    f"INSERT OR IGNORE INTO citations ({_COLUMNS}, issued_at) VALUES (?,?,?,?,?,?,?,?,?)",  # noqa: S608
                    rows,
                )
                db.execute("DELETE FROM citations WHERE rowid <= (SELECT max(rowid) FROM citations) - ?", (self._kept,))

    def find(self, citation_id: str) -> list[IssuedCitation]:
        """Where citations of this id lead, the first issued first."""
        with self._lock, translated(self._path, _WHAT):
            if self._db is None and not self._path.exists():
                return []
            query = f"SELECT {_COLUMNS} FROM citations WHERE citation_id=? ORDER BY rowid"  # noqa: S608
            return [IssuedCitation(*row) for row in self._opened().execute(query, (citation_id,))]

    def forget(self, source_ids: Collection[str]) -> None:
        """Delete the citations of sources for good: the file is written anew and its log emptied."""
        with self._lock, translated(self._path, _WHAT):
            if self._db is None and not self._path.exists():
                return
            db = self._opened()
            with transaction(db):
                # A record's id is that of its container, a separator and the record's own.
                db.executemany(
                    "DELETE FROM citations WHERE source_id=?1 OR"
                    " (record!='' AND substr(source_id, 1, length(source_id) - length(record) - 1)=?1)",
                    [(identity,) for identity in source_ids],
                )
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file. Idempotent."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = open_database(self._path, _SCHEMA, FORMAT_VERSION, what=_WHAT)
        return self._db
