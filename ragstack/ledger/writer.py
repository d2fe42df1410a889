"""The ledger's writer: the one place where a change of the index becomes visible.

One transaction publishes a commit group (:meth:`Ledger.publish`). Before it, the group's chunks,
token vectors and documents are durable in their stores but hidden (``seq > committed_seq``); after
it, they are the index, and what they replaced waits in ``superseded`` until it is purged.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragstack.archive.base import DocumentKey
from ragstack.ledger.schema import FORMAT_VERSION, LEDGER_FILE, SCHEMA, WHAT
from ragstack.ledger.spans import StoredSpan, pack_spans, unpack_spans
from ragstack.sqlite import open_database, transaction, translated
from ragstack.types import canonical_json


@dataclass(frozen=True, slots=True)
class FileStat:
    """What the file system said of a file when its bytes were hashed; times in nanoseconds."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True)
class SourceRow:
    """The published version of one source.

    ``skipped`` says why the source has no chunks (``binary``, ``empty``, …), or is empty. ``language`` is the ISO 639-1
    code of what it is written in, or empty when that could not be told.
    """

    source_id: str
    source_version: str
    source_uri: str
    label: str
    relative: str
    stat: FileStat
    checked_at_ns: int
    media_type: str
    parser: str
    skipped: str
    language: str
    spans: tuple[StoredSpan, ...]


@dataclass(frozen=True, slots=True)
class PublishedSource:
    """What a run must know of a published source to see whether its file changed."""

    source_version: str
    label: str
    relative: str
    stat: FileStat
    checked_at_ns: int
    skipped: str


@dataclass(frozen=True, slots=True)
class LanguageTally:
    """How many sources with chunks are in one language (empty: unknown), and how large their files are together."""

    language: str
    sources: int
    size_bytes: int


@dataclass(frozen=True)
class Superseded:
    """A version that is published away and waits to be purged from the store."""

    source_id: str
    source_version: str
    parser: str
    spans: tuple[StoredSpan, ...]


@dataclass(frozen=True, slots=True)
class Generation:
    """One physical build of the index: a collection made with one fingerprint."""

    generation: int
    fingerprint: str
    state: str
    committed_seq: int
    group_open: bool
    chunk_count: int
    created_at: float


@dataclass(frozen=True)
class CommitGroup:
    """What one transaction publishes.

    ``frequencies`` are changes by kind: ``{kind: {id: delta}}``. ``embedded`` ties the digest of each new
    chunk's embedded text to its id, so that the vectors can be used again; ``replaced`` are the same
    pairs of the chunks that are published away.
    """

    seq: int
    published: Sequence[SourceRow]
    deleted: Sequence[str]
    frequencies: Mapping[int, Mapping[int, int]]
    embedded: Sequence[tuple[bytes, str]] = ()
    replaced: Sequence[tuple[bytes, str]] = ()


_SOURCE_COLUMNS = (
    "source_id, source_version, source_uri, label, relative, size_bytes, mtime_ns, ctime_ns, inode, checked_at_ns,"
    " media_type, parser, skipped, language, spans"
)


