"""Answers by a language model behind an OpenAI-compatible chat API."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future

from ragstack.config.generators import OpenAIGeneratorConfig
from ragstack.errors import GenerationError
from ragstack.generation.answer import AnswerReader
from ragstack.generation.base import AnswerEnd, AnswerEvent, ContextPassage, Question, Turn
from ragstack.generation.chat import ChatClient, Reply
from ragstack.generation.deltas import DeltaCleaner
from ragstack.generation.evidence import Evidence
from ragstack.generation.loop_thread import LoopThread
from ragstack.generation.marker_answer import MarkerAnswer
from ragstack.generation.prompt import Prompt, answer_prompt, condense_prompt
from ragstack.generation.quote_answer import QuoteAnswer
from ragstack.generation.token_counting import token_counter

_MAX_QUESTION = 2000  # characters of a question that stands alone


class OpenAIGenerator:
    """A :class:`ragstack.generation.base.Generator`; all its requests share one client in one loop thread.

    Raises InputError when the tables that count tokens are not to be had, see
    :func:`ragstack.generation.token_counting.token_counter`. Asks nothing of the model until it is used.
    """

    name = "openai"

    def __init__(self, config: OpenAIGeneratorConfig) -> None:
        self._config = config
        self._count = token_counter(config.tokens, config.model)
        self._client = ChatClient(config)
        self._loop = LoopThread("ragstack-llm")

    def stream(self, question: Question, passages: Sequence[ContextPassage]) -> Iterator[AnswerEvent]:
        """See :meth:`ragstack.generation.base.Generator.stream`.

        The request is made when the first event is asked for. ``close()`` of the iterator may be called from any
        thread, also while another waits for an event; that thread's iteration then ends.
        """
        return AnswerStream(self, question, passages)

    def condense(self, history: Sequence[Turn], text: str) -> str:
        """See :meth:`ragstack.generation.base.Generator.condense`. Without a history the model is not asked."""
        if not history:
            return text
        prompt = condense_prompt(self._config, self._count, history, text)
        cleaner, written, end = DeltaCleaner(), "", Reply()
        for item in self.ask(prompt, as_claims=False):
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

    def prompt(self, question: str, passages: Sequence[ContextPassage]) -> Prompt:
        """What the model will be asked. Raises GenerationError when no passage fits its context."""
        return answer_prompt(self._config, self._count, question, passages)

    def reader(self, prompt: Prompt, question: Question) -> AnswerReader:
        """What reads the answer to a prompt."""
        evidence = Evidence(question, prompt.passages)
        if self._config.mode == "markers":
            return MarkerAnswer(prompt.form, evidence)
        return QuoteAnswer(prompt.form, evidence)

    def ask(self, prompt: Prompt, *, as_claims: bool | None = None) -> ModelReply:
        """The model's reply to a prompt. ``as_claims`` None means what the config's mode says."""
        if as_claims is None:
            as_claims = self._config.mode == "quotes"
        return ModelReply(self._loop, self._client, prompt, as_claims)


class ModelReply(Iterator["str | Reply"]):
    """The deltas of one reply and how it ended, read in any thread while the loop thread receives them.

    Iteration raises GenerationError for faults of the model. :meth:`cancel` closes the connection at once, from any
    thread; iteration ends then.
    """

    def __init__(self, loop: LoopThread, client: ChatClient, prompt: Prompt, as_claims: bool) -> None:
        self._loop, self._client = loop, client
        self._prompt, self._as_claims = prompt, as_claims
        self._received: queue.SimpleQueue[str | Reply | GenerationError | None] = queue.SimpleQueue()
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
        except GenerationError as error:
            received.put(error)
        except asyncio.CancelledError:
            # Whoever cancelled this reply reads no more; otherwise the generator was closed.
            received.put(self._client.errors.error("was broken off", "The generator was closed meanwhile."))
            raise
        finally:
            received.put(None)


class AnswerStream(Iterator[AnswerEvent]):
    """The events of one answer, see :meth:`OpenAIGenerator.stream`. One that is thrown away is closed too."""

    def __init__(self, generator: OpenAIGenerator, question: Question, passages: Sequence[ContextPassage]) -> None:
        self._work = _Work()
        self._events = _events(generator, question, passages, self._work)

    def __next__(self) -> AnswerEvent:
        event = None if self._work.is_closed else next(self._events)
        if event is None or self._work.is_closed:  # perhaps while this thread waited
            raise StopIteration
        return event

    def close(self) -> None:
        """Stop the work and close the connection. Idempotent, and safe from any thread."""
        self._work.close()

    def __del__(self) -> None:
        self._work.close()


class _Work:
    """What an answer's iterator and the code behind it share; the iterator itself must be free to be collected."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reply: ModelReply | None = None
        self.is_closed = False

    def begin(self, reply: ModelReply) -> None:
        with self._lock:
            self._reply = reply
            if self.is_closed:
                reply.cancel()

    def close(self) -> None:
        with self._lock:
            self.is_closed = True
            if self._reply is not None:
                self._reply.cancel()


def _events(
    generator: OpenAIGenerator, question: Question, passages: Sequence[ContextPassage], work: _Work
) -> Iterator[AnswerEvent]:
    if not passages:
        yield AnswerEnd()
        return
    try:
        prompt = generator.prompt(question.text, passages)
    except GenerationError as error:
        yield AnswerEnd(left_out=tuple(passage.marker for passage in passages), error=error)
        return
    reply = generator.ask(prompt)
    work.begin(reply)
    yield from _read(reply, generator.reader(prompt, question), prompt.left_out)


def _read(reply: ModelReply, reader: AnswerReader, left_out: tuple[int, ...]) -> Iterator[AnswerEvent]:
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
