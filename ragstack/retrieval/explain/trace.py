"""What each stage of one query made of chosen chunks: figures only, no words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ragstack.adapters.base import Payload
from ragstack.citations.chain import Chain, PassageLink, Place
from ragstack.filters import Filter, all_of, bind_filter, filter_to_json
from ragstack.repetition import repetition_key
from ragstack.reranking.base import RerankQuery, RerankScore
from ragstack.retrieval.candidates import LegQuery
from ragstack.retrieval.explain.explanation import ExplainedChunk, FilterCheck, LegExplanation
from ragstack.retrieval.explain.ranks import DeepLeg, LegScores, deep_legs, leg_scores
from ragstack.retrieval.explain.session import Session
from ragstack.retrieval.filter_check import failing_conditions
from ragstack.retrieval.fusion import FusedHit
from ragstack.retrieval.phrases import contain_all
from ragstack.types import Chunk, embedded_prefix

MAX_EXPECTED = 10
"""Expected chunks that are told of one by one; of more, those that came furthest."""
_FIND_ALL = 8
_NEAR_MISSES = 3
_EXCERPT_CHARACTERS = 240


@dataclass(frozen=True)
class Trace:
    """One query gone through again over its snapshot.

    ``total``: how many chunks its filter lets pass. ``hits`` are its candidates in fused order, ``ranked`` those that
    were reranked, ``legs`` its legs searched exactly. ``expected`` and ``others`` are ids in the order in
    which they are shown; ``chunks`` has what is known of each.
    """

    chain: Chain
    query: RerankQuery
    leg_query: LegQuery
    total: int
    hits: Sequence[FusedHit]
    ranked: Sequence[RerankScore]
    legs: Mapping[str, DeepLeg]
    expected: Sequence[str]
    others: Sequence[str]
    chunks: Mapping[str, ExplainedChunk]

    @property
    def best(self) -> ExplainedChunk | None:
        """The expected chunk that came furthest."""
        return self.chunks[self.expected[0]] if self.expected else None


def trace(
    chain: Chain, expected_ids: Sequence[str], session: Session, request_filter: Filter | None, limits: list[str]
) -> Trace:
    """Go through the query of ``chain`` again and follow the expected chunks and those it found.

    ``session`` must hold the snapshot that ``chain`` was made from; ``limits`` is added to.
    """
    retrieval = session.config.retrieval
    filters = {"query": request_filter, "config": retrieval.parsed_filter()}
    pinned = all_of(session.access_filter, *filters.values())
    query, leg_query = session.encode(chain.query.search_text)
    hits = session.retriever(exact=False).candidates(leg_query, session.snapshot, pinned, retrieval.top_k)
    considered = hits[: retrieval.rerank_k]
    ranked = _rerank(query, leg_query, considered, session)
    payloads = session.payloads(expected_ids)
    checks = {chunk_id: _filter_checks(payload, filters, session) for chunk_id, payload in payloads.items()}
    passing = [chunk_id for chunk_id, failed in checks.items() if not failed]
    # Of what a filter keeps out, ranks are told as they would be without it.
    rank_filter = pinned if passing or not checks else session.access_filter
    followed = passing or list(checks)
    scores = leg_scores(leg_query, session, followed)
    # Of what lacks a quoted phrase, ranks are told as they would be without the quotation marks.
    unquoted = replace(leg_query, phrases=None)
    deep_query = leg_query if any(holds_phrases(leg_query, payloads[i]) for i in followed) else unquoted
    legs = deep_legs(deep_query, session, rank_filter, scores, find_all=len(followed) <= _FIND_ALL, limits=limits)
    places = _Places(chain, hits, ranked, legs, {i: session.chunk(i) for i in followed})
    expected = sorted(followed, key=lambda i: (*places.furthest(i), -scores[i].dense, i))[:MAX_EXPECTED]
    if len(followed) > len(expected):
        limits.append(f"Of {len(followed)} expected chunks the {len(expected)} that came furthest are shown.")
    others = [i for i in _near(chain, ranked, hits) if i not in expected]
    shown = [*expected, *others]
    scores |= leg_scores(leg_query, session, [i for i in shown if i not in scores])
    shown = [i for i in shown if i in scores]
    late = _late_scores(query, leg_query, considered, [i for i in passing if i in expected], session)
    facts = _Facts(session, places, scores, checks, ranked, late, legs)
    return Trace(
        chain, query, leg_query, _total(session, rank_filter), hits, ranked, legs, expected,
        [i for i in others if i in scores], {i: facts.chunk(i, i in expected) for i in shown},
    )  # fmt: skip


@dataclass(frozen=True)
class _Places:
    """Where chunks are in each list of the query."""

    chain: Chain
    hits: Sequence[FusedHit]
    ranked: Sequence[RerankScore]
    legs: Mapping[str, DeepLeg]
    chunks: Mapping[str, Chunk]

    def passage(self, chunk_id: str) -> PassageLink | None:
        """The passage that the chunk was ranked into, else one that was widened over it."""
        passages = self.chain.passages
        return next((p for p in passages if chunk_id in p.chunk_ids), self._over(self.chunks.get(chunk_id)))

    def _over(self, chunk: Chunk | None) -> PassageLink | None:
        return next((p for p in self.chain.passages if chunk is not None and _covers(p.place, chunk)), None)

    def fused(self, chunk_id: str) -> int | None:
        return next((rank for rank, hit in enumerate(self.hits, 1) if hit.id == chunk_id), None)

    def reranked(self, chunk_id: str) -> int | None:
        return next((rank for rank, score in enumerate(self.ranked, 1) if score.chunk_id == chunk_id), None)

    def furthest(self, chunk_id: str) -> tuple[int, int]:
        """A key that sorts chunks by how far they came: passages first, then reranked ones, candidates, the rest."""
        passage = self.passage(chunk_id)
        found = [
            None if passage is None else passage.rank,
            self.reranked(chunk_id),
            self.fused(chunk_id),
            min((rank for leg in self.legs.values() if (rank := leg.rank(chunk_id)) is not None), default=None),
        ]
        return next(((stage, rank) for stage, rank in enumerate(found) if rank is not None), (len(found), 0))


@dataclass(frozen=True)
class _Facts:
    session: Session
    places: _Places
    scores: Mapping[str, LegScores]
    checks: Mapping[str, tuple[FilterCheck, ...]]
    ranked: Sequence[RerankScore]
    late: Mapping[str, tuple[int, RerankScore]]
    legs: Mapping[str, DeepLeg]

    def chunk(self, chunk_id: str, is_expected: bool) -> ExplainedChunk:
        """All that is known of one chunk."""
        chunk, place = self.session.chunk(chunk_id), self.session.place(self.session.payloads([chunk_id])[chunk_id])
        passage, rank = self.places.passage(chunk_id), self.places.reranked(chunk_id)
        reranked = (rank, self.ranked[rank - 1]) if rank is not None else self.late.get(chunk_id)
        score = None if reranked is None else reranked[1]
        return ExplainedChunk(
            chunk_id=chunk_id,
            source_id=chunk.source_id,
            source_version=chunk.source_version,
            byte_start=chunk.byte_start,
            byte_end=chunk.byte_end,
            line_start=place.line_start,
            line_end=place.line_end,
            heading_path=chunk.heading_path,
            token_count=chunk.token_count,
            excerpt=_excerpt(chunk.text),
            expected=is_expected,
            filtered_by=self.checks.get(chunk_id, ()),
            legs={leg: self._leg(chunk_id, leg) for leg in self.legs},
            fused_rank=self.places.fused(chunk_id),
            reranked=rank is not None,
            rerank_rank=None if reranked is None else reranked[0],
            score=None if score is None else float(score.score),
            relevance=None if score is None else float(score.relevance),
            score_parts={} if score is None else {name: float(part) for name, part in score.parts.items()},
            passage_rank=None if passage is None else passage.rank,
            duplicate_of=None if passage is not None or rank is None else self._duplicate_of(chunk_id, rank),
            sentences=tuple(_sentences(self.places.chain, chunk.source_id, chunk.byte_start, chunk.byte_end)),
        )

    def _leg(self, chunk_id: str, leg: str) -> LegExplanation:
        deep, mode = self.legs[leg], self.session.config.retrieval.mode
        rank = deep.rank(chunk_id)
        hit = next((hit for hit in self.places.hits if hit.id == chunk_id), None)
        score: float = getattr(self.scores[chunk_id], leg)
        is_findable = leg == "dense" or score > 0
        return LegExplanation(
            rank=rank,
            rank_above=len(deep.hits) if rank is None and is_findable and not deep.complete else None,
            score=score,
            returned=hit is not None and hit.ranks.get(leg) is not None,
            searched=mode in ("hybrid", leg),
        )

    def _duplicate_of(self, chunk_id: str, rank: int) -> str | None:
        """The best chunk ahead of it that says the same (:func:`ragstack.repetition.repetition_key`)."""
        words = repetition_key(self.session.chunk(chunk_id).text)
        ahead = [score.chunk_id for score in self.ranked[: rank - 1]]
        payloads = self.session.payloads(ahead)
        return next((i for i in ahead if i in payloads and repetition_key(payloads[i]["text"]) == words), None)


def holds_phrases(query: LegQuery, payload: Payload) -> bool:
    """Whether a chunk has every phrase that the query quotes, as it stands."""
    text = embedded_prefix(payload["heading_path"]) + str(payload["text"])
    return query.phrases is None or contain_all(query.phrases.phrases, text)


def _covers(place: Place, chunk: Chunk) -> bool:
    return (
        (place.source_id, place.source_version) == (chunk.source_id, chunk.source_version)
        and place.byte_start <= chunk.byte_start
        and chunk.byte_end <= place.byte_end
    )


def _rerank(query: RerankQuery, leg_query: LegQuery, hits: Sequence[FusedHit], session: Session) -> list[RerankScore]:
    candidates = session.retriever(exact=False).with_scores(leg_query, hits, session.snapshot)
    return session.parts.reranker.rerank(query, candidates)


def _late_scores(
    query: RerankQuery, leg_query: LegQuery, considered: Sequence[FusedHit], chunk_ids: Sequence[str], session: Session
) -> dict[str, tuple[int, RerankScore]]:
    """Scores of chunks that the query did not rerank, and their places among those that it did."""
    known = {hit.id for hit in considered}
    late = [i for i in chunk_ids if i not in known]
    if not late:
        return {}
    payloads = session.payloads(late)
    found = {}
    scored = _rerank(query, leg_query, [*considered, *(FusedHit(i, 0.0, payloads[i], {}) for i in late)], session)
    ahead = 0
    for score in scored:
        if score.chunk_id in known:
            ahead += 1
        else:
            found[score.chunk_id] = (ahead + 1, score)
    return found


def _filter_checks(
    payload: Mapping[str, object], filters: Mapping[str, Filter | None], session: Session
) -> tuple[FilterCheck, ...]:
    types = session.parts.config.field_types()
    return tuple(
        FilterCheck(
            origin="query" if origin == "query" else "config",
            condition=filter_to_json(condition),
            found=payload.get(condition.field),
        )
        for origin, part in filters.items()
        if part is not None
        for condition in failing_conditions(bind_filter(part, types), payload, types)
    )


def _near(chain: Chain, ranked: Sequence[RerankScore], hits: Sequence[FusedHit]) -> list[str]:
    """The best chunk of each passage, the next ones in the ranking, and the next ones that were not reranked."""
    inside = {chunk_id for passage in chain.passages for chunk_id in passage.chunk_ids}
    best = [passage.chunk_ids[0] for passage in chain.passages]
    next_ranked = _first(score.chunk_id for score in ranked if score.chunk_id not in inside)
    return [*best, *next_ranked, *_first(hit.id for hit in hits[len(ranked) :])]


def _first(ids: Iterable[str]) -> list[str]:
    return [chunk_id for _, chunk_id in zip(range(_NEAR_MISSES), ids, strict=False)]


def _sentences(chain: Chain, source_id: str, byte_start: int, byte_end: int) -> list[int]:
    """The numbers of the answer's sentences that cite bytes of this range."""
    if chain.answer is None:
        return []
    ids = {
        citation.citation_id
        for citation in chain.answer.citations
        if citation.place.source_id == source_id
        and citation.place.byte_start < byte_end
        and byte_start < citation.place.byte_end
    }
    return [n for n, sentence in enumerate(chain.answer.sentences, 1) if ids & set(sentence.citation_ids)]


def _total(session: Session, filter: Filter | None) -> int:
    if filter is None:
        return session.snapshot.chunk_count
    return session.store.count(session.collection, filter)


def _excerpt(text: str) -> str:
    short = " ".join(text[: 4 * _EXCERPT_CHARACTERS].split())
    return short if len(short) <= _EXCERPT_CHARACTERS else short[: _EXCERPT_CHARACTERS - 1] + "…"
