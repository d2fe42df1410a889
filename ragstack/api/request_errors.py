"""What can be wrong with a request itself, whatever it asks for.

RequestError               base; ``headers`` go with the response
├── AuthenticationError    no key, or none that is known
├── ForbiddenError         known, but not allowed to do this; or from where it must not come
├── NotFoundError          there is no such thing, or none that this caller may see
├── ConflictError          not in the state that the request needs
├── TooLargeError          the body, or a file in it
├── TooManyRequestsError   more than this caller, or the server, takes now
└── StorageFullError       the disk has no room for an upload
"""

from __future__ import annotations

import math

from ragstack.errors import RagstackError


class RequestError(RagstackError):
    """Base of the errors of this module. ``headers`` are sent with the response."""

    def __init__(self, message: str, *, hint: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.headers = headers or {}


class AuthenticationError(RequestError):
    """The request carries no API key, or one that is not known, revoked or expired (which of them is not told)."""

    def __init__(self, message: str = "an API key is needed.") -> None:
        super().__init__(
            message,
            hint="Send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`; `ragstack key create NAME` makes one.",
            headers={"WWW-Authenticate": 'Bearer realm="ragstack"'},
        )


class ForbiddenError(RequestError):
    """The caller is known and may not do this."""


class NotFoundError(RequestError):
    """There is no such thing, or none that this caller may see: the two are not told apart."""


class ConflictError(RequestError):
    """What the request is about is not in the state that it needs."""


class RequestTimeoutError(RequestError):
    """The request's body stopped coming."""


class TooLargeError(RequestError):
    """The request's body, or a file in it, is larger than the limit."""


class TooManyRequestsError(RequestError):
    """More than is taken now; ``retry_after_s`` says when to try again."""

    def __init__(self, message: str, retry_after_s: float, *, hint: str = "") -> None:
        self.retry_after_s = max(1, math.ceil(retry_after_s))
        super().__init__(message, hint=hint, headers={"Retry-After": str(self.retry_after_s)})


class StorageFullError(RequestError):
    """The disk has no room for what was sent."""
