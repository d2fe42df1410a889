"""The error responses of a route, for its OpenAPI description."""

from __future__ import annotations

from typing import Any

from ragstack.api.errors import ErrorBody

_DESCRIPTIONS = {
    401: "No API key, or none that is known.",
    403: "The API key has not the scope that this needs, or its filter forbids it.",
    404: "There is no such thing, or none that the caller may see.",
    409: "Not in the state that this needs.",
    413: "The body, or a file in it, is too large.",
    422: "The request is not well-formed.",
    429: "More than is taken now; Retry-After says when to try again.",
    500: "A mistake in the server.",
    503: "The index is not there, or not reachable.",
    507: "The disk is full.",
}


def errors_of(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What ``responses=`` of a route takes for these statuses."""
    return {status: {"model": ErrorBody, "description": _DESCRIPTIONS[status]} for status in statuses}
