"""A query that runs in a thread of the pool while its request waits, and what can end that wait.

The thread makes the events, checks their citations and remembers them; the event loop passes them on. Whichever comes
first of the answer, the timeout, the end of the server and the client's leaving ends the wait. In the last three cases
the query is asked to give up, and its thread goes back to the pool when it has.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import ExitStack, closing

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio import CancelScope
from fastapi import Request

from ragstack.api.answered import answered, broken_off, issued
from ragstack.api.checking import CheckedAnswer, CheckedEvent, CheckedSentence, CitationChecker
from ragstack.api.errors import ApiError, internal_error, request_id_of
from ragstack.api.security import Caller
from ragstack.api.state import AppState
from ragstack.errors import InterruptedRunError, RagstackError
from ragstack.retrieval.engine import QueryRequest
from ragstack.retrieval.evidence import open_evidence

_log = logging.getLogger(__name__)


class QueryRun:
    """One query under way. Whoever does not wait for :meth:`answer` must call :meth:`leave` in the end.

    It may be called at any time.
    """

    def __init__(self, state: AppState, request: Request, caller: Caller, query: QueryRequest) -> None:
        """Start it. Raises ApiError when too many queries wait already."""
        waiting_queries = state.queries.statistics().tasks_waiting
        if state.queries.available_tokens < 1 and waiting_queries >= state.config.max_waiting_queries:
            raise ApiError(
                429,
                "TooManyRequests",
                f"{waiting_queries} queries wait for their turn already.",
                hint="Ask again after a second.",
                code="queue_full",
                headers={"Retry-After": "1"},
            )
        self._state, self._request, self._caller, self._query = state, request, caller, query
        self._send, self._receive = anyio.create_memory_object_stream[CheckedEvent | RagstackError](math.inf)
        self._ending = ExitStack()
        timeout_s = state.config.query_timeout_s
        timer = asyncio.get_running_loop().call_later(timeout_s, self._deliver, _timed_out(timeout_s))
        self._ending.callback(timer.cancel)
        self._ending.enter_context(state.shutdown.listening(lambda: self._deliver(_stopping())))
        watch = CancelScope()
        self._ending.callback(watch.cancel)
        state.background.start_soon(self._watch_client, watch)
        waiting = CancelScope()
        self._ending.callback(waiting.cancel)  # leaves the queue; a thread that runs already ends on its own
        state.background.start_soon(self._run, waiting)

    async def next(self) -> CheckedEvent:
        """The next event. Raises the query's error, and ApiError for what else ended the wait."""
        item = await self._receive.receive()
        if isinstance(item, RagstackError):
            raise item
        return item

    async def first(self) -> CheckedEvent:
        """The first event: what is wrong with the question is told here, so that it has a status of its own.

        Raises what :meth:`next` raises, after :meth:`leave`.
        """
        try:
            return await self.next()
        except BaseException:
            self.leave()
            raise

    async def next_within(self, seconds: float) -> CheckedEvent | None:
        """:meth:`next`, or None when nothing happened for so long."""
        with anyio.move_on_after(seconds):
            return await self.next()
        return None

    async def answer(self) -> CheckedAnswer:
        """The end of the query; the run is left, however it ends. Raises what :meth:`next` raises."""
        try:
            while True:
                event = await self.next()
                if isinstance(event, CheckedAnswer):
                    return event
        finally:
            self.leave()

    def leave(self) -> None:
        """Nobody waits any more: whatever still runs for this query gives up. Idempotent."""
        self._query.cancellation.request()
        self._ending.close()
        self._receive.close()
        self._send.close()

    def _deliver(self, item: CheckedEvent | RagstackError) -> None:
        try:
            self._send.send_nowait(item)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._query.cancellation.request()

    async def _watch_client(self, scope: CancelScope) -> None:
        with scope:
            while (await self._request.receive())["type"] != "http.disconnect":
                pass
            self._query.cancellation.request()
            self._deliver(_client_left())

    async def _run(self, scope: CancelScope) -> None:
        with scope:
            await anyio.to_thread.run_sync(self._work, limiter=self._state.queries)

    def _work(self) -> None:
        try:
            self._make_events()
        except InterruptedRunError:
            pass  # asked for by leave(): nobody waits for a word of it
        except RagstackError as error:
            self._tell(error)
        except Exception:
            _log.exception("request %s failed", request_id_of(self._request))
            self._tell(internal_error())

    def _tell(self, item: CheckedEvent | RagstackError) -> None:
        """Pass something on from the query's thread."""
        anyio.from_thread.run_sync(self._deliver, item)

    def _make_events(self) -> None:
        self._query.cancellation.check()
        state = self._state
        with (
            closing(state.pipeline.engine.stream(self._query)) as events,
            open_evidence(state.pipeline.state_dir) as e,
            ExitStack() as unfinished,
        ):
            checker = CitationChecker(e)
            chain = None
            for event in events:
                self._query.cancellation.check()
                checked = checker.event(event)
                if not isinstance(checked, CheckedSentence | CheckedAnswer):
                    chain = checked.chain
                    unfinished.callback(broken_off, state, self._caller, chain, request_id_of(self._request))
                elif isinstance(checked, CheckedSentence) and chain is not None:
                    # Before it is sent: whoever reads it may ask for its citations at once.
                    state.issued.add(issued(chain, (found.citation for found in checked.citations)))
                elif isinstance(checked, CheckedAnswer):
                    unfinished.pop_all()
                    answered(state, self._caller, checked, request_id_of(self._request))
                self._tell(checked)


def _timed_out(timeout_s: float) -> ApiError:
    return ApiError(
        504,
        "QueryTimeout",
        f"the query did not end within {timeout_s:g} s.",
        hint="Ask again, or raise server.query_timeout_s of the config.",
        code="timeout",
    )


def _stopping() -> ApiError:
    return ApiError(503, "ShuttingDown", "the server is shutting down.", hint="Ask again later.", code="shutting_down")


def _client_left() -> ApiError:
    # Nobody reads it; the log of requests shows nginx's number for this.
    return ApiError(499, "ClientClosedRequest", "the client left before the answer.")
