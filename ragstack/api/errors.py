"""Errors as responses: one shape, and the only place that decides statuses.

    {"error": {"type": "InputError", "message": "...", "hint": "...", "param": null, "code": null, "request_id": "..."}}

``message``, ``type``, ``param`` and ``code`` stand where OpenAI's clients look for them. Routes that stand in for
another server answer errors in that server's shape.
"""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from ragstack.api.redaction import redacted
from ragstack.api.request_errors import (
    AuthenticationError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    StorageFullError,
    TooLargeError,
    TooManyRequestsError,
)
from ragstack.errors import (
    CapabilityError,
    CitationError,
    ConfigError,
    EmbeddingError,
    FilterError,
    GenerationError,
    IndexLockedError,
    IndexNotFoundError,
    IndexStateError,
    InputError,
    MissingExtraError,
    RagstackError,
    StoreUnavailableError,
)

# The first that an error is an instance of decides.
_STATUSES: tuple[tuple[type[RagstackError], int], ...] = (
    (AuthenticationError, 401),
    (ForbiddenError, 403),
    (NotFoundError, 404),
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
    (EmbeddingError, 500),
    (ConfigError, 500),
    (MissingExtraError, 500),
)


class ErrorDetail(BaseModel):
    """What was wrong, where, and what to do next."""

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
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def error_response(request: Request, error: RagstackError) -> JSONResponse:
    """The response that tells of an error of this package's family."""
    detail = ErrorDetail(
        type=type(error).__name__,
        message=redacted(error.message),
        hint=redacted(error.hint),
        param=None,
        code=None,
        request_id=getattr(request.state, "request_id", ""),
    )
    headers = getattr(error, "headers", None)
    return JSONResponse(ErrorBody(error=detail).model_dump(), status_code=status_of(error), headers=headers)
