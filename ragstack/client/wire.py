"""What both clients make of the driver's responses and errors."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from ragstack.client.exchange import Failure, Reply
from ragstack.errors import RemoteError


def reply_of(response: httpx.Response) -> Reply:
    """A response that was read whole."""
    return Reply(response.status_code, headers_of(response), response.content)


def headers_of(response: httpx.Response) -> Mapping[str, str]:
    """The headers by their names in lower case."""
    return {name.lower(): value for name, value in response.headers.items()}


def broken_stream(error: httpx.HTTPError | None, address: str) -> RemoteError:
    """The error for an answer that ended before its end."""
    reason = f": {failure_of(error).reason}" if error is not None else ""
    return RemoteError(f"{address} broke off in the middle of an answer{reason}.", hint="Ask again.")


def failure_of(error: Exception) -> Failure:
    """What a driver's exception means for an exchange."""
    timed_out = isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout)
    reason = str(error).rstrip(".") or type(error).__name__
    return Failure(f"{type(error).__name__}: {reason}" if reason != type(error).__name__ else reason, timed_out, error)
