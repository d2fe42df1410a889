"""The seams of the second ranking stage: rerankers, and the store of token vectors that one of them reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from ragstack.cancellation import Cancellation
from ragstack.reranking.relevance import RelevanceScale
from ragstack.types import Chunk, Float32Array, TokenVectors


@dataclass(frozen=True)
class RerankQuery:
    """The query as the reranker sees it.

    ``dense`` ``(dim,) float32`` of length 1. ``tokens`` are its token vectors, in the space of the
    candidates' (:meth:`TokenVectorStore.prepare`); ``token_idf`` ``(t,) float32`` is how telling each of
    them is in this corpus (inverse document frequency, ≥ 0). ``scale`` is what relevance is measured against.
    A reranker that takes long gives up, with InterruptedRunError, once ``cancellation`` was asked.
    """

    text: str
    dense: Float32Array
    tokens: TokenVectors
    token_idf: Float32Array
    scale: RelevanceScale = field(default_factory=RelevanceScale)
    cancellation: Cancellation = field(default_factory=Cancellation)


@dataclass(frozen=True)
class RerankCandidate:
    """One candidate with the scores of the legs that found it; None where a leg did not."""

    chunk: Chunk
    dense_score: float | None
    sparse_score: float | None


@dataclass(frozen=True, slots=True)
class StageScore:
    """What one stage of a cascade said of a candidate.

    ``rank`` (from 1, among those it read) and ``score`` are None where the stage failed and the order before it was
    kept, as its config allows; ``error`` says why then.
    """

    reranker: str
    rank: int | None
    score: float | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class RerankScore:
    """The score of one candidate.

    ``score`` orders the candidates of one query. ``relevance`` (0 to 1) can be compared between
    queries: when no candidate reaches the reranker's ``min_relevance``, the corpus does not answer. ``parts`` are the
    summands of the score, by name, so that a ranking can be explained. ``stages`` are those of a cascade that read
    the candidate, first to last; empty for other rerankers.
    """

    chunk_id: str
    score: float
    relevance: float
    parts: Mapping[str, float] = field(default_factory=dict)
    stages: tuple[StageScore, ...] = ()


class Reranker(Protocol):
    """Orders candidates by how well they answer the query.

    Returns one score per candidate, best first; larger is better; ties by chunk id, ascending. The
    result does not depend on the order of the candidates. ``name`` goes into the citation chain;
    ``min_relevance`` is the default of ``retrieval.min_relevance``. Called from several threads at once. Raises
    RerankingError for faults of its model or server. One that holds something is a :class:`ClosableReranker`, too.
    """

    name: str
    min_relevance: float

    def rerank(self, query: RerankQuery, candidates: Sequence[RerankCandidate]) -> list[RerankScore]: ...


@runtime_checkable
class ClosableReranker(Protocol):
    """A reranker that holds something: threads, weights, connections."""

    def close(self) -> None:
        """Release it. Idempotent; reranking afterwards raises RerankingError."""


@runtime_checkable
class PreloadingReranker(Protocol):
    """A reranker whose first use takes longer than the next."""

    def preload(self) -> None:
        """Load what the first query would have to wait for."""


def preload_reranker(reranker: Reranker) -> None:
    """Make the first reranking as quick as the next, where there is a difference."""
    if isinstance(reranker, PreloadingReranker):
        reranker.preload()


def name_of(chunk: Chunk) -> str:
    """What messages call a candidate: a chunk of a source, or one of the texts that came with a request."""
    return f"chunk {chunk.chunk_id} of {chunk.source_id}" if chunk.source_id else f"text {int(chunk.chunk_id)}"


def close_reranker(reranker: Reranker) -> None:
    """Close a reranker that holds something; others need it not."""
    if isinstance(reranker, ClosableReranker):
        reranker.close()


class PackedTokens(NamedTuple):
    """One entry as a store of token vectors keeps it, to be copied without loss to another of its kind."""

    chunk_id: str
    seq: int
    data: bytes


class TokenVectorStore(Protocol):
    """Token vectors of chunks, kept at index time so that a query need not encode passages again.

    A store may keep whole words instead of word pieces, and fewer dimensions: :meth:`prepare` brings the token vectors
    of passages and queries alike into that form. Vectors may come back compressed and decompressed: what ``get``
    returns is close to what was put, with equal ids. Entries carry the ``seq`` of the commit group that wrote them.
    """

    def prepare(self, tokens: TokenVectors) -> TokenVectors:
        """An embedder's token vectors in the form of the stored ones, rows of length 1; document frequencies count
        the ids of what this returns.
        """

    def put(self, seq: int, entries: Mapping[str, TokenVectors]) -> None:
        """Insert or replace by chunk id what :meth:`prepare` gave; durable after :meth:`flush`."""

    def get(self, chunk_ids: Sequence[str]) -> dict[str, TokenVectors]:
        """The entries that exist among ``chunk_ids``; vectors ``(t, d) float32`` as :meth:`prepare` gives them.

        A store that keeps no vectors, for an index that recomputes them, gives the ids alone: ``(t, 0) float32``.
        """

    def delete(self, chunk_ids: Sequence[str]) -> None:
        """Delete by chunk id; unknown ids are no error."""

    def delete_after(self, seq: int) -> int:
        """Delete every entry whose ``seq`` is larger; returns how many."""

    def chunk_ids(self) -> set[str]:
        """The ids of all entries."""

    def packed(self, chunk_ids: Sequence[str]) -> list[PackedTokens]:
        """The entries that exist among ``chunk_ids``, in the form in which they are kept."""

    def pack(self, chunk_id: str, seq: int, tokens: TokenVectors) -> PackedTokens:
        """What :meth:`prepare` gave in the form in which it is kept; nothing is written."""

    def put_packed(self, entries: Sequence[PackedTokens]) -> None:
        """Insert or replace what :meth:`pack`, or :meth:`packed` of a store of the same kind and settings, gave."""

    def flush(self) -> None:
        """Return once every write so far is durable."""

    def close(self) -> None: ...


def no_idf(tokens: int) -> Float32Array:
    """Equal weights for a query of ``tokens`` tokens."""
    return np.ones(tokens, dtype=np.float32)
