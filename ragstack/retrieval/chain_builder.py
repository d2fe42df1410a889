"""Puts the citation chain of one query together. Every place comes from the archive, not from the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from ragstack.archive.base import DocumentKey
from ragstack.citations.chain import (
    CHAIN_FORMAT,
    AddedChunk,
    CandidateLink,
    Chain,
    DuplicateLink,
    IndexLink,
    LegScore,
    PassageLink,
    Place,
    QueryLink,
    StageLink,
)
from ragstack.citations.places import DocumentReader, OpenDocument
from ragstack.config.models import PipelineConfig
from ragstack.filters import Filter, filter_to_json
from ragstack.ledger.snapshot import Snapshot
from ragstack.retrieval.fusion import FusedHit
from ragstack.retrieval.passages import DocumentChunk, Passage
from ragstack.types import Chunk


@dataclass(frozen=True)
class Found:
    """What one query found, stage by stage."""

    text: str
    search_text: str
    filter: Filter | None
    snapshot: Snapshot
    hits: Sequence[FusedHit]
    passages: Sequence[OpenPassage]
    top_n: int
    min_relevance: float
    reranker: str


@dataclass(frozen=True)
class OpenPassage:
    """A passage with its document in hand: its quotes can be placed when archive and index have moved on."""

    passage: Passage
    document: OpenDocument
    source_uri: str
    duplicates: tuple[Place, ...] = ()

    @classmethod
    def open(cls, passage: Passage, documents: DocumentReader, source_uri: Callable[[str], str]) -> OpenPassage:
        """Read the documents of a passage and its duplicates.

        Raises IndexFormatError where the archive does not hold one.
        """
        duplicates = []
        for each in passage.duplicates:
            chunk = each.chunk
            document, uri = _document(each, documents), source_uri(each.container)
            duplicates.append(
                document.place(chunk.source_id, uri, chunk.byte_start, chunk.byte_end, chunk.heading_path)
            )
        hit = passage.hits[0]
        return cls(passage, _document(hit, documents), source_uri(hit.container), tuple(duplicates))

    def place(self, byte_start: int, byte_end: int) -> Place:
        """The place of a canonical byte range; its headings are those of the chunk that it begins in."""
        best = self.passage.best
        members = (best, *self.passage.members)
        chunk = next((each for each in members if each.byte_start <= byte_start < each.byte_end), best)
        return self.document.place(best.source_id, self.source_uri, byte_start, byte_end, chunk.heading_path)

    def link(self, rank: int) -> PassageLink:
        """The passage as the chain tells of it."""
        score = self.passage.score
        return PassageLink(
            rank=rank,
            chunk_ids=tuple(hit.chunk.chunk_id for hit in self.passage.hits),
            added=tuple(_added(each.chunk) for each in self.passage.added),
            duplicates=tuple(
                DuplicateLink(chunk_id=each.chunk.chunk_id, place=place)
                for each, place in zip(self.passage.duplicates, self.duplicates, strict=True)
            ),
            score=float(score.score),
            relevance=float(score.relevance),
            score_parts={name: float(part) for name, part in score.parts.items()},
            stages=tuple(
                StageLink(reranker=stage.reranker, rank=stage.rank, score=stage.score, error=stage.error or None)
                for stage in score.stages
            ),
            place=self.document.place(
                self.passage.best.source_id,
                self.source_uri,
                self.passage.byte_start,
                self.passage.byte_end,
                self.passage.best.heading_path,
            ),
        )


def _document(member: DocumentChunk, documents: DocumentReader) -> OpenDocument:
    return documents.open(DocumentKey(member.chunk.source_version, member.parser, member.record))


def _added(chunk: Chunk) -> AddedChunk:
    return AddedChunk(chunk_id=chunk.chunk_id, byte_start=chunk.byte_start, byte_end=chunk.byte_end)


def build_chain(found: Found, config: PipelineConfig, reranker_errors: tuple[str, ...] = ()) -> Chain:
    """The chain without an answer, its digest still empty (:meth:`Chain.with_timings` seals it).

    ``reranker_errors``: why stages of the reranker did not order what they read.
    """
    retrieval = config.retrieval
    return Chain(
        format=CHAIN_FORMAT,
        created_at=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        query=QueryLink(
            text=found.text,
            search_text=found.search_text,
            filter=None if found.filter is None else filter_to_json(found.filter),
            mode=retrieval.mode,
            top_k=retrieval.top_k,
            rerank_k=retrieval.rerank_k,
            top_n=found.top_n,
            reranker=found.reranker,
            reranker_errors=reranker_errors,
            min_relevance=found.min_relevance,
            mmr_lambda=retrieval.mmr_lambda,
            expand=retrieval.expand,
            expand_tokens=retrieval.expand_tokens,
        ),
        index=IndexLink(
            generation=found.snapshot.generation,
            fingerprint=found.snapshot.fingerprint,
            committed_seq=found.snapshot.committed_seq,
            embedder=getattr(config.embedder, "model", config.embedder.type),
        ),
        candidates=tuple(_candidate(rank, hit) for rank, hit in enumerate(found.hits, 1)),
        passages=tuple(passage.link(rank) for rank, passage in enumerate(found.passages, 1)),
        answer=None,
        timings_s={},
        digest="",
    )


def _candidate(rank: int, hit: FusedHit) -> CandidateLink:
    payload = hit.payload
    return CandidateLink(
        chunk_id=hit.id,
        source_id=payload["source_id"],
        source_version=payload["source_version"],
        byte_start=payload["byte_start"],
        byte_end=payload["byte_end"],
        legs={
            leg: LegScore(rank=found.rank, score=float(found.score))
            for leg, found in hit.ranks.items()
            if found is not None
        },
        fused_rank=rank,
        fused_score=float(hit.score),
    )
