"""Answers by a language model behind an OpenAI-compatible chat API."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future

from ragstack.cancellation import Cancellation
from ragstack.config.generators import OpenAIGeneratorConfig
from ragstack.errors import GenerationError
from ragstack.generation.answer import AnswerReader
from ragstack.generation.base import AnswerEnd, AnswerEvent, AnswerStream, ContextPassage, Question, Turn
from ragstack.generation.chat import ChatClient, Reply
from ragstack.generation.deltas import DeltaCleaner
from ragstack.generation.evidence import Evidence
from ragstack.generation.marker_answer import MarkerAnswer
from ragstack.generation.prompt import Prompt, answer_prompt, condense_prompt
from ragstack.generation.quote_answer import QuoteAnswer
from ragstack.generation.token_counting import token_counter
from ragstack.loop_thread import LoopThread

_MAX_QUESTION = 2000  # characters of a question that stands alone


class OpenAIGenerator:
    """A :class:`ragstack.generation.base.Generator`; all its requests share one client in one loop thread.

    Raises InputError when the tables that count tokens are not to be had, see
    :func:`ragstack.generation.token_counting.token_counter`. Asks nothing of the model until it is used.
    """

    def __init__(self, config: OpenAIGeneratorConfig) -> None:
        self.name = f"openai:{config.model}"
        self._config = config
        self._count = token_counter(config.tokens, config.model)
        self._client = ChatClient(config)
        self._loop = LoopThread("ragstack-llm")

    def stream(self, question: Question, passages: Sequence[ContextPassage]) -> AnswerStream:
        """See :meth:`ragstack.generation.base.Generator.stream`. The model is asked with the first event.

        Raises InterruptedRunError when ``question.cancellation`` was asked meanwhile; the connection is closed then.
        """
        if not passages:
            yield AnswerEnd()
            return
        try:
            prompt = answer_prompt(self._config, self._count, question.text, passages)
        except GenerationError as error:
            yield AnswerEnd(left_out=tuple(passage.marker for passage in passages), error=error)
            return
        reply = ModelReply(self._loop, self._client, prompt, as_claims=self._config.mode == "quotes")
        reader = (MarkerAnswer if self._config.mode == "markers" else QuoteAnswer)(
            prompt.form, Evidence(question, prompt.passages)
        )
        try:
            with question.cancellation.calling(reply.cancel):
                yield from _events(reply, reader, prompt.left_out, question.cancellation)
        finally:
            reply.cancel()

    def condense(self, history: Sequence[Turn], text: str) -> str:
        """See :meth:`ragstack.generation.base.Generator.condense`. Without a history the model is not asked."""
        if not history:
            return text
        prompt = condense_prompt(self._config, self._count, history, text)
        cleaner, written, end = DeltaCleaner(), "", Reply()
        for item in ModelReply(self._loop, self._client, prompt, as_claims=False):
            if isinstance(item, Reply):
                end = item
            else:
                written += cleaner.feed(item)
        question = " ".join((written + cleaner.finish()).split())
        if 0 < len(question) <= _MAX_QUESTION and not (end.cut_off or end.refused):
            return question
        raise self._client.errors.error(
            "did not word the question anew", "Ask without the conversation, or change generator.prompt.condense."
        )

    def close(self) -> None:
        """Break off what is under way and release connections. Idempotent."""
        self._loop.close(self._client.close())


class ModelReply(Iterator["str | Reply"]):
    """The deltas of one reply and how it ended, read in any thread while the loop thread receives them.

    Iteration raises GenerationError for faults of the model. :meth:`cancel` closes the connection at once, from any
    thread; iteration ends then.
    """

    def __init__(self, loop: LoopThread, client: ChatClient, prompt: Prompt, *, as_claims: bool) -> None:
        self._loop, self._client = loop, client
        self._prompt, self._as_claims = prompt, as_claims
        self._received: queue.SimpleQueue[str | Reply | Exception | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._request: Future[None] | None = None
        self._is_over = False

    def __next__(self) -> str | Reply:
        with self._lock:
            if self._request is None and not self._is_over:
                self._request = self._start()
        item = None if self._is_over else self._received.get()
        if isinstance(item, (str, Reply)):
            return item
        self._is_over = True
        if item is not None:
            raise item
        raise StopIteration

    def cancel(self) -> None:
        """Break it off. Idempotent."""
        with self._lock:
            self._is_over = True
            if self._request is not None:
                self._request.cancel()
        self._received.put(None)

    def _start(self) -> Future[None]:
        try:
            return self._loop.submit(self._receive())
        except RuntimeError as error:
            raise self._client.errors.error("is asked no more", "The generator was closed.") from error

    async def _receive(self) -> None:
        received = self._received
        reply: AsyncIterator[str | Reply] = self._client.ask(self._prompt, as_claims=self._as_claims)
        try:
            async for item in reply:
                received.put(item)
        except Exception as error:  # raised in the thread that reads
            received.put(error)
        except asyncio.CancelledError:
            # Whoever cancelled this reply reads no more; otherwise the generator was closed.
            received.put(self._client.errors.error("was broken off", "The generator was closed meanwhile."))
            raise
        finally:
            received.put(None)


def _events(
    reply: ModelReply, reader: AnswerReader, left_out: tuple[int, ...], cancellation: Cancellation
) -> Iterator[AnswerEvent]:
    """The events of one reply."""
    end = Reply()
    error: GenerationError | None = None
    try:
        for item in reply:
            if isinstance(item, Reply):
                end = item
            elif not reader.is_over:
                yield from reader.feed(item)
            elif item.strip():
                reply.cancel()  # the answer is complete, and yet the model goes on
        cancellation.check()
        if not end.refused:
            yield from reader.finish("cut" if end.cut_off else "whole")
    except GenerationError as caught:
        error = caught
        reply.cancel()
    if error is not None:
        yield from reader.finish("broken")
    yield AnswerEnd(
        dropped_markers=reader.dropped_markers,
        dropped_quotes=reader.dropped_quotes,
        left_out=left_out,
        prompt_tokens=end.prompt_tokens,
        completion_tokens=end.completion_tokens,
        truncated=end.cut_off,
        error=error,
    )
