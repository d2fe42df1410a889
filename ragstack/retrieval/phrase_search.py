"""Candidates of a query with quoted phrases: the passages that hold them all, ranked by both legs.

Where no passage holds them, the query is answered as if nothing were quoted: the phrase is not in the corpus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ragstack.adapters.base import Hit
from ragstack.embedding.bm25_scores import Bm25Query
from ragstack.retrieval.phrases import Phrase, contain_all
from ragstack.retrieval.sparse_leg import SparseLeg
from ragstack.types import Float32Array, embedded_prefix

_FIRST_DEPTH = 100
_MOST_DEPTH = 2000
"""Of the passages that have words of the phrases, so many are read, those with most of them first."""


@dataclass(frozen=True)
class PhraseQuery:
    """The phrases, and BM25 queries of nothing but their words: one for each way in which passages were analysed."""

    phrases: Sequence[Phrase]
    words: Sequence[Bm25Query]


def narrowed_to_phrases(
    query: PhraseQuery, leg: SparseLeg, legs: Mapping[str, list[Hit]], dense: Float32Array, top_k: int
) -> dict[str, list[Hit]]:
    """The legs with nothing but passages that hold every phrase, or as they are where none does.

    ``leg`` is the sparse leg of the whole query, ``legs`` what was found already. Up to ``top_k`` passages: those with
    the best BM25 scores, which the legs named in ``legs`` rank, ``dense`` by cosine.
    """
    found = {hit.id: hit for hits in legs.values() for hit in hits if _holds(query, hit)}
    found.update((hit.id, hit) for words in query.words for hit in _by_words(query, words, leg))
    if not found:
        return dict(legs)
    best = leg.scored(list(found.values()))[:top_k]
    narrowed: dict[str, list[Hit]] = {}
    if "sparse" in legs:
        narrowed["sparse"] = [hit for hit in best if hit.score > 0]
    if "dense" in legs:
        records = leg.store.fetch(leg.collection, [hit.id for hit in best])
        cosines = [replace(hit, score=float(records[hit.id].dense @ dense)) for hit in best]
        narrowed["dense"] = sorted(cosines, key=lambda hit: (-hit.score, hit.id))
    return narrowed


def _by_words(query: PhraseQuery, words: Bm25Query, leg: SparseLeg) -> list[Hit]:
    """The passages among those with most of the phrases' words that hold the phrases."""
    # Phrases of stop words, and stores without sparse search: what the legs found has to do.
    if not len(words.vector) or not leg.store.capabilities.sparse:
        return []
    depth = min(_FIRST_DEPTH, leg.store.capabilities.max_top_k)
    most = min(_MOST_DEPTH, leg.store.capabilities.max_top_k)
    # What holds the phrases has each of their words at least once, so no less than this.
    least = words.least_score_with_all
    while True:
        hits = leg.store.search_sparse(leg.collection, words.vector, depth, filter=leg.filter)
        if len(hits) < depth or depth >= most or hits[-1].score < least:
            return [hit for hit in hits if hit.id not in leg.stale and _holds(query, hit)]
        depth = min(depth * 4, most)


def _holds(query: PhraseQuery, hit: Hit) -> bool:
    return contain_all(query.phrases, embedded_prefix(hit.payload["heading_path"]) + str(hit.payload["text"]))
