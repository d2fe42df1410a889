"""An answer without a language model: the sentences of the passages that answer best, word for word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ragstack.generation.base import (
    AnswerEnd,
    AnswerSentence,
    AnswerStream,
    ContextPassage,
    Question,
    Quote,
    Turn,
    WeightedTokens,
)
from ragstack.sentences import sentence_spans
from ragstack.types import Float32Array, embedded_prefix

# A sentence is scored by how well its tokens cover the question's, plus a share of its passage's
# score: the passage says what the sentence is about when the sentence itself says "it".
_PASSAGE_WEIGHT = 0.25
# Sentences whose score is this far below the best one add noise rather than an answer.
_MARGIN = 0.12
_MIN_TOKENS = 3


@dataclass(frozen=True)
class _Sentence:
    passage: ContextPassage
    byte_start: int
    byte_end: int
    text: str
    coverage: float
    score: float


class ExtractiveGenerator:
    """Chooses up to ``max_sentences`` sentences; each is a quote with the marker of its passage.

    ``support`` of a sentence is the idf-weighted share of the question's tokens that its own tokens
    match (MaxSim), clipped to [0, 1].
    """

    name = "extractive"

    def __init__(self, *, max_sentences: int = 3) -> None:
        self._max_sentences = max_sentences

    def stream(self, question: Question, passages: Sequence[ContextPassage]) -> AnswerStream:
        """The best sentences, in order of their passages and of their place in them."""
        ranked = sorted(
            (sentence for passage in passages for sentence in _scored(question.tokens, passage)),
            key=lambda s: (-s.score, s.passage.marker, s.byte_start),
        )
        chosen: list[_Sentence] = []
        for sentence in ranked:
            if len(chosen) == self._max_sentences or (chosen and sentence.score < chosen[0].score - _MARGIN):
                break
            if all(_squeezed(sentence.text) != _squeezed(other.text) for other in chosen):
                chosen.append(sentence)
        chosen.sort(key=lambda s: (s.passage.marker, s.byte_start))
        for number, s in enumerate(chosen):
            quote = Quote(s.passage.marker, s.byte_start, s.byte_end)
            support = float(np.clip(s.coverage, 0.0, 1.0))
            yield AnswerSentence(" ".join(s.text.split()), (quote,), support, verbatim=True, lead=" " if number else "")
        yield AnswerEnd()

    def condense(self, history: Sequence[Turn], text: str) -> str:
        """The question as it is: nothing here can word it anew."""
        return text

    def close(self) -> None:
        """Nothing is held."""


def _scored(question: WeightedTokens, passage: ContextPassage) -> list[_Sentence]:
    """The passage's sentences with their scores; byte ranges count the document's canonical text."""
    chunk = passage.chunk
    data = chunk.text.encode("utf-8")
    prefix = len(embedded_prefix(chunk.heading_path).encode("utf-8"))
    starts = passage.tokens.byte_spans[:, 0] - prefix
    similarity = question.vectors.vectors @ passage.tokens.vectors.T
    sentences = []
    for start, end in sentence_spans(chunk.text):
        text = data[start:end].decode("utf-8")
        inside = (starts >= start) & (starts < end)
        if inside.sum() < _MIN_TOKENS or text.startswith("#"):
            continue
        coverage = _max_sim(similarity[:, inside], question.idf)
        score = coverage + _PASSAGE_WEIGHT * passage.score
        sentences.append(_Sentence(passage, chunk.byte_start + start, chunk.byte_start + end, text, coverage, score))
    return sentences


def _max_sim(similarity: Float32Array, idf: Float32Array) -> float:
    """Idf-weighted mean, over the question's tokens, of the best match among the sentence's tokens."""
    total = float(idf.sum())
    return float(similarity.max(axis=1) @ idf) / total if total > 0 else 0.0


def _squeezed(text: str) -> str:
    return " ".join(text.split()).casefold()
