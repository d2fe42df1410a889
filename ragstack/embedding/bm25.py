"""BM25 as sparse vectors, for any store that can take a dot product.

The BM25 score of a passage for a query is a sum over their common terms of a factor that depends on the
passage (how often the term occurs, how long the passage is against the average) and one that depends on the query
and the corpus (how rare the term is). The first is stored, for a *nominal* average length that is a constant of the
pipeline: so stored vectors never change when other passages come or go. The second is put into the query's vector.
:mod:`ragstack.embedding.bm25_scores` makes of what a store finds with these the scores at the true average.

A term's index is the first 32 bits of its BLAKE2b hash. Among V distinct terms, a given term shares its index
with another one with probability about V / 2**32: 1 in 43,000 for V = 100,000, 1 in 4,300 for a million. Two terms
that share an index count as one term; ranking suffers by less than one match.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ragstack.embedding.term_languages import AUTO, TermCounter, TermLanguages
from ragstack.types import SparseVector, UInt32Array

DocumentFrequency: TypeAlias = Callable[[Sequence[int]], Sequence[int]] | Mapping[int, int]
_FORMAT = 2


@dataclass(frozen=True, slots=True)
class WeightedText:
    """A part of a passage, such as its headings, whose every word counts ``weight`` (0 or more) times."""

    text: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class EncodedPassage:
    """What is stored of a passage: its vector, and its length in terms, weights counted in."""

    vector: SparseVector
    term_count: int


@dataclass(frozen=True)
class Bm25Encoder:
    """Encodes passages and queries; the dot product of the two is the BM25 score at the nominal average length.

    ``language`` names a Snowball stemmer (None: no stemming, no stop words), or is ``auto``: each passage is analysed
    for its own language, and as ``fallback_language`` where that is not known. ``k1`` says how soon repeating
    a term stops to count, ``b`` (0 to 1) how much long passages are held back. ``nominal_length`` is about the
    length, in terms, of a usual passage: a constant of the pipeline. A passage's headings count ``heading_weight``
    times, and its metadata fields as often as ``field_weights`` says (fields without a weight: not at all).
    Raises InputError for an unknown language and ValueError for numbers out of range. Safe to call from several
    threads.
    """

    language: str | None = "english"
    fallback_language: str | None = "english"
    k1: float = 0.9
    b: float = 0.4
    nominal_length: float = 80.0
    heading_weight: int = 2
    field_weights: Mapping[str, int] = field(default_factory=dict)
    _languages: TermLanguages = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (self.k1 > 0 and 0 <= self.b <= 1 and self.nominal_length > 0):
            raise ValueError(
                "BM25 needs k1 > 0, 0 <= b <= 1 and nominal_length > 0;"
                f" got k1={self.k1}, b={self.b}, nominal_length={self.nominal_length}"
            )
        object.__setattr__(self, "_languages", TermLanguages(self.language, self.fallback_language))

    @property
    def fingerprint(self) -> dict[str, object]:
        """What changes the stored vectors, as JSON-able values."""
        return {
            "bm25": _FORMAT, "language": [self.language, self.fallback_language if self.language == AUTO else None],
            "k1": self.k1, "b": self.b,
            "nominal_length": self.nominal_length, "heading_weight": self.heading_weight,
            "field_weights": dict(sorted(self.field_weights.items())),
        }  # fmt: skip

    def encode_passage(self, text: str) -> SparseVector:
        """The stored vector of a text without further parts; see :meth:`encode_parts`."""
        return self.encode_parts([WeightedText(text)]).vector

    def encode_parts(self, parts: Iterable[WeightedText], text_language: str = "") -> EncodedPassage:
        """What is stored: ``tf * (k1 + 1) / (tf + held_back(length, nominal_length))`` for each term.

        ``tf`` counts the term in the parts, ``length`` all terms of them, each as often as its part weighs. The
        vector is empty for a text without words. ``text_language`` is an ISO 639-1 code, or empty: unknown.
        """
        counted: Counter[int] = Counter()
        counter = self._languages.of_text(text_language)
        for part in parts:
            if part.weight < 0:
                raise ValueError(f"a part of a passage weighs {part.weight}; 0 or more was expected")
            found = counter.count(part.text) if part.weight else Counter[int]()
            if part.weight == 1 and not counted:
                counted = found
                continue
            for index, count in found.items():
                counted[index] += count * part.weight
        indices, counts = _sorted(counted)
        length = int(counts.sum())
        values = counts * (self.k1 + 1) / (counts + self.held_back(length, self.nominal_length))
        return EncodedPassage(SparseVector(indices, values.astype(np.float32)), length)

    def encode_chunk(
        self, text: str, heading_path: Sequence[str], fields: Mapping[str, Any], text_language: str = ""
    ) -> EncodedPassage:
        """What is stored of a chunk. ``fields`` are its metadata: those with a weight are read, words and integers."""
        parts = [WeightedText(text), WeightedText("\n".join(heading_path), self.heading_weight)]
        parts += [WeightedText(_words_of(fields.get(name)), weight) for name, weight in self.field_weights.items()]
        return self.encode_parts(parts, text_language)

    def held_back(self, length: float, average_length: float) -> float:
        """How much a passage's frequencies are divided down: ``k1 * (1 - b + b * length / average_length)``."""
        return self.k1 * (1 - self.b + self.b * length / average_length)

    def encode_query_terms(self, text: str) -> SparseVector:
        """How often each term occurs in a query; :meth:`encode_query` multiplies these by the terms' idf."""
        indices, counts = _sorted(self._languages.of_query(text, ()))
        return SparseVector(indices, counts.astype(np.float32))

    def encode_query(
        self,
        text: str,
        document_frequency: DocumentFrequency,
        document_count: int,
        text_languages: Collection[str] = (),
    ) -> SparseVector:
        """The query's vector: how often each term occurs in it, times ``ln(1 + (N - df + 0.5) / (df + 0.5))``.

        ``document_frequency`` gives, for term indices, in how many passages each occurs: a function of a
        sequence of indices, or a mapping (absent: 0). ``document_count`` is N. ``text_languages`` are the languages
        that the corpus holds, as they were given for its passages. Raises ValueError when a frequency is negative
        or above N.
        """
        indices, counts = _sorted(self._languages.of_query(text, text_languages))
        ids: list[int] = indices.tolist()
        if isinstance(document_frequency, Mapping):
            frequencies: Sequence[int] = [document_frequency.get(i, 0) for i in ids]
        else:
            frequencies = document_frequency(ids)
        if len(frequencies) != len(ids):
            raise ValueError(f"document_frequency gave {len(frequencies)} numbers for {len(ids)} terms")
        weights = np.array([idf(df, document_count) for df in frequencies], dtype=np.float64)
        return SparseVector(indices, (counts * weights).astype(np.float32))

    def query_analyses(self, text: str, text_languages: Collection[str] = ()) -> list[TermCounter]:
        """The analyses by which :meth:`encode_query` reads a query."""
        return self._languages.for_query(text, text_languages)

    def term_ids(self, text: str) -> UInt32Array:
        """The distinct term indices of a text, ``(n,) uint32``, ascending: what document frequencies count."""
        return _sorted(self._languages.of_text("").count(text))[0]


def _words_of(value: Any) -> str:
    values = value if isinstance(value, list | tuple) else [value]
    # Stores may give a float back in another form than it was written; and no one searches for "true".
    return "\n".join(str(item) for item in values if isinstance(item, str | int) and not isinstance(item, bool))


def _sorted(counts: Counter[int]) -> tuple[UInt32Array, NDArray[np.float64]]:
    indices = np.fromiter(counts.keys(), dtype=np.uint32, count=len(counts))
    values = np.fromiter(counts.values(), dtype=np.float64, count=len(counts))
    order = np.argsort(indices)
    return indices[order], values[order]


def idf(document_frequency: int, document_count: int) -> float:
    """Inverse document frequency, ``ln(1 + (N - df + 0.5) / (df + 0.5))``: always above 0.

    Raises ValueError when ``document_frequency`` is not between 0 and ``document_count``.
    """
    if not 0 <= document_frequency <= document_count:
        raise ValueError(
            f"a term cannot occur in {document_frequency} of {document_count} passages; "
            "the corpus statistics do not belong to one snapshot"
        )
    return math.log(1 + (document_count - document_frequency + 0.5) / (document_frequency + 0.5))
