"""Puts the citation chain of one query together. Every place comes from the archive, not from the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from ragstack.archive.base import DocumentKey
from ragstack.citations.answer_text import with_markers
from ragstack.citations.chain import (
    CHAIN_FORMAT,
    AnswerLink,
    CandidateLink,
    Chain,
    Citation,
    IndexLink,
    LegScore,
    PassageLink,
    Place,
    QueryLink,
    SentenceLink,
    citation_id,
)
from ragstack.citations.places import DocumentReader
from ragstack.config.models import PipelineConfig
from ragstack.filters import Filter, filter_to_json
from ragstack.generation.base import Answer, Quote
from ragstack.ledger.snapshot import Snapshot
from ragstack.retrieval.fusion import FusedHit
from ragstack.retrieval.passages import Passage


@dataclass(frozen=True)
class ChainInputs:
    """What one query came to, stage by stage."""

    text: str
    filter: Filter | None
    snapshot: Snapshot
    hits: Sequence[FusedHit]
    passages: Sequence[Passage]
    answer: Answer | None
    top_n: int
    min_relevance: float
    reranker: str


def build_chain(
    inputs: ChainInputs, config: PipelineConfig, documents: DocumentReader, source_uri: Callable[[str], str]
) -> Chain:
    """The chain, its digest still empty (:meth:`Chain.with_timings` seals it)."""
    places = _Places(documents, source_uri)
    passages = [places.passage(rank, passage) for rank, passage in enumerate(inputs.passages, 1)]
    retrieval = config.retrieval
    return Chain(
        format=CHAIN_FORMAT,
        created_at=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        query=QueryLink(
            text=inputs.text,
            filter=None if inputs.filter is None else filter_to_json(inputs.filter),
            mode=retrieval.mode,
            top_k=retrieval.top_k,
            rerank_k=retrieval.rerank_k,
            top_n=inputs.top_n,
            reranker=inputs.reranker,
            min_relevance=inputs.min_relevance,
        ),
        index=IndexLink(
            generation=inputs.snapshot.generation,
            fingerprint=inputs.snapshot.fingerprint,
            committed_seq=inputs.snapshot.committed_seq,
            embedder=getattr(config.embedder, "model", config.embedder.type),
        ),
        candidates=tuple(_candidate(rank, hit) for rank, hit in enumerate(inputs.hits, 1)),
        passages=tuple(passages),
        answer=None if inputs.answer is None else _answer(inputs.answer, inputs.passages, places),
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


@dataclass(frozen=True)
class _Places:
    """Opens the documents that passages and quotes lie in."""

    documents: DocumentReader
    source_uri: Callable[[str], str]

    def place(self, passage: Passage, byte_start: int, byte_end: int) -> Place:
        chunk = passage.best
        document = self.documents.open(DocumentKey(chunk.source_version, passage.parser, passage.record))
        uri = self.source_uri(passage.container)
        return document.place(chunk.source_id, uri, byte_start, byte_end, chunk.heading_path)

    def passage(self, rank: int, passage: Passage) -> PassageLink:
        return PassageLink(
            rank=rank,
            chunk_ids=passage.chunk_ids,
            score=float(passage.score.score),
            relevance=float(passage.score.relevance),
            score_parts={name: float(part) for name, part in passage.score.parts.items()},
            place=self.place(passage, passage.byte_start, passage.byte_end),
        )


def _answer(answer: Answer, passages: Sequence[Passage], places: _Places) -> AnswerLink:
    """The answer as shown: sentences joined by spaces, each followed by the markers of its sources.

    Sources are numbered from 1 in the order in which the answer first rests on them.
    """
    numbers: dict[int, int] = {}
    citations: dict[str, Citation] = {}
    sentences: list[SentenceLink] = []
    text = ""
    for sentence in answer.sentences:
        ids = []
        for quote in sentence.quotes:
            number = numbers.setdefault(quote.marker, len(numbers) + 1)
            citation = _citation(quote, number, passages[quote.marker - 1], places)
            citations.setdefault(citation.citation_id, citation)
            ids.append(citation.citation_id)
        shown = " ".join(sentence.text.split())
        start = len(text.encode("utf-8")) + bool(text)
        marked = with_markers(shown, [citations[i].marker for i in ids])
        text = f"{text} {marked}" if text else marked
        sentences.append(
            SentenceLink(
                byte_start=start,
                byte_end=start + len(shown.encode("utf-8")),
                text=shown,
                citation_ids=tuple(ids),
                support=sentence.support,
            )
        )
    return AnswerLink(
        generator=answer.generator, text=text, sentences=tuple(sentences), citations=tuple(citations.values())
    )


def _citation(quote: Quote, marker: int, passage: Passage, places: _Places) -> Citation:
    place = places.place(passage, quote.byte_start, quote.byte_end)
    identity = citation_id(place.source_version, place.parser, place.record, place.byte_start, place.byte_end)
    return Citation(citation_id=identity, marker=marker, passage_rank=quote.marker, place=place)
