"""Server-sent events (WHATWG HTML, section 9.2): how they are written, and the response that sends them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

KEEP_ALIVE = b": keep-alive\n\n"
KEEP_ALIVE_S = 15.0
"""Proxies cut connections that are silent for a minute or less; a comment is read over by every client."""

EVENT_SCHEMA = {
    "type": "object",
    "description": "One server-sent event; its data is JSON text.",
    "properties": {"event": {"type": "string"}, "data": {"type": "string", "contentMediaType": "application/json"}},
    "required": ["data"],
}
"""How OpenAPI documents describe each event of a stream."""


def sse_event(data: Any, event: str | None = None) -> bytes:
    """One event with JSON for data. JSON has no line breaks of its own, so one ``data:`` line holds it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    head = f"event: {event}\n" if event is not None else ""
    return f"{head}data: {text}\n\n".encode("utf-8", "backslashreplace")


class EventStream(Response):
    """Sends what ``events`` gives; closes it and calls ``on_end`` in the end, whatever happens.

    The client's leaving ends it too: ``events`` must end then by itself (:class:`ragstack.api.running.QueryRun` does).
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], on_end: Callable[[], None]) -> None:
        self._events = events
        self._on_end = on_end
        self.status_code = 200
        self.background = None
        # No proxy may hold events back or keep them.
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._events) as events:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                async for chunk in events:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            # A generator that was never started runs no ``finally`` of its own.
            self._on_end()
