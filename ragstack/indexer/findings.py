"""What a check of an index can find: kinds of differences, and their sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ragstack.archive.base import DocumentKey
from ragstack.indexer.statistics import ChunkCounts, new_counts

KINDS = {
    "chunk_missing": "a chunk of the ledger is not in the store: queries cannot find it",
    "chunk_extra": "a chunk in the store belongs to no version in the ledger: queries may show what is not indexed",
    "chunk_damaged": "a chunk's record cannot be read from the store",
    "payload_wrong": "a chunk's stored place or version is unlike the ledger's: its citation would be wrong",
    "text_wrong": "a chunk's stored text is not the text of its bytes in the archive",
    "vector_damaged": "a chunk's dense or sparse vector is not one that was written: its rank would be wrong",
    "tokens_missing": "a chunk has no token vectors: reranking cannot compare it",
    "tokens_extra": "token vectors of a chunk that the ledger does not name",
    "tokens_damaged": "a chunk's token vectors cannot be decoded",
    "document_missing": "the archive lacks a document that chunks point into: its citations cannot be checked",
    "document_damaged": "an archived document does not match its hash",
    "document_extra": "an archived document that no version in the ledger refers to",
    "frequencies_wrong": "the counts of terms or word pieces are unlike those of the stored chunks: scores are off",
    "count_wrong": "the ledger's number of chunks is not the sum over its sources",
    "leftover": "a collection or file of a generation that the ledger does not know",
    "store_unreadable": "the store's collection cannot be opened or read",
    "tokens_unreadable": "the file of token vectors cannot be opened or read",
    "archive_unreadable": "the document archive cannot be opened or read",
}
"""Every kind of difference, and what it means."""

_WHOLE_FILES = ("store_unreadable", "tokens_unreadable", "archive_unreadable")


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it should be. ``where`` is a source id, a file or a collection."""

    kind: str
    where: str
    detail: str
    chunk_ids: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The difference as ``ragstack fsck --json`` prints it."""
        return {
            "kind": self.kind, "meaning": KINDS[self.kind], "where": self.where, "detail": self.detail,
            "chunk_ids": list(self.chunk_ids),
        }  # fmt: skip


@dataclass
class Findings:
    """What a check found.

    ``damaged_sources`` must be read again; ``extra_*`` can go. ``frequencies`` are counted over the sound
    sources alone. ``pending`` says in words what a killed run left to be done, which is no damage.
    """

    differences: list[Difference] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    damaged_sources: set[str] = field(default_factory=set)
    bad_documents: set[DocumentKey] = field(default_factory=set)
    extra_chunks: list[str] = field(default_factory=list)
    extra_tokens: list[str] = field(default_factory=list)
    frequencies: ChunkCounts = field(default_factory=new_counts)
    sources: int = 0
    chunks: int = 0
    documents: int = 0

    @property
    def needs_rebuild(self) -> bool:
        """True when a whole file cannot be read, so that single sources cannot be mended."""
        return any(difference.kind in _WHOLE_FILES for difference in self.differences)

    def add(self, kind: str, where: str, detail: str, chunk_ids: Sequence[str] = ()) -> None:
        """Note a difference."""
        self.differences.append(Difference(kind, where, detail, tuple(chunk_ids)))


class Faults:
    """The faults of one source by kind: the first detail, and the chunks concerned."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[str, list[str]]] = {}
        self._seen: set[tuple[str, str]] = set()

    def add(self, kind: str, identity: str, detail: str) -> None:
        """Note a fault; ``identity`` is the chunk's, or empty where the whole source is meant."""
        _, ids = self.found.setdefault(kind, (detail, []))
        if identity and (kind, identity) not in self._seen:
            self._seen.add((kind, identity))
            ids.append(identity)

    def has(self, kind: str, identity: str) -> bool:
        """True when this fault of this chunk was noted."""
        return (kind, identity) in self._seen