class Ledger:
    """SQLite in WAL mode, one writer at a time (the caller holds the index lock)."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / LEDGER_FILE
        self._db = open_database(self._path, SCHEMA, FORMAT_VERSION, what=WHAT)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._db.close()

    # -- generations ---------------------------------------------------------------------------

    def generations(self) -> list[Generation]:
        """Every generation, oldest first."""
        rows = self._query(
            "SELECT generation, fingerprint, state, committed_seq, group_open, chunk_count, created_at FROM generations"
            " ORDER BY generation"
        )
        return [Generation(g, f, s, seq, bool(is_open), chunks, at) for g, f, s, seq, is_open, chunks, at in rows]

    def create_generation(self, fingerprint: str, config: Mapping[str, Any]) -> Generation:
        """Begin a generation in state ``building``."""
        with translated(self._path, WHAT), transaction(self._db):
            number = self._db.execute("SELECT coalesce(max(generation), 0) + 1 FROM generations").fetchone()[0]
            self._db.execute(
                "INSERT INTO generations (generation, fingerprint, config, state, created_at) VALUES (?,?,?,?,?)",
                (number, fingerprint, canonical_json(config), "building", time.time()),
            )
        return next(g for g in self.generations() if g.generation == number)

    def config_of(self, generation: int) -> dict[str, Any]:
        """``config``: the index-side blocks a generation was built with; ``parts``: what its fingerprint is of."""
        rows = self._query("SELECT config FROM generations WHERE generation=?", generation)
        config: dict[str, Any] = json.loads(rows[0][0])
        return config

    def activate(self, generation: int) -> None:
        """Switch queries to this generation; the one that was active is retired, in the same transaction."""
        with translated(self._path, WHAT), transaction(self._db):
            self._db.execute(
                "UPDATE generations SET state='retired' WHERE state='active' AND generation<>?", (generation,)
            )
            self._db.execute("UPDATE generations SET state='active' WHERE generation=?", (generation,))

    def retire(self, generation: int) -> None:
        """Mark a generation that was never finished for removal."""
        with translated(self._path, WHAT), transaction(self._db):
            self._db.execute("UPDATE generations SET state='retired' WHERE generation=?", (generation,))

    def forget_generation(self, generation: int) -> None:
        """Remove a retired generation's rows, after its collection is dropped."""
        with translated(self._path, WHAT), transaction(self._db):
            for table in ("sources", "superseded", "frequencies", "embedded", "generations"):
                self._db.execute(f"DELETE FROM {table} WHERE generation=?", (generation,))  # noqa: S608

    def set_group_open(self, generation: int, is_open: bool) -> None:
        """Record that staged chunks may be in the store (True) or that none are (False)."""
        with translated(self._path, WHAT), transaction(self._db):
            self._db.execute("UPDATE generations SET group_open=? WHERE generation=?", (int(is_open), generation))

    # -- roots -----------------------------------------------------------------------------------

    def roots(self) -> dict[str, str]:
        """Path of each root, by label."""
        return dict(self._query("SELECT label, path FROM roots"))

    def scopes(self) -> list[tuple[str, str]]:
        """``(label, relative)`` of everything that was ever asked to be indexed; '' is the whole root."""
        return [
            (label, relative) for label, relative in self._query("SELECT label, relative FROM scopes ORDER BY 1, 2")
        ]

    def save_scopes(self, roots: Mapping[str, str], scopes: Iterable[tuple[str, str]]) -> None:
        """Remember roots (label → path; a moved root gets its new path) and scopes."""
        with translated(self._path, WHAT), transaction(self._db):
            self._db.executemany(
                "INSERT INTO roots VALUES (?,?) ON CONFLICT (label) DO UPDATE SET path=excluded.path",
                list(roots.items()),
            )
            self._db.executemany("INSERT OR IGNORE INTO scopes VALUES (?,?)", list(scopes))

    # -- sources ---------------------------------------------------------------------------------

    def sources(self, generation: int) -> dict[str, SourceRow]:
        """The published version of every source, by ``source_id``."""
        rows = self._query(f"SELECT {_SOURCE_COLUMNS} FROM sources WHERE generation=?", generation)  # noqa: S608
        return {row[0]: _source_row(row) for row in rows}

    def published(self, generation: int) -> dict[str, PublishedSource]:
        """As :meth:`sources`, without the chunks: quick for many files."""
        rows = self._query(
            "SELECT source_id, source_version, label, relative, size_bytes, mtime_ns, ctime_ns, inode, checked_at_ns,"
            " skipped FROM sources WHERE generation=?",
            generation,
        )
        return {
            source_id: PublishedSource(version, label, relative, FileStat(size, mtime, ctime, inode), checked, skipped)
            for source_id, version, label, relative, size, mtime, ctime, inode, checked, skipped in rows
        }

    def languages(self, generation: int) -> list[LanguageTally]:
        """The languages of the sources that have chunks."""
        rows = self._query(
            "SELECT language, count(*), sum(size_bytes) FROM sources WHERE generation=? AND skipped=''"
            " GROUP BY language ORDER BY language",
            generation,
        )
        return [LanguageTally(language, sources, size) for language, sources, size in rows]

    def sources_in(self, generation: int, language: str, limit: int) -> list[str]:
        """Ids of up to ``limit`` sources in a language, in their order."""
        rows = self._query(
            "SELECT source_id FROM sources WHERE generation=? AND skipped='' AND language=? ORDER BY source_id LIMIT ?",
            generation,
            language,
            limit,
        )
        return [row[0] for row in rows]

    def touch(self, generation: int, touched: Iterable[tuple[str, FileStat, int, str]]) -> None:
        """Record files that have new times or a new place but the published bytes.

        Each is ``(source_id, stat, checked_at_ns, source_uri)``.
        """
        with translated(self._path, WHAT), transaction(self._db):
            self._db.executemany(
                "UPDATE sources SET size_bytes=?, mtime_ns=?, ctime_ns=?, inode=?, checked_at_ns=?, source_uri=?"
                " WHERE generation=? AND source_id=?",
                [
                    (stat.size_bytes, stat.mtime_ns, stat.ctime_ns, stat.inode, checked, uri, generation, source_id)
                    for source_id, stat, checked, uri in touched
                ],
            )

    def publish(self, generation: int, group: CommitGroup) -> None:
        """Publish one commit group: afterwards queries see the new versions and none of the old ones."""
        with translated(self._path, WHAT), transaction(self._db):
            change = 0
            for source_id in [*group.deleted, *(row.source_id for row in group.published)]:
                change -= self._supersede(generation, source_id, group.seq)
            for row in group.published:
                change += len(row.spans)
                self._insert_source(generation, row, group.seq)
            for kind, deltas in group.frequencies.items():
                self._db.executemany(
                    "INSERT INTO frequencies VALUES (?,?,?,?)"
                    " ON CONFLICT DO UPDATE SET frequency=frequency+excluded.frequency",
                    [(generation, kind, i, delta) for i, delta in deltas.items() if delta],
                )
                self._db.executemany(
                    "DELETE FROM frequencies WHERE generation=? AND kind=? AND id=? AND frequency<=0",
                    [(generation, kind, i) for i, delta in deltas.items() if delta < 0],
                )
            self._db.executemany(
                "DELETE FROM embedded WHERE generation=? AND digest=? AND chunk_id=?",
                [(generation, *pair) for pair in group.replaced],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO embedded VALUES (?,?,?)", [(generation, *pair) for pair in group.embedded]
            )
            self._db.execute(
                "UPDATE generations SET committed_seq=?, chunk_count=chunk_count+? WHERE generation=?",
                (group.seq, change, generation),
            )

    def _supersede(self, generation: int, source_id: str, seq: int) -> int:
        row = self._db.execute(
            "SELECT source_version, parser, spans FROM sources WHERE generation=? AND source_id=?",
            (generation, source_id),
        ).fetchone()
        if row is None:
            return 0
        self._db.execute("INSERT OR REPLACE INTO superseded VALUES (?,?,?,?,?,?)", (generation, source_id, *row, seq))
        self._db.execute("DELETE FROM sources WHERE generation=? AND source_id=?", (generation, source_id))
        return len(unpack_spans(row[2]))

    def _insert_source(self, generation: int, row: SourceRow, seq: int) -> None:
        stat = row.stat
        self._db.execute(
            "INSERT INTO sources VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                generation, row.source_id, row.source_version, row.source_uri, row.label, row.relative,
                stat.size_bytes, stat.mtime_ns, stat.ctime_ns, stat.inode, row.checked_at_ns,
                row.media_type, row.parser, row.skipped, row.language, seq, pack_spans(row.spans),
            ),
        )  # fmt: skip
        self._db.execute("INSERT OR IGNORE INTO versions VALUES (?,?)", (row.source_id, row.source_version))
        # A version that comes back carries the ids of its old chunks, which staging overwrote.
        self._db.execute(
            "DELETE FROM superseded WHERE generation=? AND source_id=? AND source_version=?",
            (generation, row.source_id, row.source_version),
        )

    def versions_of(self, generation: int, source_ids: Iterable[str]) -> list[Superseded]:
        """The published versions of those among ``source_ids`` that have one."""
        versions = []
        for source_id in source_ids:
            for version, parser, spans in self._query(
                "SELECT source_version, parser, spans FROM sources WHERE generation=? AND source_id=?",
                generation,
                source_id,
            ):
                versions.append(Superseded(source_id, version, parser, tuple(unpack_spans(spans))))
        return versions

    # -- purging ---------------------------------------------------------------------------------

    def superseded(self, generation: int) -> list[Superseded]:
        """The versions that wait to be purged."""
        rows = self._query(
            "SELECT source_id, source_version, parser, spans FROM superseded WHERE generation=?", generation
        )
        return [Superseded(i, v, p, tuple(unpack_spans(spans))) for i, v, p, spans in rows]

    def purged(self, generation: int) -> None:
        """Record that nothing superseded is left in the store."""
        with translated(self._path, WHAT), transaction(self._db):
            self._db.execute("DELETE FROM superseded WHERE generation=?", (generation,))

    def live_documents(self, source_versions: Iterable[str] | None = None) -> Iterator[DocumentKey]:
        """The archive records that chunks of some generation point into; retired generations do not count.

        With ``source_versions``, only those of these versions. A record may be named more than once. Nothing must
        be written before the last was taken.
        """
        asked = None if source_versions is None else frozenset(source_versions)
        kept = "WHERE generation NOT IN (SELECT generation FROM generations WHERE state='retired')"
        with translated(self._path, WHAT):
            for version, parser, spans in self._db.execute(
                f"SELECT source_version, parser, spans FROM sources {kept} UNION ALL"  # noqa: S608
                f" SELECT source_version, parser, spans FROM superseded {kept}"
            ):
                if asked is None or version in asked:
                    yield from document_keys(version, parser, unpack_spans(spans))

    # -- runs ------------------------------------------------------------------------------------

    def begin_run(self) -> int:
        """Record the start of a run; returns its number."""
        with translated(self._path, WHAT), transaction(self._db):
            return int(self._db.execute("INSERT INTO runs (started_at) VALUES (?)", (time.time(),)).lastrowid or 0)

    def end_run(self, run: int, exit_status: int, report: Mapping[str, Any]) -> None:
        """Record how a run ended; only the newest hundred runs are kept."""
        with translated(self._path, WHAT), transaction(self._db):
            self._db.execute(
                "UPDATE runs SET ended_at=?, exit_status=?, report=? WHERE run=?",
                (time.time(), exit_status, json.dumps(report), run),
            )
            self._db.execute("DELETE FROM runs WHERE run <= ? - 100", (run,))

    def last_run(self) -> dict[str, Any] | None:
        """``run, started_at, ended_at, exit_status, report`` of the newest run, or None."""
        rows = self._query("SELECT run, started_at, ended_at, exit_status, report FROM runs ORDER BY run DESC LIMIT 1")
        if not rows:
            return None
        run, started, ended, status, report = rows[0]
        return {
            "run": run, "started_at": started, "ended_at": ended, "exit_status": status,
            "report": json.loads(report) if report else None,
        }  # fmt: skip

    def _query(self, sql: str, *parameters: Any) -> list[Any]:
        with translated(self._path, WHAT):
            return self._db.execute(sql, parameters).fetchall()


def document_keys(source_version: str, parser: str, spans: Sequence[StoredSpan]) -> list[DocumentKey]:
    """The archive records of a source version: those its chunks point into, or its only one where it has none."""
    return [DocumentKey(source_version, parser, record) for record in {span.record for span in spans} or {""}]


def _source_row(row: Sequence[Any]) -> SourceRow:
    (
        source_id, version, uri, label, relative, size, mtime, ctime, inode, checked, media_type, parser, skipped,
        language, spans,
    ) = row  # fmt: skip
    return SourceRow(
        source_id, version, uri, label, relative, FileStat(size, mtime, ctime, inode), checked, media_type, parser,
        skipped, language, tuple(unpack_spans(spans)),
    )  # fmt: skip
