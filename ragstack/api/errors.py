"""Errors as responses: one shape, and the only place that decides statuses.

    {"error": {"type": "InputError", "message": "...", "hint": "...", "param": null, "code": null, "request_id": "..."}}

``message``, ``type``, ``param`` and ``code`` stand where OpenAI's clients look for them. Routes that stand in for
another server answer errors in that server's shape: their ``APIRoute`` sets ``request.state.render_error``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from ragstack.api.redaction import redacted
from ragstack.api.request_errors import (
    AuthenticationError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RequestTimeoutError,
    StorageFullError,
    TooLargeError,
    TooManyRequestsError,
)
from ragstack.errors import (
    CapabilityError,
    CitationError,
    ConfigError,
    EmbeddingError,
    EmbeddingServerError,
    FilterError,
    GenerationError,
    IndexLockedError,
    IndexNotFoundError,
    IndexStateError,
    InputError,
    InterruptedRunError,
    MissingExtraError,
    RagstackError,
    RerankingError,
    StoreUnavailableError,
)

_log = logging.getLogger(__name__)

# The first that an error is an instance of decides.
_STATUSES: tuple[tuple[type[RagstackError], int], ...] = (
    (AuthenticationError, 401),
    (ForbiddenError, 403),
    (NotFoundError, 404),
    (RequestTimeoutError, 408),
    (ConflictError, 409),
    (TooLargeError, 413),
    (TooManyRequestsError, 429),
    (StorageFullError, 507),
    (FilterError, 422),
    (InputError, 422),
    (IndexNotFoundError, 503),
    (IndexLockedError, 503),
    (IndexStateError, 500),
    (StoreUnavailableError, 503),
    (CapabilityError, 422),
    (CitationError, 409),
    (GenerationError, 502),
    (RerankingError, 502),
    (InterruptedRunError, 503),
    (EmbeddingServerError, 502),
    (EmbeddingError, 500),
    (ConfigError, 500),
    (MissingExtraError, 500),
)
_RETRY_AFTER_S = "1"


class ApiError(RagstackError):
    """A request that cannot be served as it is; ``type`` names the kind of mistake in the response."""

    def __init__(
        self,
        status: int,
        type: str,
        message: str,
        *,
        hint: str = "",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.type = type
        self.param = param
        self.code = code
        self.headers = dict(headers or {})


class ErrorDetail(BaseModel):
    """What was wrong, where, and what to do next. ``param`` is the path of the field at fault (``history.0.role``)."""

    type: str
    message: str
    hint: str
    param: str | None
    code: str | None
    request_id: str


class ErrorBody(BaseModel):
    """The body of every error response."""

    error: ErrorDetail


def status_of(error: RagstackError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, ApiError):
        return error.status
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def error_detail(request: Request, error: RagstackError) -> ErrorDetail:
    """What the response tells of an error."""
    told = error if isinstance(error, ApiError) else None
    return ErrorDetail(
        type=told.type if told is not None else type(error).__name__,
        message=_printable(redacted(error.message)),
        hint=_printable(redacted(error.hint)),
        param=told.param if told is not None else None,
        code=told.code if told is not None else None,
        request_id=request_id_of(request),
    )


def error_response(request: Request, error: RagstackError) -> Response:
    """The response that tells of an error of this package's family, in the shape of its route."""
    status, detail = status_of(error), error_detail(request, error)
    if status >= 500 and status != 503:
        _log.error("request %s: %s: %s", detail.request_id, detail.type, detail.message)
    request.state.error_type = detail.type
    headers = dict(getattr(error, "headers", {}))
    if status == 503:
        headers.setdefault("Retry-After", _RETRY_AFTER_S)
    render = getattr(request.state, "render_error", None)
    response: Response
    if render is not None:
        response = render(detail, status)
    else:
        response = JSONResponse(ErrorBody(error=detail).model_dump(), status_code=status)
    response.headers.update(headers)
    return response


def internal_error() -> ApiError:
    """What a caller is told of an exception that nobody foresaw: the log has the rest, under the request's id."""
    return ApiError(
        500,
        "InternalError",
        "the server failed at this request.",
        hint="Its log tells more under this request id.",
        code="internal_error",
    )


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of ``app`` in the one shape."""

    @app.exception_handler(RagstackError)
    async def on_error(request: Request, error: RagstackError) -> Response:
        return error_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        return error_response(request, _invalid(error.errors()))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        return error_response(request, _from_http(request, error))


def request_id_of(request: Request) -> str:
    """The id of this request, as in its response's ``x-request-id``."""
    return str(getattr(request.state, "request_id", ""))


