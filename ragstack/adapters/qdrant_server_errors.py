"""The one place where the errors of qdrant-client become ours, and where failed requests are sent again.

Every request of the adapter is idempotent: it may be sent again when it is not known whether it arrived.

=================================================  ==========================================
the client raised                                  we raise
=================================================  ==========================================
connection failed, timeout, 429, 5xx; gRPC         the request is sent again; then
UNAVAILABLE, DEADLINE_EXCEEDED, ...                StoreUnavailableError
401, 403; UNAUTHENTICATED, PERMISSION_DENIED       StoreUnavailableError, which names the key
403, FAILED_PRECONDITION "Storage locked"          StoreUnavailableError, which says so
507, no space left on the server                   StoreError: no part of a write would fit either
404 that names a collection; NOT_FOUND             CollectionError
an answer that is none of Qdrant's                 StoreUnavailableError
other statuses (400, 413, 422, ...)                RequestRefusedError, a StoreError
anything else                                      StoreError
=================================================  ==========================================
"""

from __future__ import annotations

import json
import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import httpx
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from ragstack.errors import CapabilityError, CollectionError, RagstackError, StoreError, StoreUnavailableError

_T = TypeVar("_T")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_PASSING_STATUSES = (408, 425, 429, 500, 502, 503, 504)
_LOCAL_CLOSED = "instance is closed"


class RequestRefusedError(StoreError):
    """The server read a request and refused it; sending it again would not help."""


class IncompleteWriteError(Exception):
    """The server took a write and did not say that it was applied; raised by the adapter, sent again here."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a store is, for messages; ``secret`` is kept out of them."""

    uri: str
    secret: str = ""

    def clean(self, text: str) -> str:
        """The text without the secret."""
        return text.replace(self.secret, "***") if self.secret else text


@dataclass(frozen=True, slots=True)
class Failure:
    """What one attempt came to. ``retry_after_s`` is what the server asks for, when ``passing``."""

    error: StoreError
    passing: bool = False
    retry_after_s: float = 0.0


class Deadline(threading.local):
    """When the call of this thread must end, on the clock of ``time.monotonic``; read where requests are sent."""

    at: float | None = None


@dataclass(frozen=True, slots=True)
class Requests:
    """Sends requests: translates their errors and repeats those that failed for a passing reason.

    A call takes at most ``timeout_s``, all its attempts and the pauses between them together.
    """

    address: Address
    timeout_s: float
    deadline: Deadline
    sleep: Callable[[float], None] = time.sleep

    def send(
        self,
        request: Callable[[], _T],
        action: str,
        collection: str = "",
        *,
        retries: int,
        limit_s: float | None = None,
    ) -> _T:
        """The answer to ``request``, in ``1 + retries`` attempts; only errors of ragstack leave.

        ``action`` completes "could not ...". ``limit_s`` stands for ``timeout_s`` where much is to be done.
        """
        ends = time.monotonic() + (limit_s or self.timeout_s)
        attempt = 0
        while True:
            self.deadline.at = ends
            try:
                return request()
            except RagstackError:
                raise
            except Exception as error:
                failure = translated(error, self.address, action, collection)
                left = ends - time.monotonic()
                pause = max(failure.retry_after_s, _pause_s(attempt))
                if not failure.passing or attempt >= retries or pause >= left:
                    raise failure.error from error
            finally:
                self.deadline.at = None
            self.sleep(pause)
            attempt += 1


def _pause_s(attempt: int) -> float:
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**attempt) * random.uniform(0.5, 1.0)


def translated(  # noqa: PLR0911 - one return for each row of the table
    error: Exception, address: Address, action: str, collection: str
) -> Failure:
    """What an exception of the client means."""
    what = f"could not {action}" + (f" the collection {collection!r}" if collection else "")
    where = f"{what} on the Qdrant server at {address.uri}"
    if isinstance(error, UnexpectedResponse):
        return _of_status(error, address, where, collection)
    if isinstance(error, ResourceExhaustedResponse):
        return _passing(address, where, f"it has too much to do ({error})", float(error.retry_after_s))
    if isinstance(error, ResponseHandlingException):
        return _of_transport(error.source, address, where)
    if isinstance(error, httpx.HTTPError | httpx.InvalidURL | httpx.CookieConflict | httpx.StreamError | OSError):
        return _of_transport(error, address, where)
    if isinstance(error, grpc.RpcError):
        return _of_grpc(error, address, where, collection)
    if isinstance(error, IncompleteWriteError):
        return _passing(address, where, f"it did not finish the write ({error})")
    if isinstance(error, json.JSONDecodeError | AssertionError):  # the client asserts that an answer has a result
        return _unreadable(address, where, str(error))
    if isinstance(error, ValueError) and collection and "not found" in str(error):  # the client's local mode
        return Failure(no_collection(address, collection))
    if isinstance(error, RuntimeError) and _LOCAL_CLOSED in str(error):
        return Failure(closed())
    kind = type(error).__name__
    if isinstance(error, ApiException | QdrantException):
        return Failure(StoreError(address.clean(f"{where}: {kind}: {error}.")))
    return Failure(
        StoreError(
            address.clean(f"{where}: {kind}: {error}."),
            hint="This is an error of ragstack or of qdrant-client; please report it.",
        )
    )


def no_collection(address: Address, collection: str) -> CollectionError:
    """The error of a collection that is not there."""
    return CollectionError(
        f"the Qdrant server at {address.uri} has no collection {collection!r}.",
        hint="Index some sources; if that was done, check store.uri and store.prefix.",
    )


