"""Requests to a model behind an HTTP API: connections kept, passing faults repeated, time and size limited."""

from __future__ import annotations

import random
import time
from asyncio import sleep
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pydantic_core
from pydantic import SecretStr

from ragstack.errors import RagstackError
from ragstack.inference.http_errors import HttpErrors, HttpReply, is_passing
from ragstack.version import __version__

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 8.0
_CONNECT_TIMEOUT_S = 10.0
_MAX_FAULT_BYTES = 65536
# What no repetition mends: a URL or a header that cannot be sent.
# A port without TLS, a certificate that is not trusted: the driver has no classes for these.
_FINAL_TLS = ("WRONG_VERSION_NUMBER", "CERTIFICATE_VERIFY_FAILED")
_FINAL = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL)


class Deadline:
    """The time that is left for one piece of work, and the latest of its faults, for the message when it is over."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.last: RagstackError | None = None
        self._end = time.monotonic() + seconds

    def left_s(self) -> float:
        """Seconds until it is over; 0 or less afterwards."""
        return self._end - time.monotonic()


class HttpClient:
    """One server's connections. Its coroutines run in one event loop; cancelling one closes its connection."""

    def __init__(
        self, errors: HttpErrors, *, api_key: SecretStr | None, timeout_s: float, max_retries: int, connections: int
    ) -> None:
        self._errors, self._max_retries = errors, max_retries
        headers = {"User-Agent": f"ragstack/{__version__}"}
        if api_key is not None and api_key.get_secret_value():
            headers["Authorization"] = f"Bearer {api_key.get_secret_value()}"
        self._http = httpx.AsyncClient(
            headers=headers,
            # How long an answer may take is the deadline's to say; a host that is not there is noticed sooner.
            timeout=httpx.Timeout(None, connect=min(_CONNECT_TIMEOUT_S, timeout_s)),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    async def close(self) -> None:
        """Release connections."""
        await self._http.aclose()

    async def send(
        self,
        method: str,
        url: str,
        deadline: Deadline,
        *,
        max_bytes: int,
        body: Any = None,
        query: Mapping[str, str] | None = None,
    ) -> HttpReply:
        """The reply to one request, repeated while its faults may pass. ``body`` is sent as JSON,
        ``query`` behind the URL.

        Repetitions wait twice as long each time, or as long as ``Retry-After`` asks, and end with ``deadline``. A reply
        that is no success comes back, with the beginning of its body. Raises the role's error for a connection that
        fails and for a body of more than ``max_bytes``.
        """
        for repetition in range(self._max_retries + 1):
            pause = min(_FIRST_PAUSE_S * 2**repetition, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)
            is_last = repetition == self._max_retries
            try:
                reply = await self._sent(method, url, query, body, max_bytes)
            except (httpx.RequestError, httpx.InvalidURL) as error:
                # Without the cause: it holds the request, and with it the key and the texts.
                deadline.last = self._errors.of_transport(error)
                if is_last or _is_final(error):
                    raise deadline.last from None
            else:
                if is_last or not is_passing(reply.status):
                    return reply
                deadline.last = self._errors.of_status(reply)
                pause = max(pause, retry_after_s(reply.headers.get("retry-after", "")))
            if pause >= deadline.left_s():
                raise deadline.last
            await sleep(pause)
        raise AssertionError("the last repetition returns or raises")

    def json(self, reply: HttpReply) -> Any:
        """The body as JSON. Raises the role's error for anything else."""
        try:
            return pydantic_core.from_json(reply.content)
        except ValueError:
            raise self._errors.no_json() from None

    async def _sent(
        self, method: str, url: str, query: Mapping[str, str] | None, body: Any, max_bytes: int
    ) -> HttpReply:
        async with self._http.stream(method, url, params=query, json=body) as response:
            headers = {key.lower(): value for key, value in response.headers.items()}
            content = bytearray()
            async for part in response.aiter_bytes():
                content += part
                if not response.is_success and len(content) >= _MAX_FAULT_BYTES:
                    break
                if len(content) > max_bytes:
                    raise self._errors.too_large(max_bytes)
            return HttpReply(response.status_code, bytes(content), headers)


def _is_final(error: Exception) -> bool:
    return isinstance(error, _FINAL) or any(fault in str(error) for fault in _FINAL_TLS)


def retry_after_s(value: str, now: datetime | None = None) -> float:
    """The seconds that a ``Retry-After`` header asks to wait: a number or an HTTP date; 0 for anything else."""
    if value.strip().isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - (now or datetime.now(timezone.utc))).total_seconds())
