"""The seam between passages and an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ragstack.types import Chunk, TokenVectors


@dataclass(frozen=True)
class Question:
    """What is asked: the text and, for generators that compare vectors, its token vectors and their weights."""

    text: str
    tokens: TokenVectors
    token_idf: tuple[float, ...]


@dataclass(frozen=True)
class ContextPassage:
    """One passage put before the generator. ``marker`` is its number in the answer, from 1.

    ``tokens`` are the stored token vectors of ``chunk.embedded_text`` (in the same space as the
    question's), or None where none are kept. ``score`` is the reranker's.
    """

    marker: int
    chunk: Chunk
    score: float
    tokens: TokenVectors | None


@dataclass(frozen=True, slots=True)
class Quote:
    """A part of a passage that an answer sentence rests on: canonical byte range inside the passage ``marker``."""

    marker: int
    byte_start: int
    byte_end: int


@dataclass(frozen=True)
class AnswerSentence:
    """One sentence of the answer with the quotes that carry it. ``support`` in [0, 1] says how well."""

    text: str
    quotes: tuple[Quote, ...]
    support: float


@dataclass(frozen=True)
class Answer:
    """An answer: its sentences in reading order; none when the passages do not answer the question."""

    sentences: tuple[AnswerSentence, ...]
    generator: str


class Generator(Protocol):
    """Makes an answer from passages.

    Every quote lies inside the passage that its marker names. Without relevant passages the answer
    has no sentences; a generator never answers from what it was not given.
    """

    name: str

    def generate(self, question: Question, passages: Sequence[ContextPassage]) -> Answer: ...