def errors(*statuses: int, model: type[BaseModel] = ErrorBody) -> dict[int | str, dict[str, Any]]:
    """``responses=`` of a route: the error statuses it can give, each with an example."""
    return {status: _documented(status, model) for status in statuses}


_EXAMPLES: dict[int, tuple[str, str, str, str | None]] = {
    400: ("InvalidRequest", "the body cannot be read: it is not JSON.", "", None),
    401: ("Unauthorized", "no API key was given.", "Send it as: Authorization: Bearer KEY", None),
    403: ("Forbidden", "this key has not the scope that the route asks for.", "", None),
    404: ("NotFound", "no citation has this id.", "Ids come from answers of this server.", None),
    405: ("MethodNotAllowed", "this path does not take the method DELETE.", "It takes: POST.", None),
    408: ("RequestTimeoutError", "nothing of the body came for 60 s.", "", None),
    409: ("CitationError", "the citation does not hold.", "", None),
    410: ("VersionGone", "the version that the citation names was replaced.", "Ask again.", None),
    413: ("BodyTooLarge", "the body has more than 1048576 bytes.", "", None),
    422: ("InvalidRequest", "history.0.role: Input should be 'user' or 'assistant'", "", "history.0.role"),
    429: ("TooManyRequests", "256 queries wait for their turn already.", "Ask again after a second.", None),
    500: ("InternalError", "the server failed at this request.", "Its log tells more under this request id.", None),
    502: ("GenerationError", "http://127.0.0.1:8080/v1 cannot be reached.", "Check generator.base_url.", None),
    503: ("IndexNotFoundError", "there is no index yet.", "Build one with: ragstack index PATH", None),
    504: ("QueryTimeout", "the query did not end within 120 s.", "", None),
    507: ("StorageFullError", "the disk has no room for the upload; nothing was kept.", "Free some space there.", None),
}


def _documented(status: int, model: type[BaseModel]) -> dict[str, Any]:
    documented: dict[str, Any] = {"model": model, "description": HTTPStatus(status).phrase}
    if model is ErrorBody and status in _EXAMPLES:
        type_, message, hint, param = _EXAMPLES[status]
        detail = ErrorDetail(type=type_, message=message, hint=hint, param=param, code=None, request_id="6f1c…")
        documented["content"] = {"application/json": {"example": {"error": detail.model_dump()}}}
    return documented


def _invalid(mistakes: Sequence[Any]) -> ApiError:
    first = mistakes[0]
    place = [str(part) for part in first["loc"]]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "it is not JSON")
        return ApiError(
            422, "InvalidRequest", f"the body is not JSON: {reason} at character {place[-1]}.", code="json_invalid"
        )
    where = place[0] if place else "request"
    param = ".".join(place[1:]) or None
    left = len(mistakes) - 1
    more = f" (and {left} more mistake{'s' if left > 1 else ''})" if left else ""
    return ApiError(
        422,
        "InvalidRequest",
        f"{param or where}: {first['msg']}{more}",
        hint=_hint(where, param),
        param=param,
        code=first["type"],
    )


def _hint(where: str, param: str | None) -> str:
    if where != "body":
        return f"It is a mistake in the request's {where}."
    return "" if param else "Send a JSON object, with Content-Type: application/json."


def _from_http(request: Request, error: HTTPException) -> ApiError:
    headers = error.headers or {}
    path = request.url.path
    if error.status_code == 404:
        return ApiError(404, "NotFound", f"there is no {path} here.", hint="GET /openapi.json lists the routes.")
    if error.status_code == 405:
        allowed = headers.get("Allow", headers.get("allow", ""))
        return ApiError(
            405,
            "MethodNotAllowed",
            f"{path} does not take the method {request.method}.",
            hint=f"It takes: {allowed}." if allowed else "",
            headers=headers,
        )
    if error.status_code == 400:
        return ApiError(400, "InvalidRequest", f"the body cannot be read: {error.detail}.", headers=headers)
    phrase = HTTPStatus(error.status_code).phrase
    return ApiError(error.status_code, phrase.replace(" ", ""), str(error.detail), headers=headers)


def _printable(text: str) -> str:
    """Text that can be sent: a lone surrogate, which a request may hold, has no UTF-8 form."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
