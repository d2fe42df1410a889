"""From reranked chunks to passages: overlaps and repetitions merged, each grown as far as its context is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ragstack.adapters.base import Payload
from ragstack.repetition import repetition_key
from ragstack.reranking.base import RerankScore
from ragstack.retrieval.candidates import chunk_of
from ragstack.types import Chunk


@dataclass(frozen=True)
class DocumentChunk:
    """A chunk and what names its document.

    ``parser`` (``name/version media-type``) made the document, and ``record`` is its place inside a container, or
    empty.
    """

    chunk: Chunk
    parser: str
    record: str

    @classmethod
    def of(cls, chunk_id: str, payload: Payload) -> DocumentChunk:
        """From a stored payload. Raises IndexFormatError when the payload is not one this package wrote."""
        return cls(chunk_of(chunk_id, payload), payload["parser"], payload["record"])

    @property
    def container(self) -> str:
        """The ``source_id`` of the file: the document's own, less the record."""
        source_id = self.chunk.source_id
        return source_id[: -len(self.record) - 1] if self.record else source_id

    def same_document(self, other: DocumentChunk) -> bool:
        """Whether two chunks are of one version of one document."""
        mine, others = self.chunk, other.chunk
        return (mine.source_id, mine.source_version) == (others.source_id, others.source_version)


@dataclass(frozen=True)
class Passage:
    """One passage: a contiguous range of one document's canonical text.

    ``hits`` are the ranked chunks it was made from, best first: the first gave the score. ``added`` are chunks around
    them, in document order, that were put in for context and overlap no hit. ``duplicates`` are ranked chunks of
    other places with the same words (see :func:`ragstack.repetition.repetition_key`).
    """

    hits: tuple[DocumentChunk, ...]
    score: RerankScore
    added: tuple[DocumentChunk, ...] = ()
    duplicates: tuple[DocumentChunk, ...] = ()

    @property
    def best(self) -> Chunk:
        """The chunk that gave the score."""
        return self.hits[0].chunk

    @property
    def members(self) -> tuple[Chunk, ...]:
        """Hits and added chunks in document order."""
        chunks = (member.chunk for member in (*self.hits, *self.added))
        return tuple(sorted(chunks, key=lambda chunk: (chunk.byte_start, chunk.byte_end)))

    @property
    def byte_start(self) -> int:
        """The first byte in the canonical text."""
        return min(chunk.byte_start for chunk in self.members)

    @property
    def byte_end(self) -> int:
        """The end in the canonical text, exclusive."""
        return max(chunk.byte_end for chunk in self.members)

    def overlaps(self, other: DocumentChunk) -> bool:
        """Whether a chunk shares bytes with this passage."""
        same = self.hits[0].same_document(other)
        return same and self.byte_start < other.chunk.byte_end and other.chunk.byte_start < self.byte_end


Grow = Callable[[DocumentChunk, Sequence[Passage]], Sequence[DocumentChunk]]
"""Chunks to be put around a hit, contiguous with it, that overlap none of the passages given."""


def build_passages(
    ranked: Sequence[RerankScore],
    payloads: Mapping[str, Payload],
    top_n: int,
    grow: Grow = lambda hit, passages: (),
) -> list[Passage]:
    """The best ``top_n`` passages of the ranking; no two share bytes.

    A chunk that overlaps a better passage widens it, and joins two of them where it overlaps both. A chunk that a
    passage grew over is a hit of it where it would have been a passage of its own. A chunk with the words of a better
    one is named as its duplicate.
    """
    passages: list[Passage] = []
    by_words: dict[str, str] = {}  # of each text seen, the best chunk that has it
    for score in ranked:
        hit = DocumentChunk.of(score.chunk_id, payloads[score.chunk_id])
        words = repetition_key(hit.chunk.text)
        overlapping = [index for index, passage in enumerate(passages) if passage.overlaps(hit)]
        if len(passages) >= top_n and any(_added(passage, score.chunk_id) for passage in passages):
            pass  # it would not have been shown for itself: it stays context
        elif overlapping:
            passages = _joined(passages, overlapping, hit)
        elif words in by_words:
            passages = [
                replace(passage, duplicates=(*passage.duplicates, hit)) if _holds(passage, by_words[words]) else passage
                for passage in passages
            ]
        elif len(passages) < top_n:
            passages.append(Passage((hit,), score, added=tuple(grow(hit, passages))))
        by_words.setdefault(words, score.chunk_id)
    return passages


def _joined(passages: Sequence[Passage], overlapping: Sequence[int], hit: DocumentChunk) -> list[Passage]:
    """The passages with those that a hit overlaps made one, in the place of the best of them."""
    first, others = passages[overlapping[0]], [passages[index] for index in overlapping[1:]]
    together = (first, *others)
    hits = (*(each for passage in together for each in passage.hits), hit)
    added = _apart((each for passage in together for each in passage.added), hits)
    duplicates = tuple(each for passage in together for each in passage.duplicates)
    merged = Passage(hits, first.score, added, duplicates)
    return [
        merged if index == overlapping[0] else passage
        for index, passage in enumerate(passages)
        if index not in overlapping[1:]
    ]


def _apart(added: Iterator[DocumentChunk], hits: Sequence[DocumentChunk]) -> tuple[DocumentChunk, ...]:
    """The added chunks that are no hits themselves."""
    ids = {hit.chunk.chunk_id for hit in hits}
    return tuple(each for each in added if each.chunk.chunk_id not in ids)


def _added(passage: Passage, chunk_id: str) -> bool:
    return any(each.chunk.chunk_id == chunk_id for each in passage.added)


def _holds(passage: Passage, chunk_id: str) -> bool:
    return any(hit.chunk.chunk_id == chunk_id for hit in passage.hits)
