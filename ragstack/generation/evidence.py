"""Which part of a passage bears an answer's sentence out, and how well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ragstack.generation.base import AnswerSentence, ContextPassage, Question, Quote, WeightedTokens
from ragstack.generation.quote_match import find_quote
from ragstack.generation.units import quotable_units
from ragstack.sentences import sentence_spans
from ragstack.types import Float32Array, Int32Array, TokenVectors, embedded_prefix

# A second or third sentence must bear out this much more of the answer's sentence to belong to the quote.
_GAIN = 0.05
_MAX_SENTENCES = 3
# Models read short texts; a longer sentence (a code block, a table) is compared piece by piece. A piece of this many
# characters has fewer tokens than the smallest of them reads.
_MAX_PIECE = 250


@dataclass(frozen=True)
class _Sentence:
    """A sentence of a passage: canonical byte range, and which of the passage's tokens are in it, ``(t,) int32``."""

    byte_start: int
    byte_end: int
    tokens: Int32Array


class PassageText:
    """A passage as quotes are looked for in it. Byte offsets are canonical ones."""

    def __init__(self, passage: ContextPassage) -> None:
        self.passage = passage
        chunk = passage.chunk
        self._starts = passage.tokens.byte_spans[:, 0] - _prefix_bytes(passage) + chunk.byte_start

    @cached_property
    def sentences(self) -> list[_Sentence]:
        """The passage's sentences, tables and code, without headings and scraps unless there is nothing else."""
        chunk = self.passage.chunk
        units = [(unit.byte_start, unit.byte_end) for unit in quotable_units(chunk.text)]
        return [
            self._sentence(chunk.byte_start + start, chunk.byte_start + end)
            for start, end in units or sentence_spans(chunk.text)
        ]

    def tokens_in(self, byte_start: int, byte_end: int) -> Int32Array:
        """Which of the passage's tokens begin in a range."""
        inside: Int32Array = np.flatnonzero((self._starts >= byte_start) & (self._starts < byte_end)).astype(np.int32)
        return inside

    def find(self, quote: str) -> list[Quote]:
        """The places of words copied from this passage, see :func:`ragstack.generation.quote_match.find_quote`."""
        text, chunk = self.passage.chunk.text, self.passage.chunk
        return [
            Quote(self.passage.marker, chunk.byte_start + _bytes(text[:start]), chunk.byte_start + _bytes(text[:end]))
            for start, end in find_quote(quote, text)
        ]

    def text_of(self, quote: Quote) -> str:
        """The words of a quote of this passage."""
        chunk = self.passage.chunk
        data = chunk.text.encode("utf-8")
        return data[quote.byte_start - chunk.byte_start : quote.byte_end - chunk.byte_start].decode("utf-8")

    def _sentence(self, byte_start: int, byte_end: int) -> _Sentence:
        return _Sentence(byte_start, byte_end, self.tokens_in(byte_start, byte_end))


