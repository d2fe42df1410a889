"""An id for every request: in its response, its errors and its log lines."""

from __future__ import annotations

import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ragstack.api.errors import error_response, internal_error
from ragstack.api.redaction import holds_key

_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,128}")
_log = logging.getLogger(__name__)


class RequestIds:
    """Middleware: takes the ``x-request-id`` of a request when it is 1 to 128 of ``A-Za-z0-9._-``, else makes one.

    It also answers exceptions that nobody foresaw, so that these responses carry the id too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        # An API key sent as the id would be written wherever that is.
        is_taken = _WELL_FORMED.fullmatch(given) is not None and not holds_key(given)
        request_id = given if is_taken else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            _log.exception("request %s failed", request_id)
            if started:  # the server cuts the connection: the client must not take a part for the whole
                raise
            response = error_response(Request(scope), internal_error())
            await response(scope, receive, send_with_id)
