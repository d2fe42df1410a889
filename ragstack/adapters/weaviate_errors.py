"""The one place where the exceptions of the Weaviate client become ours.

The client raises ``WeaviateBaseError`` and its subclasses, two exceptions beside that family, what httpx and
gRPC raise when a connection breaks, and ``ValueError``/``TypeError`` (pydantic's among them) for arguments it
refuses. Of a failed gRPC call its own error keeps the text alone; the status is on the exception behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import httpx
from weaviate import exceptions as driver

from ragstack.errors import CapabilityError, CollectionError, RagstackError, StoreError, StoreUnavailableError

_UNREACHABLE = (
    driver.WeaviateConnectionError,
    driver.WeaviateGRPCUnavailableError,
    driver.WeaviateStartUpError,
    driver.WeaviateTimeoutError,
    driver.WeaviateClosedClientError,
    driver.WeaviateRetryError,
    driver.WeaviateBatchFailedToReestablishStreamError,
    httpx.TransportError,
    OSError,
)
_REFUSED = (driver.AuthenticationFailedError, driver.MissingScopeError, driver.InsufficientPermissionsError)
_UNREACHABLE_CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_REFUSED_CODES = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_MISSING = ("could not find class", "class not found", "find collection", "not found in schema", "unknown class")
_SHOWN = 400


class Redaction:
    """What an error may say about a connection: the address, and never the key."""

    def __init__(self, address: str, secret: str | None) -> None:
        self.address, self._secret = address, secret

    def text(self, error: BaseException) -> str:
        """The driver's words on one line, cut, without the key."""
        words = " ".join(str(getattr(error, "message", "") or error).split()) or type(error).__name__
        first = error
        while (behind := first.__cause__ or first.__context__) is not None:
            first = behind
        if not isinstance(first, grpc.RpcError) and str(first) not in words:
            words += f" ({first})"
        if self._secret:
            words = words.replace(self._secret, "***")
        return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}..."


@contextmanager
def driver_errors(
    action: str, collection: str | None, connection: Redaction, is_closed: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Run driver calls; whatever they raise leaves as an error of the StoreError family.

    ``action`` completes "could not ..."; ``collection`` is the one meant, if any. ``is_closed`` says whether
    the store was closed, by another thread too: that fails in many ways.
    """
    try:
        yield
    except RagstackError:
        raise
    except Exception as error:
        if is_closed():
            raise StoreUnavailableError("the vector store was closed.", hint="Open it again.") from error
        raise translated(error, action, collection, connection) from error


def translated(error: BaseException, action: str, collection: str | None, connection: Redaction) -> StoreError:
    """Our error for one of the driver's."""
    what = f"{action} the collection {collection!r}" if collection else action
    where = f"Weaviate at {connection.address}"
    said = connection.text(error)
    if is_refused(error):
        return StoreUnavailableError(
            f"could not {what}: {where} does not accept the key: {said}.",
            hint="Check store.api_key, and that the key may read and write collections.",
        )
    if is_unreachable(error):
        return StoreUnavailableError(
            f"could not {what}: {where} does not answer: {said}.",
            hint="Check that the server runs, store.uri, store.grpc_uri (its gRPC port) and TLS (https).",
        )
    if collection and is_missing(error):
        return missing(collection, connection)
    if _code(error) is grpc.StatusCode.RESOURCE_EXHAUSTED or "larger than max" in said:
        return CapabilityError(
            f"could not {what}: a message is larger than {where} or this client takes: {said}.",
            hint="Ask for fewer hits, store smaller payloads, or raise GRPC_MAX_MESSAGE_SIZE on the server.",
        )
    if "QUERY_MAXIMUM_RESULTS" in said:
        return CapabilityError(
            f"could not {what}: {where} returns fewer hits than it was asked for: {said}.",
            hint="Set store.max_results to the server's QUERY_MAXIMUM_RESULTS.",
        )
    return StoreError(
        f"could not {what}: {where} answered: {said}.", hint="The server's log says more; check its disk and memory."
    )


def missing(collection: str, connection: Redaction) -> CollectionError:
    """The error of a collection that is not there."""
    return CollectionError(
        f"Weaviate at {connection.address} has no collection {collection!r}.",
        hint="Index some sources first; check store.prefix if that was done.",
    )


def is_missing(error: BaseException) -> bool:
    """Whether the server said that it has no such collection."""
    if isinstance(error, driver.UnexpectedStatusCodeError) and error.status_code == 404:
        return True
    text = str(error).lower()
    return any(words in text for words in _MISSING)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later. One that waited for its whole time limit may not."""
    if isinstance(error, driver.UnexpectedStatusCodeError):
        return error.status_code in (429, 502, 503, 504)
    if isinstance(error, (driver.WeaviateClosedClientError, driver.WeaviateTimeoutError)):
        return False
    return is_unreachable(error) and _code(error) is not grpc.StatusCode.DEADLINE_EXCEEDED


def is_unreachable(error: BaseException) -> bool:
    """Whether no server answered."""
    return isinstance(error, _UNREACHABLE) or _code(error) in _UNREACHABLE_CODES


def is_refused(error: BaseException) -> bool:
    """Whether the server refused the credentials."""
    if isinstance(error, driver.UnexpectedStatusCodeError) and error.status_code in (401, 403):
        return True
    return isinstance(error, _REFUSED) or _code(error) in _REFUSED_CODES or "status code: 401" in str(error)


def _code(error: BaseException | None) -> grpc.StatusCode | None:
    """The gRPC status behind an error of the driver, if there is one."""
    while error is not None:
        if isinstance(error, grpc.RpcError) and callable(getattr(error, "code", None)):
            found: grpc.StatusCode = error.code()
            return found
        error = error.__cause__ or error.__context__
    return None
