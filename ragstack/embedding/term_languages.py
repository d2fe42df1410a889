"""Which analysis a text gets: by the language it is written in, or one for all.

A passage is analysed for its own language alone. A query is analysed for the language that its stop words tell, of
those that the corpus holds; where they don't, a word stands for its stems in all of them, each with its own idf.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import chain

from ragstack.embedding.stop_words import STEMMERS, stop_words_of
from ragstack.embedding.term_index import term_index
from ragstack.embedding.terms import TermAnalyzer

AUTO = "auto"
_CACHE_LIMIT = 100_000  # about 20 MB


class TermCounter:
    """One analysis; remembers what it made of each token. Safe to call from several threads."""

    def __init__(self, analyzer: TermAnalyzer) -> None:
        self.analyzer = analyzer
        self._ids: dict[str, tuple[int, ...]] = {}

    def count(self, text: str) -> Counter[int]:
        """How often each term occurs, by its index."""
        known = self._ids
        found: list[tuple[int, ...]] = []
        for token in self.analyzer.tokens(text):
            ids = known.get(token)
            found.append(self._ids_of(token) if ids is None else ids)
        return Counter(chain.from_iterable(found))

    def _ids_of(self, token: str) -> tuple[int, ...]:
        if len(self._ids) >= _CACHE_LIMIT:
            self._ids = {}
        ids = tuple(term_index(term) for term in self.analyzer.terms_of(token))
        self._ids[token] = ids
        return ids


@dataclass(frozen=True)
class TermLanguages:
    """The analyses of one pipeline.

    ``language`` is a Snowball name, None (words as they are) or ``auto``; then texts whose language is not known are
    analysed as ``fallback`` (a Snowball name or None). Raises InputError for an unknown name.
    """

    language: str | None
    fallback: str | None
    _counters: dict[str, TermCounter] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._counters[""] = TermCounter(TermAnalyzer(self.fallback if self.language == AUTO else self.language))

    def of_text(self, text_language: str) -> TermCounter:
        """The analysis of a text in this language (ISO 639-1, or empty: unknown)."""
        stemmer = STEMMERS.get(text_language)
        is_fallback = stemmer is not None and stemmer == self.fallback
        if self.language != AUTO or not text_language or is_fallback:
            return self._counters[""]
        key = stemmer or text_language  # what Serbian and Croatian share is one analysis
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = TermCounter(TermAnalyzer(stemmer, stop_words_of(text_language)))
        return counter

    def of_query(self, text: str, text_languages: Collection[str]) -> Counter[int]:
        """How often each term is asked for by a query of a corpus that holds texts in these languages."""
        wanted: Counter[int] = Counter()
        for counter in self.for_query(text, text_languages):
            wanted |= counter.count(text)
        return wanted

    def for_query(self, text: str, text_languages: Collection[str]) -> list[TermCounter]:
        """The analyses of a query of a corpus that holds texts in these languages.

        A query that has more stop words of one of them than of any other is taken to be in that language; else its
        words stand for the terms of all.
        """
        counters = list(dict.fromkeys(self.of_text(code) for code in sorted({*text_languages} or {""})))
        if len(counters) == 1:
            return counters
        words = {token.casefold() for token in counters[0].analyzer.tokens(text)}
        stop_words = [len(words & counter.analyzer.stop_words) for counter in counters]
        most = max(stop_words)
        return [counters[stop_words.index(most)]] if stop_words.count(most) == 1 else counters
