"""One request to a server and its answer, with retries, without I/O.

An exchange is a generator: it yields what is to be done (:class:`Call`: send it; :class:`Pause`: wait) and is sent
what came of it (:class:`Reply` or :class:`Failure`). Whoever drives it does the I/O.
"""

from __future__ import annotations

import json
import random
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from ragstack.client.replies import error_of, tells_of_an_error
from ragstack.errors import IndexNotFoundError, RemoteError

T = TypeVar("T")

_OVERLOADED, _OF_PROXIES = (429, 503), (502, 504)
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True)
class Call:
    """A request. ``path`` is below the server's address; ``streamed``: the answer is read as it comes."""

    method: Literal["GET", "POST"]
    path: str
    body: Mapping[str, Any] | None = None
    streamed: bool = False

    @property
    def content(self) -> bytes | None:
        """The body's bytes: JSON. ``surrogatepass`` leaves it to the server to refuse what is not text."""
        if self.body is None:
            return None
        return json.dumps(self.body, ensure_ascii=False).encode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Reply:
    """An answer. Header names are in lower case. ``body`` is empty for a streamed answer that succeeded."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Failure:
    """No answer. ``reason`` is the driver's word; ``timed_out``: the server took the request and stayed silent."""

    reason: str
    timed_out: bool
    cause: Exception


Step: TypeAlias = Call | Pause
Outcome: TypeAlias = Reply | Failure | None
Exchange: TypeAlias = Generator[Step, Outcome, T]


def exchange(call: Call, address: str, max_retries: int) -> Exchange[Reply]:
    """Send ``call`` until it succeeds, at most ``1 + max_retries`` times. Every call of this package only reads.

    Tried again, after the server's ``Retry-After`` or a pause that doubles: a server that cannot be reached or breaks
    off, 429 and 503, and a proxy's 502 and 504. A time-out is not, neither ours nor the server's own: it was at work,
    and would be at work again. Raises the server's error in the class of the family that it names, else RemoteError.
    """
    for attempt in range(max_retries + 1):
        is_last = attempt == max_retries
        outcome = yield call
        assert outcome is not None
        if isinstance(outcome, Failure):
            if is_last or outcome.timed_out:
                raise _unreachable(outcome, address, attempt + 1) from outcome.cause
            yield Pause(_pause_s(attempt, None))
            continue
        if outcome.status < 300:
            return outcome
        error = error_of(outcome.status, outcome.headers, outcome.body, address)
        if is_last or not _may_pass(outcome) or isinstance(error, IndexNotFoundError):
            raise error
        pause_s = _pause_s(attempt, outcome.headers.get("retry-after"))
        if pause_s > _LONGEST_PAUSE_S:
            raise error
        yield Pause(pause_s)
    raise AssertionError("the last attempt returns or raises")


def _may_pass(reply: Reply) -> bool:
    """Whether the same request may succeed in a moment. A ragstack server's own 502 and 504 are a model's faults."""
    return reply.status in _OVERLOADED or (reply.status in _OF_PROXIES and not tells_of_an_error(reply.body))


def _pause_s(attempt: int, retry_after: str | None) -> float:
    if retry_after is not None and retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    # Clients that failed together do not come back together.
    return min(_FIRST_PAUSE_S * 2.0**attempt, _LONGEST_PAUSE_S) * random.uniform(0.75, 1.25)


def _unreachable(failure: Failure, address: str, attempts: int) -> RemoteError:
    if failure.timed_out:
        return RemoteError(
            f"{address} did not answer in time: {failure.reason}.", hint="Allow more time with timeout_s."
        )
    tries = "" if attempts == 1 else f" ({attempts} attempts)"
    return RemoteError(
        f"{address} cannot be reached{tries}: {failure.reason}.",
        hint="Check the address, and that the server runs: ragstack serve.",
    )
