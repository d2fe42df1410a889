"""Token vectors of chunks in one SQLite file."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from ragstack.errors import IndexFormatError, StoreUnavailableError
from ragstack.reranking.base import PackedTokens
from ragstack.reranking.token_codec import TokenCodec
from ragstack.sqlite import open_database, transaction, translated
from ragstack.types import TokenVectors

_FORMAT_VERSION = 2
_WHAT = "store of token vectors"
_REBUILD = "Build the index anew, beside this one, with: ragstack index (over every root that was indexed)"
_SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE token_vectors (chunk_id TEXT PRIMARY KEY, seq INTEGER NOT NULL, vectors BLOB NOT NULL);
CREATE INDEX token_vectors_by_seq ON token_vectors (seq)
"""
# SQLite builds from before 2020 allow 999 parameters in a statement.
_IDS_PER_STATEMENT = 900
# Deleted pages are overwritten, so a deletion writes what it deletes into SQLite's log. Small transactions
# keep the log small; it is a matter of a full disk.
_DELETED_AT_ONCE = 64
# Entries of some 4 kB leave a quarter of SQLite's usual pages of 4 kB empty.
_PAGE_BYTES = 32768
# Pages are read from the mapped file instead of being copied. SQLite maps no more than it was built for (2 GB by
# default) and reads the rest of a larger file as ever; address space that no page is read from costs nothing.
_MAPPED_BYTES = 1 << 40


class SqliteTokenVectorStore:
    """A :class:`ragstack.reranking.base.TokenVectorStore` in the SQLite file ``path``, which is made when missing.

    ``codec`` says in what form vectors are kept (None: every piece, all dimensions, 8 bits); a file remembers which
    one it was written with. Every ``put`` and ``delete`` is one durable transaction. The file is read through a memory
    map, so that pages that a query needs again cost no copy. Safe to call from several threads; other processes
    may read meanwhile.

    Raises IndexFormatError for a file that is damaged, of another format version or written with another
    codec, StoreError when the file cannot be used, and StoreUnavailableError after :meth:`close`.
    """

    def __init__(self, path: Path, codec: TokenCodec | None = None) -> None:
        self._path = Path(path)
        self._codec = codec or TokenCodec()
        self._lock = threading.Lock()
        self._closed = False
        self._connection = open_database(
            self._path, _SCHEMA, _FORMAT_VERSION, what=_WHAT, way_on=_REBUILD, page_bytes=_PAGE_BYTES
        )
        try:
            with translated(self._path, _WHAT):
                self._connection.execute(f"PRAGMA mmap_size={_MAPPED_BYTES}").fetchone()
            self._check_codec()
        except BaseException:
            self._connection.close()
            raise

    def put(self, seq: int, entries: Mapping[str, TokenVectors]) -> None:
        """Insert or replace what :meth:`prepare` gave, by chunk id. Raises ValueError for arrays that do not fit."""
        self.put_packed([self.pack(chunk_id, seq, tokens) for chunk_id, tokens in entries.items()])

    def get(self, chunk_ids: Sequence[str]) -> dict[str, TokenVectors]:
        """The entries that exist among ``chunk_ids``; vectors ``(t, d) float32`` of length 1, as prepared."""
        found = self.packed(chunk_ids)
        decoded = self._codec.decode([(f"{self._path}, chunk {item.chunk_id}", item.data) for item in found])
        return {item.chunk_id: tokens for item, tokens in zip(found, decoded, strict=True)}

    def prepare(self, tokens: TokenVectors) -> TokenVectors:
        """Bring a passage's or a query's token vectors into the space and the words of the stored ones."""
        return self._codec.prepare(tokens)

    def delete(self, chunk_ids: Sequence[str]) -> None:
        """Delete by chunk id; unknown ids are no error."""
        for start in range(0, len(chunk_ids), _DELETED_AT_ONCE):
            with self._lock, self._open(), transaction(self._connection):
                self._connection.executemany(
                    "DELETE FROM token_vectors WHERE chunk_id = ?",
                    [(chunk_id,) for chunk_id in chunk_ids[start : start + _DELETED_AT_ONCE]],
                )

    def delete_after(self, seq: int) -> int:
        """Delete every entry whose ``seq`` is larger; returns how many."""
        deleted, last = 0, -1
        while last:
            with self._lock, self._open(), transaction(self._connection):
                last = self._connection.execute(
                    "DELETE FROM token_vectors WHERE rowid IN (SELECT rowid FROM token_vectors WHERE seq > ? LIMIT ?)",
                    (seq, _DELETED_AT_ONCE),
                ).rowcount
            deleted += last
        return deleted

    def chunk_ids(self) -> set[str]:
        """The ids of all entries."""
        with self._lock, self._open():
            return {row[0] for row in self._connection.execute("SELECT chunk_id FROM token_vectors")}

    def packed(self, chunk_ids: Sequence[str]) -> list[PackedTokens]:
        """The entries that exist among ``chunk_ids``, in the form in which they are kept."""
        found: list[PackedTokens] = []
        with self._lock, self._open():
            for ids in _batches(chunk_ids):
                marks = ",".join("?" * len(ids))
                statement = f"SELECT chunk_id, seq, vectors FROM token_vectors WHERE chunk_id IN ({marks})"  # noqa: S608
                found += [PackedTokens(*row) for row in self._connection.execute(statement, ids)]
        return found

    def pack(self, chunk_id: str, seq: int, tokens: TokenVectors) -> PackedTokens:
        """See :class:`ragstack.reranking.base.TokenVectorStore`. Raises ValueError for arrays that do not fit."""
        return PackedTokens(chunk_id, seq, self._codec.encode(tokens))

    def put_packed(self, entries: Sequence[PackedTokens]) -> None:
        """Insert or replace what :meth:`pack`, or :meth:`packed` of a store with the same projection, returned."""
        if entries:
            with self._lock, self._open(), transaction(self._connection):
                self._connection.executemany("INSERT OR REPLACE INTO token_vectors VALUES (?, ?, ?)", entries)

    def flush(self) -> None:
        """Move finished writes, which are durable already, from the log into the file, so that the log stays short."""
        with self._lock, self._open():
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self) -> None:
        """Release the file. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._connection.close()

    def _open(self) -> AbstractContextManager[None]:
        if self._closed:
            raise StoreUnavailableError(f"{self._path}: the {_WHAT} was closed.", hint="Open it again.")
        return translated(self._path, _WHAT)

    def _check_codec(self) -> None:
        """Remember the codec of a new file; refuse a file that was written with another one."""
        mine = self._codec.fingerprint
        with translated(self._path, _WHAT):
            row = self._connection.execute("SELECT value FROM settings WHERE name = 'codec'").fetchone()
            if row is None:
                with transaction(self._connection):
                    self._connection.execute("INSERT OR IGNORE INTO settings VALUES ('codec', ?)", (mine,))
                row = self._connection.execute("SELECT value FROM settings WHERE name = 'codec'").fetchone()
        if row[0] != mine:
            raise IndexFormatError(
                f"{self._path}: the token vectors were kept with the codec {row[0][:12]}, but this one is {mine[:12]}.",
                hint="Use the model that the index was made with, or delete the state directory and index again.",
            )


def _batches(ids: Sequence[str]) -> list[list[str]]:
    distinct = list(dict.fromkeys(ids))
    return [distinct[i : i + _IDS_PER_STATEMENT] for i in range(0, len(distinct), _IDS_PER_STATEMENT)]
