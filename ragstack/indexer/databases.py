"""Upkeep of the index's SQLite files, each by a connection of its own."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ragstack.errors import StoreError
from ragstack.sqlite import translated

_PROBLEMS_NAMED = 5
SUFFIXES = ("", "-wal", "-shm")
"""A database is its file and, while it is open or after a kill, these beside it."""


def integrity_problems(path: Path) -> list[str]:
    """What SQLite's ``integrity_check`` says is wrong with a database, at most 5 lines; empty when it is sound.

    A file that is no database is a problem too; it is never created. Raises StoreError where the file
    cannot be read at all.
    """
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=30, isolation_level=None)
        try:
            rows = connection.execute(f"PRAGMA integrity_check({_PROBLEMS_NAMED})").fetchall()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"{path}: cannot be read: {error}.", hint="Check that the file can be read and written."
        ) from error
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [str(line) for (line,) in rows if line != "ok"]


def free_pages(path: Path) -> int:
    """How many pages of the database hold nothing."""
    with translated(path, "database"):
        connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            return int(connection.execute("PRAGMA freelist_count").fetchone()[0])
        finally:
            connection.close()


def compact_database(path: Path, what: str, *, rewrite: bool) -> None:
    """Empty the write-ahead log into the file and cut it to length 0; ``rewrite`` writes the file anew before.

    A rewritten file holds live rows alone: nothing of what was deleted is left in free or half-filled
    pages. It takes as much free space as the file. Raises StoreError while another connection reads, and
    what :func:`ragstack.sqlite.translated` raises.
    """
    with translated(path, what):
        connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")
            # A large file's copy would not fit into a memory-backed temporary folder's share of memory.
            connection.execute("PRAGMA temp_store=FILE")
            if rewrite:
                connection.execute("VACUUM")
            is_busy = bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        finally:
            connection.close()
    if is_busy:
        raise StoreError(
            f"{path}: another process reads the {what}, so its log could not be emptied.",
            hint="Close what reads the index (a running query or server), then run the same command again.",
        )


def remove_database(path: Path) -> None:
    """Delete a database's files; none of them need exist."""
    for suffix in SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