class Evidence:
    """Compares sentences of an answer with the passages they cite, by their token vectors."""

    def __init__(self, question: Question, passages: Sequence[ContextPassage]) -> None:
        self._tokens_of = question.tokens_of
        self.passages = {passage.marker: PassageText(passage) for passage in passages}

    def sentence(self, text: str, markers: Sequence[int], lead: str) -> AnswerSentence:
        """A sentence of an answer that cites passages, with the best quote of each.

        A sentence that a passage holds word for word has that place as its quote and is ``verbatim``.
        """
        if not markers or not text.strip():
            return AnswerSentence(text, (), 0.0, lead=lead)
        tokens = self.tokens(text)
        quotes = []
        verbatim = False
        for marker in markers:
            same = [place for place in self.passages[marker].find(text) if self.is_verbatim(text, place)]
            verbatim = verbatim or bool(same)
            quotes.append(same[0] if same else self.best_quote(tokens, marker))
        return AnswerSentence(text, tuple(quotes), self.support(tokens, quotes), verbatim, lead)

    def is_verbatim(self, text: str, quote: Quote) -> bool:
        """Whether a text is that of a quote, word for word; white space does not count."""
        return self.passages[quote.marker].text_of(quote).split() == text.split()

    def tokens(self, sentence: str) -> WeightedTokens:
        """Token vectors of a sentence of the answer, whatever its length. It must not be blank."""
        return _joined([self._tokens_of(piece) for piece in _pieces(sentence)])

    def best_quote(self, sentence: WeightedTokens, marker: int) -> Quote:
        """The sentence of a passage that bears ``sentence`` out best, or two or three in a row where they do better.

        The whole passage where it has no sentence.
        """
        text = self.passages[marker]
        chunk = text.passage.chunk
        sentences = text.sentences
        if not sentences:
            return Quote(marker, chunk.byte_start, chunk.byte_end)
        similarity = sentence.vectors.vectors @ text.passage.tokens.vectors.T
        matches = [_best_matches(similarity, each.tokens) for each in sentences]
        best, best_score = (0, 1), -np.inf
        for size in range(1, _MAX_SENTENCES + 1):
            for first in range(len(sentences) - size + 1):
                together = np.max(matches[first : first + size], axis=0)
                score = _weighted(together, sentence.idf) - _GAIN * (size - 1)
                if score > best_score:
                    best, best_score = (first, first + size), score
        return Quote(marker, sentences[best[0]].byte_start, sentences[best[1] - 1].byte_end)

    def support(self, sentence: WeightedTokens, quotes: Sequence[Quote]) -> float:
        """How well the quotes together bear a sentence out, in [0, 1].

        It is the idf-weighted mean, over the sentence's tokens, of the best match among the quotes' tokens (MaxSim,
        Khattab & Zaharia 2020), cut to [0, 1].
        """
        if not quotes or not len(sentence.vectors):
            return 0.0
        best = np.full(len(sentence.vectors), -1.0, dtype=np.float32)
        for quote in quotes:
            text = self.passages[quote.marker]
            vectors = text.passage.tokens.vectors
            inside = text.tokens_in(quote.byte_start, quote.byte_end)
            best = np.maximum(best, _best_matches(sentence.vectors.vectors @ vectors.T, inside))
        return float(np.clip(_weighted(best, sentence.idf), 0.0, 1.0))


def _best_matches(similarity: Float32Array, tokens: Int32Array) -> Float32Array:
    """For each token of a sentence its best match among some of a passage's, ``(n,) float32``; -1 without any."""
    if not len(tokens):
        return np.full(len(similarity), -1.0, dtype=np.float32)
    best: Float32Array = similarity[:, tokens].max(axis=1)
    return best


def _weighted(matches: Float32Array, idf: Float32Array) -> float:
    total = float(idf.sum())
    if total > 0:
        return float(matches @ idf) / total
    return float(matches.mean()) if len(matches) else 0.0


def _prefix_bytes(passage: ContextPassage) -> int:
    return _bytes(embedded_prefix(passage.chunk.heading_path))


def _bytes(text: str) -> int:
    return len(text.encode("utf-8"))


def _pieces(text: str) -> list[str]:
    pieces = []
    while len(text) > _MAX_PIECE:
        cut = max(text.rfind(" ", 1, _MAX_PIECE), text.rfind("\n", 1, _MAX_PIECE))
        cut = cut if cut > 0 else _MAX_PIECE
        pieces.append(text[:cut])
        text = text[cut:]
    return [piece for piece in (*pieces, text) if piece.strip()]


def _joined(parts: Sequence[WeightedTokens]) -> WeightedTokens:
    """Token vectors of several pieces as those of one text; their byte spans count the pieces' own bytes."""
    if len(parts) == 1:
        return parts[0]
    vectors = TokenVectors(
        np.concatenate([part.vectors.vectors for part in parts]),
        np.concatenate([part.vectors.token_ids for part in parts]),
        np.concatenate([part.vectors.byte_spans for part in parts]),
    )
    return WeightedTokens(vectors, np.concatenate([part.idf for part in parts]))
