"""The seam between passages and an answer."""

from __future__ import annotations

import collections.abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from ragstack.cancellation import Cancellation
from ragstack.errors import RagstackError
from ragstack.types import Chunk, Float32Array, TokenVectors


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation that came before the question."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class WeightedTokens:
    """Token vectors of a text and the idf weight of each, ``(n,) float32``."""

    vectors: TokenVectors
    idf: Float32Array


@dataclass(frozen=True)
class Question:
    """What is asked.

    ``text`` stands alone (see :meth:`Generator.condense`). ``tokens`` are its token vectors; ``tokens_of`` makes
    those of any other text in the same space, so that a generator can compare what it writes with passages.
    ``cancellation`` is asked when nobody waits for the answer any more: a generator that waits for a server stops
    waiting then, since its iterator cannot be closed while it is in ``next``.
    """

    text: str
    tokens: WeightedTokens
    tokens_of: Callable[[str], WeightedTokens]
    cancellation: Cancellation = field(default_factory=Cancellation)


@dataclass(frozen=True)
class ContextPassage:
    """One passage put before the generator. ``marker`` is its number, from 1, in rank order.

    ``tokens`` are the token vectors of ``chunk.embedded_text``, in the same space as the question's.
    ``score`` is the reranker's relevance in [0, 1]. ``found`` is the part that was found, where the passage was widened
    beyond it: what is put before a model when there is no room for the whole.
    """

    marker: int
    chunk: Chunk
    score: float
    tokens: TokenVectors
    found: ContextPassage | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """A part of a passage that an answer sentence rests on: canonical byte range inside the passage ``marker``."""

    marker: int
    byte_start: int
    byte_end: int


@dataclass(frozen=True)
class AnswerSentence:
    """One sentence of the answer with the quotes that carry it, without markers in its text.

    ``support`` in [0, 1] says how well its quotes bear it out; 0 for a sentence without quotes. ``verbatim``: the
    text is that of a quote, word for word. ``lead`` is the white space before it (empty for the first).
    """

    text: str
    quotes: tuple[Quote, ...]
    support: float
    verbatim: bool = False
    lead: str = " "


@dataclass(frozen=True)
class AnswerEnd:
    """The last thing that a generator says about an answer.

    ``dropped_markers`` names no passage in context; ``dropped_quotes`` were not found in their passage; what they
    stood under stays in the answer without them. ``left_out`` are the markers of the passages that did not fit the
    model's context. ``error`` says why the answer broke off; what came before it holds.
    """

    dropped_markers: int = 0
    dropped_quotes: int = 0
    left_out: tuple[int, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    truncated: bool = False
    error: RagstackError | None = None


AnswerEvent: TypeAlias = AnswerSentence | AnswerEnd
AnswerStream: TypeAlias = collections.abc.Generator[AnswerEvent, None, None]


class Generator(Protocol):
    """Makes an answer from passages. Safe to call from several threads.

    ``stream`` yields the answer's sentences as soon as each is settled, in reading order, and one ``AnswerEnd`` as
    the last event. Every quote lies inside the passage that its marker names, which is one of those given. When the
    passages do not answer the question there are no sentences. Faults of a remote model (unreachable, slow, an
    error in mid-answer) are in ``AnswerEnd.error`` and never raised. Closing the iterator stops the work at once.
    """

    name: str

    def stream(self, question: Question, passages: Sequence[ContextPassage]) -> AnswerStream: ...

    def condense(self, history: Sequence[Turn], text: str) -> str:
        """The question that ``text`` asks at the end of ``history``, worded so that it stands alone.

        Raises GenerationError when a model is needed for it and cannot be asked.
        """

    def close(self) -> None:
        """Release connections. Idempotent."""