def closed() -> StoreUnavailableError:
    """The error of a store that was closed."""
    return StoreUnavailableError("the vector store was closed.", hint="Open it again.")


def unavailable(address: Address, where: str, reason: str, hint: str = "") -> StoreUnavailableError:
    """The error of a server that does not answer as it should."""
    return StoreUnavailableError(
        address.clean(f"{where}: {reason}."),
        hint=hint or "Check that the server runs, and store.uri; raise store.timeout_s if it is only slow.",
    )


def _passing(address: Address, where: str, reason: str, retry_after_s: float = 0.0) -> Failure:
    return Failure(unavailable(address, where, reason), passing=True, retry_after_s=retry_after_s)


def _of_status(  # noqa: PLR0911 - one return for each row of the table
    error: UnexpectedResponse, address: Address, where: str, collection: str
) -> Failure:
    status = error.status_code or 0
    told = _told(error.content)
    if status == 403 and _is_lock(told):
        return Failure(_locked(address, where, told or ""))
    if status in (401, 403):
        return Failure(_refused_key(address, where, f"it refuses the key (status {status}{_after(told)})"))
    if status in _PASSING_STATUSES:
        reason = f"it answered with status {status}{_after(told or '')}"
        return _passing(address, where, reason, _seconds(error.headers.get("Retry-After") if error.headers else None))
    if status == 404 and told is not None and collection:
        return Failure(no_collection(address, collection))
    if told is None:
        reason = f"the answer (status {status}) is not one of a Qdrant server"
        return Failure(unavailable(address, where, reason, "Check store.uri: another server may listen there."))
    if status == 507:
        hint = "Free disk space or memory on the server, or raise its quota; what was written before is kept."
        return Failure(StoreError(address.clean(f"{where}: {told}."), hint=hint))
    hint = "Lower store.batch_bytes, or raise the server's limit of a request." if status == 413 else ""
    return Failure(RequestRefusedError(address.clean(f"{where}: status {status}{_after(told)}."), hint=hint))


def _after(told: str | None) -> str:
    return f": {told}" if told else ""


def _told(content: bytes) -> str | None:
    """The server's own words; None when they are not in Qdrant's form."""
    try:
        status: Any = json.loads(content)["status"]
        return str(status["error"] if isinstance(status, dict) else status)[:500]
    except (ValueError, LookupError, TypeError):
        return None


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0  # a date: our own pause then


def _of_transport(source: Exception, address: Address, where: str) -> Failure:
    text = str(source) or type(source).__name__
    if isinstance(source, httpx.TimeoutException | TimeoutError):
        return _passing(address, where, "it did not answer in time")
    if _is_tls(source):
        hint = (
            "Check that store.uri begins with https: where the server has TLS and with http: where it has none;"
            " a certificate of your own authority needs store.tls_ca_file."
        )
        return Failure(unavailable(address, where, f"no secure connection ({text})", hint))
    if isinstance(source, httpx.UnsupportedProtocol | httpx.InvalidURL | httpx.TooManyRedirects | httpx.DecodingError):
        return Failure(unavailable(address, where, text))
    if isinstance(source, httpx.HTTPError | OSError):
        return _passing(address, where, f"no connection ({text})")
    return _unreadable(address, where, text)


def _unreadable(address: Address, where: str, reason: str) -> Failure:
    hint = "Check store.uri, and that server and qdrant-client are of about the same version."
    return Failure(unavailable(address, where, f"its answer cannot be read ({reason[:300]})", hint))


def _is_tls(source: BaseException | None) -> bool:
    while source is not None:
        # httpcore hands the text on and sometimes not the exception.
        if isinstance(source, ssl.SSLError) or "[SSL" in str(source):
            return True
        source = source.__cause__ or source.__context__
    return False


_GRPC_PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION,  # over HTTP the same is a 500: a shard that is not ready yet
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
)
_GRPC_KEY = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


def _of_grpc(error: grpc.RpcError, address: Address, where: str, collection: str) -> Failure:
    code = error.code() if callable(getattr(error, "code", None)) else None
    told = str(error.details() if callable(getattr(error, "details", None)) else error)[:500]
    name = code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"
    if code in _GRPC_KEY:
        return Failure(_refused_key(address, where, f"it refuses the key ({name}: {told})"))
    if code == grpc.StatusCode.NOT_FOUND and collection:
        return Failure(no_collection(address, collection))
    if code == grpc.StatusCode.FAILED_PRECONDITION and _is_lock(told):
        return Failure(_locked(address, where, told))
    if code == grpc.StatusCode.UNIMPLEMENTED:
        hint = "Use a newer server, or store.prefer_grpc: false."
        return Failure(CapabilityError(address.clean(f"{where}: the server has no such call ({told})."), hint=hint))
    if code is None or code in _GRPC_PASSING:
        return _passing(address, where, f"gRPC {name}: {told}; is store.grpc_port right?")
    return Failure(RequestRefusedError(address.clean(f"{where}: gRPC {name}: {told}.")))


def _is_lock(told: str | None) -> bool:
    return (told or "").startswith("Storage locked")


def _locked(address: Address, where: str, told: str) -> StoreUnavailableError:
    hint = "Somebody locked the server, or it started in recovery mode; its log says which."
    return unavailable(address, where, f"it refuses it ({told})", hint)


def _refused_key(address: Address, where: str, reason: str) -> StoreUnavailableError:
    hint = "Check store.api_key (`api_key: ${QDRANT_API_KEY}`), and that it may read and write."
    return unavailable(address, where, reason, hint)
