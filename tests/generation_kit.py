"""Passages, questions and generators for tests of generation, on the embedder that needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ragstack.config.generators import OpenAIGeneratorConfig
from ragstack.generation.base import AnswerEnd, AnswerSentence, ContextPassage, Question, WeightedTokens
from ragstack.generation.evidence import Evidence
from ragstack.generation.marker_answer import MarkerAnswer
from ragstack.generation.markers import MarkerForm
from ragstack.generation.openai import OpenAIGenerator
from ragstack.testing.hashing_embedder import HashingEmbedder
from ragstack.types import Chunk

TAG = "qzvk"
OFFSET = 1000
"""Where passages begin in their documents, so that a range counted from a passage's own start shows."""

TEXTS = (
    "Raw images are kept for 400 days. After that they are deleted, as [12] says.",
    "The dome closes by itself when the wind is stronger than 15 m/s. It opens by hand – “never” alone.",
    "Зеркала моют в мае. 水泵每年检查一次。第二句在这里。",
)

_EMBEDDER = HashingEmbedder()


def tokens_of(text: str) -> WeightedTokens:
    """Token vectors with equal weights."""
    tokens = _EMBEDDER.embed([text], "passage", ("tokens",)).tokens
    assert tokens is not None
    return WeightedTokens(tokens[0], np.ones(len(tokens[0]), dtype=np.float32))


def question(text: str = "How long are raw images kept?") -> Question:
    """A question."""
    return Question(text, tokens_of(text), tokens_of)


def passages(texts: Sequence[str] = TEXTS, heading_path: tuple[str, ...] = ("Retention",)) -> list[ContextPassage]:
    """Passages with the markers 1, 2, ..."""
    found = []
    for number, text in enumerate(texts, 1):
        end = OFFSET + len(text.encode("utf-8"))
        chunk = Chunk(f"c{number}", f"docs/{number}.md", "0" * 64, OFFSET, end, text, len(text), heading_path)
        found.append(ContextPassage(number, chunk, 0.9, tokens_of(chunk.embedded_text).vectors))
    return found


def quoted(sentence: AnswerSentence, context: Sequence[ContextPassage]) -> list[str]:
    """The words of a sentence's quotes, read from the passages by their byte ranges."""
    words = []
    for quote in sentence.quotes:
        chunk = next(passage.chunk for passage in context if passage.marker == quote.marker)
        assert chunk.byte_start <= quote.byte_start < quote.byte_end <= chunk.byte_end
        data = chunk.text.encode("utf-8")
        words.append(data[quote.byte_start - chunk.byte_start : quote.byte_end - chunk.byte_start].decode("utf-8"))
    return words


def read(deltas: Sequence[str], tag: str = TAG, ending: Any = "whole") -> tuple[list[AnswerSentence], MarkerAnswer]:
    """The sentences of an answer with markers, and what read it."""
    reader = MarkerAnswer(MarkerForm(tag), Evidence(question(), passages()))
    sentences = [sentence for delta in deltas for sentence in reader.feed(delta)]
    return [*sentences, *reader.finish(ending)], reader


def shown(sentences: Sequence[AnswerSentence]) -> str:
    """The answer as a reader sees it, with the passages' numbers."""
    return "".join(s.lead + s.text + "".join(f" [{q.marker}]" for q in s.quotes) for s in sentences)


def generator(base_url: str, **settings: Any) -> OpenAIGenerator:
    """A generator that gives up at once."""
    return OpenAIGenerator(OpenAIGeneratorConfig(**{"base_url": base_url, "max_retries": 0, **settings}))


def answer(
    model: OpenAIGenerator, text: str = "How long are raw images kept?"
) -> tuple[list[AnswerSentence], AnswerEnd]:
    """A whole answer from the passages, and its end."""
    *sentences, end = model.stream(question(text), passages())
    assert isinstance(end, AnswerEnd)
    assert all(isinstance(sentence, AnswerSentence) for sentence in sentences)
    return [sentence for sentence in sentences if isinstance(sentence, AnswerSentence)], end
