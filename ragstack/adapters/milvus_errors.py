"""The one place where pymilvus's exceptions become ours.

The driver raises MilvusException with a server's code and text, grpc.RpcError for some failed calls (it also
puts gRPC status codes into MilvusException.code), and ValueError or TypeError while it converts arguments.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from pymilvus import exceptions as driver

from ragstack.errors import CapabilityError, CollectionError, RagstackError, StoreError, StoreUnavailableError

COLLECTION_MISSING = {100}
_COLLECTION_MISSING_OLD = 4  # common.proto's ErrorCode.CollectionNotExists, still set beside the new code
NOT_LOADED = {101, 103}
# Service unavailable; not (fully) loaded; replicas, channels, segments and nodes that are being moved or
# recovered: what a server answers while it starts.
_PASSING = {2, *NOT_LOADED, 401, 501, 503, 600, 601, 602, 901, 902, 903}
_PASSING_TEXTS = ("no available shard", "channel not available", "node offline", "not healthy", "service not ready",
                  "collection not loaded", "not fully loaded", "shard leaders", "node not match")  # fmt: skip
_UNREACHABLE = (
    driver.ConnectError,
    driver.MilvusUnavailableException,
    driver.ConnectionNotExistException,
    driver.ConnectionConfigException,
)
_UNREACHABLE_STATUS = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNIMPLEMENTED,  # something else listens there
}
_REFUSED_STATUS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_REFUSED_TEXTS = ("auth check failure", "unauthenticated", "permission deny", "permission denied", "invalid credential")
_TOO_LARGE_TEXTS = ("maxoutputsize", "larger than max", "message larger", "exceeds the maximum")


@dataclass(frozen=True, slots=True)
class Place:
    """What the messages name: the store's address, without secrets, and what must never be in one."""

    address: str
    secret: str = ""


@contextmanager
def driver_errors(action: str, collection: str, place: Place) -> Iterator[None]:
    """Run driver calls; whatever they raise leaves as an error of the StoreError family.

    ``action`` completes "could not ...".
    """
    try:
        yield
    except RagstackError:
        raise
    except Exception as error:
        raise translated(error, action, collection, place) from error


def translated(  # noqa: PLR0911 - one return for each row of the table
    error: Exception, action: str, collection: str, place: Place
) -> StoreError:
    """Our error for one of the driver's."""
    text = _text(error)
    if place.secret:
        text = text.replace(place.secret, "***")
    what = f"could not {action} {f'the collection {collection!r} of ' if collection else ''}Milvus at {place.address}"
    status = _status(error)
    lowered = text.lower()
    if isinstance(error, driver.MilvusException) and "fail connecting" in lowered:
        status = _first_status(error)  # the driver says the same for a refused token and for a server that is down
    if status in _REFUSED_STATUS or any(part in lowered for part in _REFUSED_TEXTS):
        return StoreUnavailableError(
            f"{what}: it refuses the credentials ({text}).", hint="Check store.token and the rights of its user."
        )
    if is_missing(error) and collection:
        return CollectionError(
            f"Milvus at {place.address} has no collection {collection!r}.",
            hint="Index some sources; if that was done, rebuild: ragstack index --rebuild",
        )
    if (
        isinstance(error, (*_UNREACHABLE, grpc.FutureTimeoutError))
        or status in _UNREACHABLE_STATUS
        or is_passing(error)
    ):
        return StoreUnavailableError(
            f"{what}: {text}.",
            hint="Check that it runs and is ready, store.uri (gRPC port, usually 19530; http or https)"
            " and store.timeout_s.",
        )
    if "fail connecting" in lowered or "retry timeout" in lowered:
        return StoreUnavailableError(f"{what}: {text}.", hint="Check that it runs, store.uri and store.timeout_s.")
    if isinstance(error, driver.ServerVersionIncompatibleException) or "not supported" in lowered:
        return CapabilityError(f"{what}: {text}.", hint="Check the version of the server; see docs/stores-milvus.md.")
    if _code(error) in (driver.ErrorCode.RATE_LIMIT, driver.ErrorCode.FORCE_DENY):
        return StoreError(f"{what}: {text}.", hint="The server is at a limit of rate, memory or disk; see its quotas.")
    return StoreError(f"{what}: {text}.", hint="Check the log of the server.")


def is_passing(error: Exception) -> bool:
    """Whether the same call may succeed in a moment: the server is starting, moving segments, or limits the rate."""
    if not isinstance(error, driver.MilvusException):
        return False
    if error.retriable or _code(error) in _PASSING or _code(error) == driver.ErrorCode.RATE_LIMIT:
        return True
    lowered = _text(error).lower()
    return any(part in lowered for part in _PASSING_TEXTS)


def is_missing(error: Exception) -> bool:
    """Whether the server said that the collection does not exist."""
    if isinstance(error, driver.CollectionNotExistException):
        return True
    if not isinstance(error, driver.MilvusException):
        return False
    lowered = _text(error).lower()
    return (
        _code(error) in COLLECTION_MISSING
        or error.compatible_code == _COLLECTION_MISSING_OLD
        or "can't find collection" in lowered
        or "collection not found" in lowered
    )


def is_not_loaded(error: Exception) -> bool:
    """Whether the collection has to be loaded first."""
    return isinstance(error, driver.MilvusException) and (
        _code(error) in NOT_LOADED or "not loaded" in _text(error).lower()
    )


def is_too_large(error: Exception) -> bool:
    """Whether an answer was larger than server or client take."""
    lowered = _text(error).lower()
    return _status(error) is grpc.StatusCode.RESOURCE_EXHAUSTED or any(part in lowered for part in _TOO_LARGE_TEXTS)


def _code(error: Exception) -> Any:
    return error.code if isinstance(error, driver.MilvusException) else None


def _status(error: Exception) -> Any:
    if isinstance(error, driver.MilvusException):
        return error.code if isinstance(error.code, grpc.StatusCode) else None
    code = getattr(error, "code", None)
    return code() if isinstance(error, grpc.RpcError) and callable(code) else None


def _first_status(error: Exception) -> Any:
    """The gRPC status of what the error was raised from, if any; the driver makes rings of causes."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, grpc.RpcError) and isinstance(cause, Exception):
            return _status(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _text(error: Exception) -> str:
    details = getattr(error, "details", None)
    if isinstance(error, driver.MilvusException):
        text = str(error.message)
    elif isinstance(error, grpc.RpcError) and callable(details):
        text = f"{_status(error)}: {details()}"
    else:
        text = str(error)
    return (text.strip().rstrip(".") or type(error).__name__)[:500]


def _is_about_our_errors(record: logging.LogRecord) -> bool:
    return record.funcName != "_log_rpc_error"


# The driver logs each exception with its traceback before it raises it. What it raises is raised here as an
# error that says more, or is retried, so the log line would be noise on the user's terminal.
logging.getLogger("pymilvus.decorators").addFilter(_is_about_our_errors)
