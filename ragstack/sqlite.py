"""Opening this project's SQLite files: one set of pragmas, one version check, one error translation."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ragstack.errors import IndexFormatError, StoreError

_LITTLE = 1_000_000
"""Free bytes below which SQLite's own message ("disk I/O error") is explained by the disk being full."""


_OTHER_VERSION = "Use the ragstack that wrote it, or delete the state directory and run `ragstack index` again."


def open_database(
    path: Path, schema: str, format_version: int, *, what: str, way_on: str = _OTHER_VERSION, page_bytes: int = 4096
) -> sqlite3.Connection:
    """Open or create a database in WAL mode whose commits survive a power cut (``synchronous=FULL``).

    ``format_version`` is kept in ``PRAGMA user_version``. The connection is in manual transaction
    mode (``isolation_level=None``) and may be used from any one thread at a time; deleted rows are
    overwritten (``secure_delete``), so that erased text is gone from the file. ``way_on`` is what the error for
    another format version tells its reader to do. ``page_bytes`` is the size of a new file's pages.

    Raises IndexFormatError for a file that is damaged, is no database or has another version.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with translated(path, what):
        connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA page_size={int(page_bytes)}")  # before the file is made; later it says nothing
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("PRAGMA foreign_keys=ON")
            if _is_empty(connection):
                with transaction(connection):
                    if _is_empty(connection):  # another process may have created it meanwhile
                        _create(connection, schema, format_version)
            _check_version(connection, path, format_version, what, way_on)
        except BaseException:
            connection.close()
            raise
        return connection


def open_read_only(path: Path, format_version: int, *, what: str) -> sqlite3.Connection:
    """Open an existing database for reading. Raises IndexFormatError as :func:`open_database` does."""
    with translated(path, what):
        uri = f"{path.resolve().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            _check_version(connection, path, format_version, what)
        except BaseException:
            connection.close()
            raise
        return connection


def _is_empty(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0)


def _create(connection: sqlite3.Connection, schema: str, format_version: int) -> None:
    for statement in schema.split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version={int(format_version)}")


def _check_version(
    connection: sqlite3.Connection, path: Path, format_version: int, what: str, way_on: str = _OTHER_VERSION
) -> None:
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found != format_version:
        raise IndexFormatError(
            f"{path}: this {what} has format version {found}; this ragstack reads version {format_version}.",
            hint=way_on,
        )


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction: committed at the end of the block, rolled back when it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def translated(path: Path, what: str) -> Iterator[None]:
    """Turn SQLite's errors into this project's: damage into IndexFormatError, the rest into StoreError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        free = shutil.disk_usage(path.parent).free if path.parent.exists() else _LITTLE
        full = f" The disk is full: {free / 1000:.0f} kB are free." if free < _LITTLE else ""
        raise StoreError(
            f"{path}: the {what} cannot be used: {error}.{full}",
            hint="Check that the folder is writable, the disk is not full and no other process holds the file.",
        ) from error
    except sqlite3.DatabaseError as error:
        raise IndexFormatError(
            f"{path}: the {what} is damaged: {error}.",
            hint=_way_back(what),
        ) from error


def _way_back(what: str) -> str:
    if what == "ledger":
        return "Delete the state directory and run `ragstack index PATH` again; the sources are not touched."
    return "Mend the index with: ragstack fsck --repair"
