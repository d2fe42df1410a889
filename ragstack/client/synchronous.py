"""The client for code that may block."""

from __future__ import annotations

import time
import weakref
from collections.abc import Generator, Sequence
from contextlib import ExitStack
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


class Client:
    """Asks a ragstack server; safe to share between threads.

        with ragstack.Client("http://127.0.0.1:8000", api_key=KEY) as client:
            print(client.query("How long are records kept?").text)

    Every method raises what the server says in the class of the family that it names (InputError, FilterError,
    IndexNotFoundError, …), and RemoteError for what has none there: a server that cannot be reached or does not
    answer in ``timeout_s`` seconds, a key that is refused, too many requests. A server that cannot be reached or is
    overloaded is asked ``max_retries`` more times.
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
        self._http = httpx.Client(timeout=self._settings.timeout, headers=self._settings.headers)
        weakref.finalize(self, self._http.close)  # a client that is dropped leaves no open sockets

    def query(
        self,
        text: str,
        *,
        filter: FilterLike | None = None,
        top_n: int | None = None,
        history: Sequence[Turn] = (),
    ) -> QueryResult:
        """Answer a question; see :meth:`ragstack.Pipeline.query`."""
        return self._carry_out(self._operations.query(text, filter, top_n, history))

    def retrieve(self, text: str, *, filter: FilterLike | None = None, top_n: int | None = None) -> QueryResult:
        """The passages for a question, without an answer."""
        return self._carry_out(self._operations.retrieve(text, filter, top_n))

    def explain(
        self,
        text: str,
        expected: str | None = None,
        *,
        filter: FilterLike | None = None,
        top_n: int | None = None,
        with_answer: bool = True,
        history: Sequence[Turn] = (),
    ) -> Explanation:
        """Answer a question and explain how; see :meth:`ragstack.Pipeline.explain`.

        Paths of the server's machine may be named with the scope admin; with others, source ids.
        """
        return self._carry_out(self._operations.explain(text, expected, filter, top_n, with_answer, history))

    def stream(
        self,
        text: str,
        *,
        filter: FilterLike | None = None,
        top_n: int | None = None,
        history: Sequence[Turn] = (),
    ) -> Generator[QueryEvent, None, None]:
        """What happens while a question is answered; see :meth:`ragstack.Pipeline.stream`.

        Sentences are :class:`ragstack.client.replies.CheckedSentence`. Closing the iterator stops the server's work.
        """
        with ExitStack() as stack:
            response = self._open(stack, self._operations.open_stream(text, filter, top_n, history))
            parser, address = EventParser(), self._settings.address
            try:
                for chunk in response.iter_bytes():
                    for told in parser.feed(chunk):
                        event = read_event(told, address)
                        if event is not None:
                            yield event
                        if isinstance(event, Answered):
                            return
            except httpx.HTTPError as error:
                raise broken_stream(error, address) from error
            raise broken_stream(None, address)

    def embed(
        self, texts: Sequence[str], *, input_type: InputType, model: str | None = None, truncate: str = "NONE"
    ) -> Float32Array:
        """The vectors of texts, ``(n, dim) float32``, of the server's embedder.

        ``truncate``: what is cut off a text that is longer than the model reads: ``NONE`` (an error), ``START`` or
        ``END``. Many texts are sent in several requests.
        """
        return self._carry_out(self._operations.embed(texts, input_type, model, truncate))

    def rank(
        self, query: str, passages: Sequence[str], *, model: str | None = None, truncate: str = "NONE"
    ) -> list[Ranking]:
        """Each passage once, ordered by the server's reranker, best first. ``truncate``: ``NONE`` or ``END``."""
        return self._carry_out(self._operations.rank(query, passages, model, truncate))

    def citation(self, citation_id: str) -> OpenedCitation:
        """A citation of an answer, read and checked again by the server, with the text around it."""
        return self._carry_out(self._operations.citation(citation_id))

    def verify(self, chain: Chain | QueryResult) -> list[Finding]:
        """Have every citation of an answer checked again: a finding for each.

        An id that the server does not know (any more) gives ``unverifiable``; a chain that was edited, ``wrong``.
        """
        return self._carry_out(self._operations.verify(chain.chain if isinstance(chain, QueryResult) else chain))

    def close(self) -> None:
        """Release connections. Idempotent."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._settings.address!r})"

    def _carry_out(self, exchange: Exchange[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = exchange.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                outcome = None
            else:
                outcome = self._send(step)

    def _open(self, stack: ExitStack, exchange: Exchange[None]) -> httpx.Response:
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
                time.sleep(step.seconds)
                outcome = None
                continue
            try:
                response = self._http.send(self._request(step), stream=True)
                if response.status_code >= 300:
                    response.read()
                    response.close()
                    outcome = reply_of(response)
                else:
                    stack.callback(response.close)
                    outcome = Reply(response.status_code, headers_of(response))
            except httpx.HTTPError as error:
                outcome = failure_of(error)

    def _send(self, call: Call) -> Reply | Failure:
        try:
            return reply_of(self._http.send(self._request(call)))
        except httpx.HTTPError as error:
            return failure_of(error)

    def _request(self, call: Call) -> httpx.Request:
        if self._http.is_closed:
            raise RemoteError("the client is closed.", hint="Make a new one.")
        return self._http.build_request(call.method, f"{self._settings.address}{call.path}", content=call.content)
