"""What a query may see: one committed snapshot of the ledger, read without the writer's lock."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ragstack.errors import IndexNotFoundError
from ragstack.ledger.schema import FORMAT_VERSION, LANGUAGES, LEDGER_FILE, LENGTHS, WHAT, language_code
from ragstack.ledger.spans import StoredSpan, span_chunk_ids, unpack_spans
from ragstack.source_names import path_of_name
from ragstack.sqlite import open_read_only, translated
from ragstack.types import Float32Array

# SQLite allows 999 variables in a statement in its older versions.
_MAX_VARIABLES = 900


@dataclass(frozen=True, slots=True)
class TermLengths:
    """How long the chunks of a snapshot are, in BM25 terms; 0 where no chunk has a term."""

    average: float
    longest: int


@dataclass(frozen=True)
class Snapshot:
    """One generation as it was committed.

    Chunks with ``seq > committed_seq`` are staged and must not be seen; ``stale`` are the ids of chunks
    that were published away but perhaps not purged from the store yet. ``config`` holds the blocks the
    generation was built with: queries embed with its model, whatever the current config file says. ``text_languages``
    are those of the chunks, by ISO 639-1 code; one may be empty: unknown.
    """

    generation: int
    fingerprint: str
    config: dict[str, Any]
    committed_seq: int
    group_open: bool
    chunk_count: int
    stale: frozenset[str]
    term_lengths: TermLengths
    text_languages: frozenset[str]

    @property
    def needs_filter(self) -> bool:
        """True while the store may hold chunks that this snapshot must not show."""
        return self.group_open or bool(self.stale)


class SnapshotReader:
    """Reads the active generation from the ledger. Safe to call from several threads one at a time.

    Raises IndexNotFoundError where there is no ledger or no generation is active yet.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / LEDGER_FILE
        if not self._path.exists():
            raise no_index(state_dir)
        self._state_dir = state_dir
        self._connection = open_read_only(self._path, FORMAT_VERSION, what=WHAT)

    @contextmanager
    def consistent(self) -> Iterator[None]:
        """A block whose reads all see the ledger as it was at the first of them."""
        with translated(self._path, WHAT):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    def read(self) -> Snapshot:
        """The snapshot that is committed now."""
        with translated(self._path, WHAT):
            return self._read()

    def _read(self) -> Snapshot:
        row = self._connection.execute(
            "SELECT generation, fingerprint, config, committed_seq, group_open, chunk_count FROM generations"
            " WHERE state='active'"
        ).fetchone()
        if row is None:
            raise no_index(self._state_dir)
        generation, fingerprint, config, committed_seq, group_open, chunk_count = row
        stale: list[str] = []
        for source_id, version, spans in self._connection.execute(
            "SELECT source_id, source_version, spans FROM superseded WHERE generation=?", (generation,)
        ):
            stale += span_chunk_ids(source_id, version, unpack_spans(spans), fingerprint)
        return Snapshot(
            generation, fingerprint, json.loads(config), committed_seq, bool(group_open), chunk_count, frozenset(stale),
            self._term_lengths(generation), self._text_languages(generation),
        )  # fmt: skip

    def frequencies(self, generation: int, kind: int, ids: Sequence[int]) -> Float32Array:
        """In how many chunks each term or word piece occurs: ``(len(ids),) float32``, 0 for unknown ones."""
        wanted = [int(i) for i in ids]
        found: dict[int, int] = {}
        with translated(self._path, WHAT):
            for start in range(0, len(wanted), _MAX_VARIABLES):
                part = wanted[start : start + _MAX_VARIABLES]
                marks = ",".join("?" * len(part))
                found.update(
                    self._connection.execute(
                        f"SELECT id, frequency FROM frequencies WHERE generation=? AND kind=? AND id IN ({marks})",  # noqa: S608
                        (generation, kind, *part),
                    )
                )
        return np.array([found.get(i, 0) for i in wanted], dtype=np.float32)

    def chunk_spans(self, generation: int, source_id: str, source_version: str) -> list[StoredSpan]:
        """The chunks of one version of a file in a generation; none when it is neither published nor to be purged."""
        with translated(self._path, WHAT):
            row = self._connection.execute(
                "SELECT spans FROM sources WHERE generation=? AND source_id=? AND source_version=? UNION ALL"
                " SELECT spans FROM superseded WHERE generation=? AND source_id=? AND source_version=?",
                (generation, source_id, source_version) * 2,
            ).fetchone()
        return [] if row is None else unpack_spans(row[0])

    def _term_lengths(self, generation: int) -> TermLengths:
        total, chunks, longest = self._connection.execute(
            "SELECT sum(id * frequency), sum(frequency), max(id) FROM frequencies WHERE generation=? AND kind=?",
            (generation, LENGTHS),
        ).fetchone()
        return TermLengths(total / chunks, longest) if chunks else TermLengths(0.0, 0)

    def _text_languages(self, generation: int) -> frozenset[str]:
        rows = self._connection.execute(
            "SELECT id FROM frequencies WHERE generation=? AND kind=?", (generation, LANGUAGES)
        ).fetchall()
        return frozenset(language_code(row[0]) for row in rows)

    def embedded(self, generation: int, digests: Sequence[bytes]) -> dict[bytes, str]:
        """The published chunk that has each digest's embedded text, for those that have one."""
        found: dict[bytes, str] = {}
        with translated(self._path, WHAT):
            for start in range(0, len(digests), _MAX_VARIABLES):
                part = digests[start : start + _MAX_VARIABLES]
                marks = ",".join("?" * len(part))
                found.update(
                    self._connection.execute(
                        f"SELECT digest, chunk_id FROM embedded WHERE generation=? AND digest IN ({marks})",  # noqa: S608
                        (generation, *part),
                    )
                )
        return found

    def known_version(self, source_id: str, source_version: str) -> bool:
        """True when this version of the source was indexed at some time."""
        with translated(self._path, WHAT):
            row = self._connection.execute(
                "SELECT 1 FROM versions WHERE source_id=? AND source_version=?", (source_id, source_version)
            ).fetchone()
        return row is not None

    def source_path(self, source_id: str) -> Path | None:
        """Where the source is read from, or None when it is not in the active generation."""
        with translated(self._path, WHAT):
            row = self._connection.execute(
                "SELECT roots.path, sources.relative FROM sources JOIN roots USING (label) JOIN generations"
                " USING (generation) WHERE source_id=? AND state='active'",
                (source_id,),
            ).fetchone()
        return None if row is None else path_of_name(row[0]) / path_of_name(row[1])

    def source_uri(self, source_id: str) -> str:
        """The URI that the source was read from; empty when it is not in the active generation."""
        with translated(self._path, WHAT):
            row = self._connection.execute(
                "SELECT source_uri FROM sources JOIN generations USING (generation)"
                " WHERE source_id=? AND state='active'",
                (source_id,),
            ).fetchone()
        return "" if row is None else str(row[0])

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._connection.close()


def no_index(state_dir: Path) -> IndexNotFoundError:
    """The error for a state directory without a finished index."""
    return IndexNotFoundError(
        f"there is no index in {state_dir} yet.", hint="Build one with: ragstack index PATH (a folder or files)"
    )
