"""BM25 written down plainly, to compare with: no vectors, no hashes, no bounds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence


def bm25_scores(query: Sequence[str], passages: Mapping[str, Sequence[str]], k1: float, b: float) -> dict[str, float]:
    """The score of every passage that has a term of the query, by id; ``passages`` are lists of terms."""
    count = len(passages)
    average = sum(map(len, passages.values())) / count if count else 0.0
    frequency = Counter(term for terms in passages.values() for term in set(terms))
    scores: dict[str, float] = {}
    for identity, terms in passages.items():
        bag = Counter(terms)
        for term in query:
            if bag[term]:
                idf = math.log(1 + (count - frequency[term] + 0.5) / (frequency[term] + 0.5))
                weight = bag[term] * (k1 + 1) / (bag[term] + k1 * (1 - b + b * len(terms) / average))
                scores[identity] = scores.get(identity, 0.0) + idf * weight
    return scores
