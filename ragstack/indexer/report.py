"""What a run did, and how a caller follows it while it runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class FailedSource:
    """A source that could not be read or parsed; its last good version stays in the index."""

    path: str
    reason: str


@dataclass
class IndexReport:
    """Counts of one run. ``skipped`` is by reason. Tokens are the embedder's, specials left out.

    ``languages`` counts all sources of the index by ISO 639-1 code, or ``unknown``.

    ``chunks_reused`` of the ``chunks_written`` took vectors that were stored already; ``tokens_embedded``
    counts the others.
    """

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    deleted: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failed: list[FailedSource] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    languages: dict[str, int] = field(default_factory=dict)
    chunks_written: int = 0
    chunks_reused: int = 0
    tokens_embedded: int = 0
    chunk_count: int = 0
    generation: int = 0
    rebuilt_because: str = ""
    recovered: bool = False
    seconds: float = 0.0

    @property
    def exit_status(self) -> int:
        """0 when every source is in, 3 when some failed."""
        return 3 if self.failed else 0

    def to_json(self) -> dict[str, Any]:
        """The report as ``ragstack index --json`` prints it."""
        return {
            "added": self.added,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "deleted": self.deleted,
            "skipped": dict(sorted(self.skipped.items())),
            "failed": [{"path": f.path, "reason": f.reason} for f in self.failed],
            "warnings": self.warnings,
            "languages": self.languages,
            "chunks_written": self.chunks_written,
            "chunks_reused": self.chunks_reused,
            "tokens_embedded": self.tokens_embedded,
            "chunk_count": self.chunk_count,
            "generation": self.generation,
            "rebuilt_because": self.rebuilt_because,
            "recovered": self.recovered,
            "seconds": round(self.seconds, 3),
            "exit_status": self.exit_status,
        }

    def to_record(self) -> dict[str, Any]:
        """The report as the ledger keeps it: without warnings, whose words name sources that may be erased later."""
        return {key: value for key, value in self.to_json().items() if key != "warnings"}


class IndexProgress(Protocol):
    """Follows a run. Called from the run's own thread; must return quickly."""

    def planned(self, files: int, size_bytes: int) -> None:
        """Discovery is done: this many files, of this size, will be read."""

    def read(self, size_bytes: int) -> None:
        """One more file has been read (and parsed, skipped or failed)."""

    def embedded(self, chunks: int, tokens: int) -> None:
        """A batch of chunks has been embedded."""

    def note(self, message: str) -> None:
        """Something the user should know now."""


class SilentProgress:
    """Follows nothing."""

    def planned(self, files: int, size_bytes: int) -> None:
        """Nothing."""

    def read(self, size_bytes: int) -> None:
        """Nothing."""

    def embedded(self, chunks: int, tokens: int) -> None:
        """Nothing."""

    def note(self, message: str) -> None:
        """Nothing."""
