"""Asks a chat API for one answer and gives it piece by piece, within limits of time and size."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import openai

from ragstack.config.generators import OpenAIGeneratorConfig
from ragstack.errors import GenerationError
from ragstack.generation.chat_errors import ChatErrors
from ragstack.generation.prompt import Prompt
from ragstack.generation.quote_answer import CLAIMS_SCHEMA

T = TypeVar("T")

_MAX_ANSWER = 1_000_000  # characters
_AFTER_THE_END_S = 5.0  # for the counts of tokens, which come after the last token


@dataclass(frozen=True, slots=True)
class Reply:
    """How an answer ended. The counts are the API's own, None where it gives none.

    ``refused`` says that the model declined to answer; ``cut_off`` that it came to ``max_tokens``.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    refused: bool = False
    cut_off: bool = False


class ChatClient:
    """One model of one API. Its methods run in one event loop."""

    def __init__(self, config: OpenAIGeneratorConfig) -> None:
        self._config = config
        self.errors = ChatErrors(config)
        # Without a key of its own the SDK would send the one in OPENAI_API_KEY to whatever address this is.
        key = config.api_key.get_secret_value() if config.api_key is not None else ""
        self._client = openai.AsyncOpenAI(
            base_url=config.base_url,
            api_key=key or "none",
            timeout=openai.Timeout(config.timeout_s, connect=config.first_token_timeout_s),
            max_retries=config.max_retries,
        )
        # Nor does an organisation of OPENAI_ORG_ID belong to it.
        self._client.organization = self._client.project = None

    async def close(self) -> None:
        """Release connections."""
        await self._client.close()

    async def ask(self, prompt: Prompt, *, as_claims: bool) -> AsyncIterator[str | Reply]:
        """The deltas of an answer as they come, none empty, and how it ended.

        Cancelling it closes the connection. Raises GenerationError for every fault of the API.
        """
        clock = _Clock(self._config)
        stream = await self._in_time(self._request(self._options(prompt, as_claims)), clock)
        try:
            async for item in self._read(stream, clock):
                yield item
        finally:
            await stream.close()

    async def _request(self, options: dict[str, Any]) -> openai.AsyncStream[Any]:
        create: Any = self._client.chat.completions.create  # its overloads know no options in a mapping
        stream: openai.AsyncStream[Any] = await create(**options)
        return stream

    def _options(self, prompt: Prompt, as_claims: bool) -> dict[str, Any]:
        config = self._config
        options: dict[str, Any] = {
            "model": config.model,
            "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
            "stream": True,
            config.max_tokens_field: prompt.max_tokens,
        }
        if config.stream_usage:
            options["stream_options"] = {"include_usage": True}
        if config.temperature is not None:
            options["temperature"] = config.temperature
        if config.seed is not None:
            options["seed"] = config.seed
        if as_claims and config.structured_output == "json_object":
            options["response_format"] = {"type": "json_object"}
        elif as_claims and config.structured_output == "json_schema":
            schema = {"name": "cited_answer", "strict": True, "schema": CLAIMS_SCHEMA}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        if config.extra_body:
            options["extra_body"] = config.extra_body
        return options

    async def _read(self, stream: openai.AsyncStream[Any], clock: _Clock) -> AsyncIterator[str | Reply]:
        chunks = stream.__aiter__()
        counts: tuple[int | None, int | None] = (None, None)
        reason: str | None = None
        refused = has_chunks = False
        size = 0
        while (chunk := await self._next(chunks, clock)) is not None:
            has_chunks = True
            counts = _counts(chunk) or counts
            choice = _first_choice(chunk)
            delta = getattr(choice, "delta", None)
            text = getattr(delta, "content", None)
            refused = refused or bool(getattr(delta, "refusal", None))
            if text or any(getattr(delta, name, None) for name in ("reasoning_content", "reasoning", "refusal")):
                clock.token_came()
            if isinstance(text, str) and text:
                size += len(text)
                if size > _MAX_ANSWER:
                    raise self.errors.error(
                        f"went on beyond {_MAX_ANSWER:,} characters", "Lower generator.max_tokens; check the server."
                    )
                yield text
            if getattr(choice, "finish_reason", None):
                reason = str(getattr(choice, "finish_reason", None))
                clock.answer_ended()
        if reason is None:
            raise self._broken_off(has_chunks)
        if reason == "content_filter":
            raise self.errors.error("stopped the answer at its content filter", "Ask otherwise, or another model.")
        yield Reply(*counts, refused, reason == "length")

    async def _next(self, chunks: AsyncIterator[Any], clock: _Clock) -> Any:
        """The next chunk; None after the last one."""
        try:
            return await self._in_time(_next_or_none(chunks), clock)
        except GenerationError:
            if clock.has_ended:  # the answer is whole; only the counts of tokens are missing
                return None
            raise

    async def _in_time(self, step: Coroutine[Any, Any, T], clock: _Clock) -> T:
        """The outcome of one step of the client. Raises GenerationError when it fails or takes too long."""
        seconds, too_slow = clock.limit()
        try:
            return await asyncio.wait_for(step, seconds)
        except asyncio.TimeoutError:
            raise self.errors.too_slow(too_slow) from None
        except Exception as error:  # the client's own, and those of reading what is no stream of chunks
            # Without the cause: it holds the request, and with it the key and the documents.
            raise self.errors.translated(error) from None

    def _broken_off(self, has_chunks: bool) -> GenerationError:
        if has_chunks:
            return self.errors.error("ended the stream before the answer ended", "The server's log may say why.")
        return self.errors.error(
            "answered, but not with a stream of a chat completion",
            "Check generator.base_url: it must be an OpenAI-compatible API (most end in /v1), not a web page.",
        )


class _Clock:
    """The limits of time of one answer."""

    def __init__(self, config: OpenAIGeneratorConfig) -> None:
        self._config = config
        self._started = self._last = time.monotonic()
        self._has_token = False
        self.has_ended = False

    def token_came(self) -> None:
        """A token has come."""
        self._has_token, self._last = True, time.monotonic()

    def answer_ended(self) -> None:
        """The last token has come."""
        self.has_ended, self._last = True, time.monotonic()

    def limit(self) -> tuple[float, str]:
        """How many seconds the next step may take, and what is to be said when it takes longer."""
        config = self._config
        whole = (self._started + config.timeout_s, f"did not end its answer within {config.timeout_s:g} s")
        if self.has_ended:
            nearest = (self._last + _AFTER_THE_END_S, "did not say how many tokens it used")
        elif self._has_token:
            nearest = (self._last + config.stall_timeout_s, f"stopped for {config.stall_timeout_s:g} s in its answer")
        else:
            first = config.first_token_timeout_s
            nearest = (self._started + first, f"did not begin to answer within {first:g} s")
        deadline, too_slow = min(whole, nearest)
        return max(0.0, deadline - time.monotonic()), too_slow


async def _next_or_none(chunks: AsyncIterator[Any]) -> Any:
    async for chunk in chunks:
        return chunk
    return None


def _first_choice(chunk: Any) -> Any:
    """The first choice of a chunk, or None. The client checks no types: a server's mistakes come through."""
    choices = getattr(chunk, "choices", None)
    return choices[0] if isinstance(choices, list) and choices else None


def _counts(chunk: Any) -> tuple[int | None, int | None] | None:
    usage = getattr(chunk, "usage", None)
    if usage is None:
        return None
    found = (getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None))
    first, second = (n if isinstance(n, int) and not isinstance(n, bool) and n >= 0 else None for n in found)
    return first, second
