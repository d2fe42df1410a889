"""The ledger's part in erasing, repairing and tidying; each change is one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ragstack.ledger.schema import FORMAT_VERSION, LEDGER_FILE, SCHEMA, WHAT
from ragstack.sqlite import open_database, transaction, translated


class LedgerUpkeep:
    """A second connection to the ledger, for a caller that holds the index lock and has no transaction open."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / LEDGER_FILE
        self._db = open_database(self._path, SCHEMA, FORMAT_VERSION, what=WHAT)

    def __enter__(self) -> LedgerUpkeep:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def source_ids(self) -> set[str]:
        """Every source that the ledger names: indexed now, waiting to be purged, or indexed at some time."""
        with translated(self._path, WHAT):
            rows = self._db.execute(
                "SELECT source_id FROM sources UNION SELECT source_id FROM superseded"
                " UNION SELECT source_id FROM versions"
            )
            return {row[0] for row in rows}

    def frequencies(self, generation: int) -> dict[int, dict[int, int]]:
        """All counts of a generation: ``{kind: {id: frequency}}``."""
        found: dict[int, dict[int, int]] = {}
        with translated(self._path, WHAT):
            for kind, identity, count in self._db.execute(
                "SELECT kind, id, frequency FROM frequencies WHERE generation=?", (generation,)
            ):
                found.setdefault(kind, {})[identity] = count
        return found

    def add_embedded(self, generation: int, pairs: Iterable[tuple[bytes, str]]) -> None:
        """Record which chunk holds the vectors of each embedded text's digest, for a generation that is a copy."""
        with translated(self._path, WHAT), transaction(self._db):
            self._db.executemany(
                "INSERT OR REPLACE INTO embedded VALUES (?,?,?)", [(generation, *pair) for pair in pairs]
            )

    def switch_to_copy(
        self,
        old: int,
        copy: int,
        left_out: Collection[str],
        frequencies: Mapping[int, Mapping[int, int]],
        chunk_count: int,
        committed_seq: int,
    ) -> None:
        """Let ``copy`` take the place of ``old``, with its sources but for ``left_out``; ``old`` is retired."""
        with translated(self._path, WHAT), transaction(self._db):
            columns = [row[1] for row in self._db.execute("PRAGMA table_info(sources)") if row[1] != "generation"]
            names = ", ".join(columns)
            self._db.execute(
                f"INSERT INTO sources (generation, {names}) SELECT ?, {names} FROM sources WHERE generation=?",  # noqa: S608
                (copy, old),
            )
            self._db.executemany(
                "DELETE FROM sources WHERE generation=? AND source_id=?", [(copy, source_id) for source_id in left_out]
            )
            self._write_frequencies(copy, frequencies)
            self._db.execute(
                "UPDATE generations SET state=(SELECT state FROM generations WHERE generation=?), committed_seq=?,"
                " group_open=0, chunk_count=? WHERE generation=?",
                (old, committed_seq, chunk_count, copy),
            )
            self._db.execute("UPDATE generations SET state='retired' WHERE generation=?", (old,))

    def drop_sources(
        self,
        generation: int,
        source_ids: Collection[str],
        chunk_ids: Iterable[str],
        frequencies: Mapping[int, Mapping[int, int]],
        chunk_count: int,
    ) -> None:
        """Take sources out of a generation, naming their chunks as superseded; counts are replaced by those given.

        ``chunk_ids`` are their chunks: their vectors are not used again.
        """
        with translated(self._path, WHAT), transaction(self._db):
            self._db.execute("CREATE TEMP TABLE dropped (chunk_id TEXT PRIMARY KEY) WITHOUT ROWID")
            self._db.executemany("INSERT OR IGNORE INTO dropped VALUES (?)", ((i,) for i in chunk_ids))
            self._db.execute(
                "DELETE FROM embedded WHERE generation=? AND chunk_id IN (SELECT chunk_id FROM dropped)", (generation,)
            )
            self._db.execute("DROP TABLE dropped")
            for source_id in source_ids:
                self._db.execute(
                    "INSERT OR REPLACE INTO superseded (generation, source_id, source_version, parser, spans, seq)"
                    " SELECT generation, source_id, source_version, parser, spans, seq FROM sources"
                    " WHERE generation=? AND source_id=?",
                    (generation, source_id),
                )
                self._db.execute("DELETE FROM sources WHERE generation=? AND source_id=?", (generation, source_id))
            self._write_frequencies(generation, frequencies)
            self._db.execute("UPDATE generations SET chunk_count=? WHERE generation=?", (chunk_count, generation))

    def _write_frequencies(self, generation: int, frequencies: Mapping[int, Mapping[int, int]]) -> None:
        self._db.execute("DELETE FROM frequencies WHERE generation=?", (generation,))
        for kind, counts in frequencies.items():
            self._db.executemany(
                "INSERT INTO frequencies VALUES (?,?,?,?)",
                ((generation, kind, identity, count) for identity, count in counts.items() if count),
            )

    def forget(
        self,
        source_ids: Iterable[str],
        scopes: Iterable[tuple[str, str]],
        names_erased: Callable[[str], bool],
    ) -> None:
        """Remove what is still said of erased sources: their versions, scopes, roots without scopes, run reports.

        ``names_erased`` tells whether the path of a failure in a run's report is one of theirs.
        """
        with translated(self._path, WHAT), transaction(self._db):
            self._db.executemany("DELETE FROM versions WHERE source_id=?", [(i,) for i in source_ids])
            self._db.executemany("DELETE FROM scopes WHERE label=? AND relative=?", list(scopes))
            self._db.execute(
                "DELETE FROM roots WHERE label NOT IN (SELECT label FROM scopes)"
                " AND label NOT IN (SELECT label FROM sources)"
            )
            rows = self._db.execute("SELECT run, report FROM runs WHERE report IS NOT NULL").fetchall()
            for run, text in rows:
                report: dict[str, Any] = json.loads(text)
                failed = report.get("failed", [])
                kept = [failure for failure in failed if not names_erased(failure["path"])]
                if len(kept) < len(failed):
                    changed = json.dumps({**report, "failed": kept})
                    self._db.execute("UPDATE runs SET report=? WHERE run=?", (changed, run))
