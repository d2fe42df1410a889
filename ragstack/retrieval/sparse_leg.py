"""The sparse leg: BM25 with the statistics of the snapshot, exact on every store that searches sparse vectors.

A store ranks by vectors made for a nominal average length. Some more of its best than were asked for are scored again
at the true average (:mod:`ragstack.embedding.bm25_scores`), until the last one asked for scores at least what any
passage not seen can have: then these are the best of all, in the order that BM25 gives, whatever the store.

Usually the first search is deep enough. Where passages are much shorter or longer than the nominal length and thousands
of them differ in little but length, no depth that a query can afford proves it: after ``MOST_DEPTH`` times what was
asked for, the best of these count as the best. ``embedder.bm25.nominal_length`` near the true average mends that.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ragstack.adapters.base import Hit, VectorStore
from ragstack.adapters.sparse_dot import shared_entries, summed
from ragstack.embedding.bm25_scores import Bm25Query, stored_term_count
from ragstack.filters import Filter
from ragstack.types import Float32Array, SparseVector

# A store may sum in 32 bits; what it leaves out can be this much better than it says.
_STORE_ERROR = 1e-5
_WIDER = 2
MOST_DEPTH = 10


@dataclass(frozen=True)
class SparseLeg:
    """Searches one collection of a store. ``stale`` are ids that the snapshot does not show."""

    store: VectorStore
    collection: str
    query: Bm25Query
    filter: Filter | None = None
    stale: Collection[str] = ()

    def first_depth(self, top_k: int) -> int:
        """How many hits to ask the store for at first."""
        deeper = math.ceil(top_k * min(self.query.depth_factor, MOST_DEPTH))
        return max(top_k, min(deeper, self.store.capabilities.max_top_k))

    def search(self, top_k: int, first: Sequence[Hit] | None = None) -> list[Hit]:
        """The ``top_k`` best passages by exact BM25, best first, ties by id; fewer where fewer have a term.

        ``first`` is what the store has already given for :meth:`first_depth`. No more than ``MOST_DEPTH * top_k`` hits
        are looked at, nor more than the store gives at a time.
        """
        depth = self.first_depth(top_k)
        most = max(top_k, min(MOST_DEPTH * top_k, self.store.capabilities.max_top_k))
        while True:
            hits = first if first is not None else self._ask(depth)
            first = None
            ranked = self.scored([hit for hit in hits if hit.id not in self.stale])
            if len(hits) < depth or depth >= most:
                return ranked[:top_k]
            # A tie with what was not seen could be broken by id the other way, so the last one must be above it.
            unseen = hits[-1].score * self.query.largest_factor * (1 + _STORE_ERROR)
            if len(ranked) >= top_k and ranked[top_k - 1].score > unseen:
                return ranked[:top_k]
            depth = min(depth * _WIDER, most)

    def scored(self, hits: Sequence[Hit]) -> list[Hit]:
        """The hits with their exact scores, best first, ties by id."""
        stored = self._vectors(hits)
        counts = [stored_term_count(hit.payload, hit.id) for hit in hits]
        scores = exact_scores(self.query, stored, counts).tolist()
        scored = (
            replace(hit, score=score, sparse=vector) for hit, score, vector in zip(hits, scores, stored, strict=True)
        )
        return sorted(scored, key=lambda hit: (-hit.score, hit.id))

    def _ask(self, depth: int) -> list[Hit]:
        return self.store.search_sparse(self.collection, self.query.vector, depth, filter=self.filter)

    def _vectors(self, hits: Sequence[Hit]) -> list[SparseVector]:
        unread = [hit.id for hit in hits if hit.sparse is None]
        records = self.store.fetch(self.collection, unread) if unread else {}
        return [hit.sparse if hit.sparse is not None else records[hit.id].sparse for hit in hits]


def exact_scores(query: Bm25Query, stored: Sequence[SparseVector], term_counts: Sequence[int]) -> Float32Array:
    """``(n,) float32`` BM25 scores of passages at the snapshot's average length.

    ``stored`` are their vectors, ``term_counts`` their lengths. Equal whatever the store and the company.
    """
    entries = shared_entries(query.vector, stored)
    lengths = np.asarray(term_counts, dtype=np.float64)[entries.rows]
    true = entries._replace(values=query.true_weights(entries.values, lengths))
    return summed(query.vector, true, len(stored))


@dataclass(frozen=True, slots=True)
class TermScore:
    """What one term of a query adds to a passage's score: ``query_weight * passage_weight``.

    ``index`` is the term's (:meth:`Bm25Encoder.query_analyses` tell which), ``frequency`` how often the passage has it,
    weights of headings and fields counted in; ``query_weight`` is its idf times how often the query asks for it.
    """

    index: int
    frequency: int
    query_weight: float
    passage_weight: float
    score: float


def term_scores(query: Bm25Query, stored: SparseVector, term_count: int) -> list[TermScore]:
    """The terms that a passage shares with the query, largest score first; they add up to its BM25 score."""
    entries = shared_entries(query.vector, [stored])
    lengths = np.full(len(entries.values), float(term_count))
    found = zip(
        query.vector.indices[entries.at].tolist(),
        query.frequencies(entries.values, lengths).tolist(),
        query.vector.values[entries.at].astype(np.float64).tolist(),
        query.true_weights(entries.values, lengths).tolist(),
        strict=True,
    )
    scores = [TermScore(index, round(tf), asked, held, asked * held) for index, tf, asked, held in found]
    return sorted(scores, key=lambda term: (-term.score, term.index))
