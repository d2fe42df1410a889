"""The client for code that must not block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

import httpx
from pydantic import SecretStr

from ragstack.citations.chain import Chain
from ragstack.citations.verify import Finding
from ragstack.client.exchange import Call, Exchange, Failure, Outcome, Pause, Reply
from ragstack.client.operations import FilterLike, Operations
from ragstack.client.replies import OpenedCitation, Ranking, read_event
from ragstack.client.settings import ServerSettings
from ragstack.client.sse import EventParser
from ragstack.client.wire import broken_stream, failure_of, headers_of, reply_of
from ragstack.embedding.base import InputType
from ragstack.errors import RemoteError
from ragstack.generation.base import Turn
from ragstack.retrieval.events import Answered, QueryEvent
from ragstack.retrieval.explain.explanation import Explanation
from ragstack.retrieval.result import QueryResult
from ragstack.types import Float32Array

T = TypeVar("T")


class AsyncClient:
    """:class:`ragstack.Client` for asyncio: the same methods, awaited. To be used in one event loop.

    async with ragstack.AsyncClient("http://127.0.0.1:8000") as client:
        async for event in client.stream("How long are records kept?"):
            ...
    """

    def __init__(
        self,
        url: str,
        api_key: SecretStr | str | None = None,
        *,
        timeout_s: float = 60.0,
        max_retries: int = 2,
    ) -> None:
        """Nothing is connected yet. Raises InputError for a ``url`` that is no address of a server."""
        self._settings = ServerSettings.checked(url, api_key, timeout_s, max_retries)
        self._operations = Operations(self._settings.address, max_retries)
        self._http = httpx.AsyncClient(timeout=self._settings.timeout, headers=self._settings.headers)

    async def query(
        self,
        text: str,
        *,
        filter: FilterLike | None = None,
        top_n: int | None = None,
        history: Sequence[Turn] = (),
    ) -> QueryResult:
        """See :meth:`ragstack.Client.query`."""
        return await self._carry_out(self._operations.query(text, filter, top_n, history))

    async def retrieve(self, text: str, *, filter: FilterLike | None = None, top_n: int | None = None) -> QueryResult:
        """See :meth:`ragstack.Client.retrieve`."""
        return await self._carry_out(self._operations.retrieve(text, filter, top_n))

    async def explain(
        self,
        text: str,
        expected: str | None = None,
        *,
        filter: FilterLike | None = None,
        top_n: int | None = None,
        with_answer: bool = True,
        history: Sequence[Turn] = (),
    ) -> Explanation:
        """See :meth:`ragstack.Client.explain`."""
        return await self._carry_out(self._operations.explain(text, expected, filter, top_n, with_answer, history))

    async def stream(
        self,
        text: str,
        *,
        filter: FilterLike | None = None,
        top_n: int | None = None,
        history: Sequence[Turn] = (),
    ) -> AsyncGenerator[QueryEvent, None]:
        """See :meth:`ragstack.Client.stream`."""
        async with AsyncExitStack() as stack:
            response = await self._open(stack, self._operations.open_stream(text, filter, top_n, history))
            parser, address = EventParser(), self._settings.address
            try:
                async for chunk in response.aiter_bytes():
                    for told in parser.feed(chunk):
                        event = read_event(told, address)
                        if event is not None:
                            yield event
                        if isinstance(event, Answered):
                            return
            except httpx.HTTPError as error:
                raise broken_stream(error, address) from error
            raise broken_stream(None, address)

    async def embed(
        self, texts: Sequence[str], *, input_type: InputType, model: str | None = None, truncate: str = "NONE"
    ) -> Float32Array:
        """See :meth:`ragstack.Client.embed`."""
        return await self._carry_out(self._operations.embed(texts, input_type, model, truncate))

    async def rank(
        self, query: str, passages: Sequence[str], *, model: str | None = None, truncate: str = "NONE"
    ) -> list[Ranking]:
        """See :meth:`ragstack.Client.rank`."""
        return await self._carry_out(self._operations.rank(query, passages, model, truncate))

    async def citation(self, citation_id: str) -> OpenedCitation:
        """See :meth:`ragstack.Client.citation`."""
        return await self._carry_out(self._operations.citation(citation_id))

    async def verify(self, chain: Chain | QueryResult) -> list[Finding]:
        """See :meth:`ragstack.Client.verify`."""
        return await self._carry_out(self._operations.verify(chain.chain if isinstance(chain, QueryResult) else chain))

    async def aclose(self) -> None:
        """Release connections. Idempotent."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncClient({self._settings.address!r})"

    async def _carry_out(self, exchange: Exchange[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = exchange.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                outcome = None
            else:
                outcome = await self._send(step)

    async def _open(self, stack: AsyncExitStack, exchange: Exchange[None]) -> httpx.Response:
        """The response whose events follow; ``stack`` closes it."""
        outcome: Outcome = None
        response: httpx.Response | None = None
        while True:
            try:
                step = exchange.send(outcome)
            except StopIteration:
                assert response is not None
                return response
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                outcome = None
                continue
            try:
                response = await self._http.send(self._request(step), stream=True)
                if response.status_code >= 300:
                    await response.aread()
                    await response.aclose()
                    outcome = reply_of(response)
                else:
                    stack.push_async_callback(response.aclose)
                    outcome = Reply(response.status_code, headers_of(response))
            except httpx.HTTPError as error:
                outcome = failure_of(error)

    async def _send(self, call: Call) -> Reply | Failure:
        try:
            response = await self._http.send(self._request(call))
        except httpx.HTTPError as error:
            return failure_of(error)
        return reply_of(response)

    def _request(self, call: Call) -> httpx.Request:
        if self._http.is_closed:
            raise RemoteError("the client is closed.", hint="Make a new one.")
        return self._http.build_request(call.method, f"{self._settings.address}{call.path}", content=call.content)
