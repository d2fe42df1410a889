"""Errors in the shape, and with the statuses, that clients of OpenAI's API know."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute

from ragstack.api.errors import ErrorBody, ErrorDetail

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def openai_detail(detail: ErrorDetail, status: int) -> ErrorDetail:
    """The one shape with OpenAI's words for ``type``; what the type is elsewhere stands under ``code``."""
    type_ = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return detail.model_copy(update={"type": type_, "code": detail.code or detail.type})


def openai_error_response(detail: ErrorDetail, status: int) -> Response:
    """The response; mistakes in a body have status 400 there, not 422."""
    shown = 400 if status == 422 else status
    return JSONResponse(ErrorBody(error=openai_detail(detail, shown)).model_dump(), status_code=shown)


class OpenAIRoute(APIRoute):
    """A route whose errors are OpenAI's, those of reading and checking the body included."""

    invalid_status = 400

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, told how errors are shown."""
        handle = super().get_route_handler()

        async def handle_as_openai(request: Request) -> Response:
            request.state.render_error = openai_error_response
            return await handle(request)

        return handle_as_openai
