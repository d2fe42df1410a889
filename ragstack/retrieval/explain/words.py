"""The words of a query, one by one: what each found in a chunk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ragstack.embedding.term_index import term_index
from ragstack.embedding.term_languages import TermCounter
from ragstack.ledger.schema import TERMS
from ragstack.retrieval.candidates import LegQuery
from ragstack.retrieval.explain.explanation import QueryWord, WordInChunk
from ragstack.retrieval.explain.session import Session
from ragstack.types import TokenVectors

_WORD = re.compile(r"\w+(?:[-_.'’]\w+)*")
MAX_WORDS = 64
"""Words of a query that are told of; a longer query is cut."""
_TOKENS_LOOKED_AT = 12


@dataclass(frozen=True)
class _Word:
    text: str
    byte_start: int
    byte_end: int
    terms: dict[str, int]


def query_words(text: str, query: LegQuery, session: Session, chunk_ids: Sequence[str]) -> list[QueryWord]:
    """Each word of ``text`` with what it found in each of the chunks, which :meth:`Session.records` has.

    Token vectors are made anew, not read from the index, where they may be compressed and pooled: similarities may
    differ from those of the score in the second decimal.
    """
    analyses = session.analyses(text)
    words = _words(text, analyses)
    every_term = {term for word in words for term in word.terms.values()}
    counts = dict.fromkeys(every_term, 0)
    if session.access_filter is None and every_term:
        ids = sorted(every_term)
        counts = dict(zip(ids, map(int, session.frequencies(TERMS, ids)), strict=True))
    tokens = session.parts.compared_tokens(text, "query")
    found: list[dict[str, WordInChunk]] = [{} for _ in words]
    for chunk_id in chunk_ids:
        chunk = session.chunk(chunk_id)
        points = session.term_points(query, chunk_id)
        passage = session.parts.compared_tokens(chunk.embedded_text, "passage")
        data = chunk.embedded_text.encode("utf-8")
        told: set[int] = set()
        for word, cells in zip(words, found, strict=True):
            # A term that the query repeats counts once, with the weight of all its mentions.
            new = set(word.terms.values()) - told
            told |= new
            sparse = sum(points.get(term, 0.0) for term in new)
            similarity, nearest = _nearest(word, tokens, passage, data, analyses)
            cells[chunk_id] = WordInChunk(sparse=sparse, similarity=similarity, nearest=nearest)
    return [
        QueryWord(
            text=word.text,
            byte_start=word.byte_start,
            byte_end=word.byte_end,
            terms=tuple(word.terms),
            chunk_count=max(counts[term] for term in word.terms.values())
            if word.terms and session.access_filter is None
            else None,
            chunks=cells,
        )
        for word, cells in zip(words, found, strict=True)
    ]


def _words(text: str, analyses: Sequence[TermCounter]) -> list[_Word]:
    words = []
    position = byte = 0
    for match in _WORD.finditer(text):
        byte += len(text[position : match.start()].encode("utf-8"))
        end = byte + len(match.group().encode("utf-8"))
        words.append(_Word(match.group(), byte, end, _terms(match.group(), analyses)))
        position, byte = match.end(), end
    return words[:MAX_WORDS]


def _terms(word: str, analyses: Sequence[TermCounter]) -> dict[str, int]:
    """The terms that a word stands for, with their indices; none for a stop word."""
    return {term: term_index(term) for analysis in analyses for term in analysis.analyzer.terms(word)}


def _nearest(
    word: _Word, query: TokenVectors, passage: TokenVectors, data: bytes, analyses: Sequence[TermCounter]
) -> tuple[float | None, str | None]:
    """The nearest word of the passage that is no stop word (else the nearest token), and its cosine."""
    starts = query.byte_spans[:, 0]
    own = np.flatnonzero((starts >= word.byte_start) & (starts < word.byte_end))
    if not len(own) or not len(passage):
        return None, None
    similarities = (query.vectors[own] @ passage.vectors.T).max(axis=0)
    order = np.argsort(-similarities, kind="stable")[:_TOKENS_LOOKED_AT]
    named = [(int(i), _whole_word(data, *map(int, passage.byte_spans[i]))) for i in order]
    # "the" is near to everything; what a reader wants named is the nearest word that says something.
    best, nearest = next(((i, found) for i, found in named if _terms(found, analyses)), named[0])
    return float(similarities[best]), nearest


def _whole_word(data: bytes, start: int, end: int) -> str:
    """The word around a token, which may be a part of it; the token itself where it is no part of a word."""
    text = data.decode("utf-8")
    first, last = len(data[:start].decode("utf-8", "ignore")), len(data[:end].decode("utf-8", "ignore"))
    for match in _WORD.finditer(text):
        if match.start() <= first < match.end():
            return match.group()
        if match.start() > first:
            break
    return text[first:last]
