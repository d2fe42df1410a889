"""Every request measured, traced and logged: one line each, without the text of documents or queries."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ragstack.api.metrics import Metrics, current_scope, route_of
from ragstack.api.security import CALLER_KEY, Caller
from ragstack.api.tracing import Tracing

if TYPE_CHECKING:
    from ragstack.api.checking import CheckedAnswer
    from ragstack.api.state import AppState

_log = logging.getLogger("ragstack.requests")

CLIENT_LEFT = 499
"""The status under which a request is counted whose client went away before it was answered (nginx's number)."""


def observe_answer(state: AppState, answer: CheckedAnswer) -> None:
    """Count and trace one finished chain; to be called where a route has it, in the request's own context."""
    state.metrics.observe_chain(answer.chain, (checked.status for checked in answer.citations))
    state.tracing.chain(answer.chain)


class ObservingMiddleware:
    """Counts, times, traces and logs each request.

    What others put into the request's state is read when the response ends: ``request_id`` and ``error_type`` (the
    label of ``ragstack_errors_total``; the status where there is none).
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = CLIENT_LEFT
        started = time.perf_counter()

        async def send_and_see(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        token = current_scope.set(scope)
        self._metrics.requests_in_flight.inc()
        with self._tracing.request(scope) as span:
            try:
                await self._app(scope, receive, send_and_see)
            except Exception:
                status = 500 if status == CLIENT_LEFT else status
                raise
            finally:
                self._metrics.requests_in_flight.dec()
                current_scope.reset(token)
                self._finish(scope, status, time.perf_counter() - started, span)

    def _finish(self, scope: Scope, status: int, seconds: float, span: object) -> None:
        route, state = route_of(scope), scope.get("state", {})
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.request_seconds.labels(route, method, str(status)).observe(seconds)
        if status >= 400:
            self._metrics.errors.labels(str(state.get("error_type") or f"http_{status}")).inc()
        request_id = str(state.get("request_id", ""))
        self._tracing.finish_request(span, scope, route, status, request_id)
        caller = scope.get(CALLER_KEY)
        _log.info(
            "%s %s %d %.1f ms",
            method,
            route,
            status,
            1000 * seconds,
            extra={
                "fields": {
                    "request_id": request_id,
                    "method": method,
                    "route": route,
                    "status": status,
                    "duration_ms": round(1000 * seconds, 3),
                    "caller": caller.name if isinstance(caller, Caller) else "",
                    "trace_id": self._tracing.trace_id(span),
                }
            },
        )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
