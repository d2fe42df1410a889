"""Corpus statistics: what one chunk adds to the counts of the ledger, however it is counted or taken out again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np

from ragstack.ledger.schema import LANGUAGES, LENGTHS, TERMS, TOKENS, language_number
from ragstack.types import Int32Array, SparseVector

ChunkCounts: TypeAlias = defaultdict[int, Counter[int]]
"""By kind (a key of ``KINDS``): in how many chunks each id occurs, or by how much that changes."""

KINDS = {TERMS: "terms", TOKENS: "word pieces", LENGTHS: "lengths", LANGUAGES: "languages"}


def new_counts() -> ChunkCounts:
    """Counts of no chunk."""
    return defaultdict(Counter, {kind: Counter() for kind in KINDS})


def copied_counts(counts: ChunkCounts) -> ChunkCounts:
    """The same counts, to be changed by themselves."""
    return defaultdict(Counter, {kind: Counter(of_kind) for kind, of_kind in counts.items()})


def count_terms(counts: ChunkCounts, sparse: SparseVector, term_count: int, text_language: str, sign: int = 1) -> None:
    """Count a chunk's terms, length and language; with ``sign`` -1, take them out."""
    _add(counts[TERMS], sparse.indices.tolist(), sign)
    _add(counts[LENGTHS], [term_count], sign)
    _add(counts[LANGUAGES], [language_number(text_language)], sign)


def count_tokens(counts: ChunkCounts, token_ids: Int32Array, sign: int = 1) -> None:
    """Count a chunk's word pieces, each once; with ``sign`` -1, take them out."""
    _add(counts[TOKENS], np.unique(token_ids).tolist(), sign)


def _add(counter: Counter[int], ids: Iterable[int], sign: int) -> None:
    if sign > 0:
        counter.update(ids)
    else:
        counter.subtract(ids)
