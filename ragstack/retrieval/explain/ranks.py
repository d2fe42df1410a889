"""Exact ranks of expected chunks, however deep, and what other settings would have made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ragstack.adapters.base import Hit
from ragstack.config.retrieval import RetrievalConfig
from ragstack.filters import Filter
from ragstack.retrieval.candidates import LegQuery, fuse_legs
from ragstack.retrieval.explain.session import Session
from ragstack.retrieval.fusion import FusedHit

LEGS = ("dense", "sparse")
MAX_DEPTH = 10_000
"""Hits of one leg that are looked through."""
_FIRST_DEPTH = 200
_GROWTH = 7
_BEYOND = 3
MAX_TOP_K, MAX_RERANK_K = 10_000, 1000


@dataclass(frozen=True)
class DeepLeg:
    """One leg, searched exactly until the expected chunks were found. ``complete``: it has no more hits."""

    hits: Sequence[Hit]
    complete: bool

    def rank(self, chunk_id: str) -> int | None:
        """The chunk's rank, or None where it was not found."""
        return next((rank for rank, hit in enumerate(self.hits, 1) if hit.id == chunk_id), None)


@dataclass(frozen=True)
class LegScores:
    """The scores that the two legs give one chunk."""

    dense: float
    sparse: float


def leg_scores(query: LegQuery, session: Session, chunk_ids: Sequence[str]) -> dict[str, LegScores]:
    """Computed from the stored vectors."""
    return {
        chunk_id: LegScores(float(record.dense @ query.dense), sum(session.term_points(query, chunk_id).values()))
        for chunk_id, record in session.records(chunk_ids).items()
    }


def deep_legs(
    query: LegQuery,
    session: Session,
    filter: Filter | None,
    scores: Mapping[str, LegScores],
    *,
    find_all: bool,
    limits: list[str],
) -> dict[str, DeepLeg]:
    """Both legs, as deep as it takes to meet the chunks of ``scores``: all of them, or the first.

    Searched to at most ``MAX_DEPTH`` hits, and to the depth of the config's ``top_k`` whatever is met.
    """
    found = {}
    capabilities = session.store.capabilities
    most = min(MAX_DEPTH, capabilities.max_top_k)
    if not capabilities.exact_search:
        limits.append("This store cannot search its vectors exactly, so ranks of the dense leg are approximate.")
    for leg in LEGS:
        if leg == "sparse" and not capabilities.sparse:
            continue
        # A chunk without a word of the query is in no list of the sparse leg, however long.
        wanted = {i for i, score in scores.items() if leg == "dense" or score.sparse > 0}
        retriever = session.retriever(exact=capabilities.exact_search, mode=leg)
        depth = min(max(_FIRST_DEPTH, session.config.retrieval.top_k), most)
        while True:
            fused = retriever.candidates(query, session.snapshot, filter, depth)
            hits = [Hit(hit.id, rank.score, hit.payload) for hit in fused if (rank := hit.ranks[leg]) is not None]
            ranks = {hit.id: rank for rank, hit in enumerate(hits, 1) if hit.id in wanted}
            is_met = ranks.keys() == wanted if find_all else bool(ranks) or not wanted
            # Beyond the last of them, too: what a larger top_k would bring is told by what comes with it.
            is_met = is_met and depth >= _BEYOND * max(ranks.values(), default=0)
            if is_met or len(hits) < depth or depth == most:
                found[leg] = DeepLeg(hits, complete=len(hits) < depth)
                break
            depth = min(depth * _GROWTH, most)
    return found


def fused_at(legs: Mapping[str, DeepLeg], retrieval: RetrievalConfig, top_k: int, mode: str) -> list[FusedHit]:
    """The candidates that exact search would give with this ``top_k`` and ``mode``."""
    names = LEGS if mode == "hybrid" else (mode,)
    return fuse_legs({leg: legs[leg].hits[:top_k] for leg in names if leg in legs}, retrieval.fusion)


@dataclass(frozen=True)
class Settings:
    """Settings with which a chunk is reranked."""

    mode: str
    top_k: int
    rerank_k: int


def settings_that_rerank(
    chunk_id: str, legs: Mapping[str, DeepLeg], retrieval: RetrievalConfig, modes: Sequence[str]
) -> Settings | None:
    """The mildest settings of these modes with which the chunk would have been among those reranked, or None.

    Each was tried on the lists of ``legs``: with a larger ``top_k`` the candidates before the chunk may change too.
    """
    found: list[Settings] = []
    for mode in modes:
        names = [leg for leg in (LEGS if mode == "hybrid" else (mode,)) if leg in legs]
        ranks = [rank for leg in names if (rank := legs[leg].rank(chunk_id)) is not None]
        if not ranks:
            continue
        available = max(len(legs[leg].hits) for leg in names)
        tried = {_round_up(min(rank * step // 2, available), available) for rank in ranks for step in (2, 3, 4, 6)}
        for top_k in sorted({retrieval.top_k, *(top_k for top_k in tried if top_k > retrieval.top_k)}):
            order = [hit.id for hit in fused_at(legs, retrieval, top_k, mode)]
            if chunk_id not in order:
                continue
            place = order.index(chunk_id) + 1
            rerank_k = retrieval.rerank_k if place <= retrieval.rerank_k else _round_up(place, top_k)
            if place <= rerank_k <= min(top_k, MAX_RERANK_K):
                found.append(Settings(mode, top_k, rerank_k))
    # Reading more candidates costs most, so the fewest that do.
    return min(found, key=lambda s: (s.rerank_k, s.mode != retrieval.mode, s.top_k), default=None)


def _round_up(number: int, most: int) -> int:
    """The next number that a person would write, at most ``most`` where ``number`` is."""
    step = next(step for below, step in ((20, 1), (100, 10), (1000, 50), (MAX_TOP_K + 1, 500)) if number <= below)
    return max(number, min(-(-number // step) * step, most))


def position(order: Sequence[str], chunk_id: str) -> int | None:
    """The place of a chunk in a ranking, from 1."""
    return order.index(chunk_id) + 1 if chunk_id in order else None
