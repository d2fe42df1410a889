"""Asks a reranking API for scores, within limits of time, of requests at a time and of passages in a request."""

from __future__ import annotations

import asyncio
import random
from asyncio import sleep
from collections.abc import Sequence
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpx

from ragstack.config.rerankers import RemoteRerankerConfig
from ragstack.errors import RerankingError
from ragstack.reranking.remote_apis import APIS, batch_limit, read_scores, request_body
from ragstack.reranking.remote_errors import CHECK_URL, RemoteRerankerErrors, is_passing, may_be_too_much
from ragstack.version import __version__

_TEI_BATCH = 32
"""TEI's own default of ``max_client_batch_size``, for a server whose ``/info`` is not to be had."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 8.0


class NamedText(NamedTuple):
    """A passage, and what messages call it."""

    name: str
    text: str


class RerankClient:
    """One reranking API. Its coroutines run in one event loop."""

    def __init__(self, config: RemoteRerankerConfig) -> None:
        self._config = config
        base = config.base_url.rstrip("/")
        self._info_url = f"{base}/info"
        self._url = base + (config.path or APIS[config.api].path)
        self.errors = RemoteRerankerErrors(config, self._url)
        headers = {"User-Agent": f"ragstack/{__version__}"}
        if config.api_key is not None:
            headers["Authorization"] = f"Bearer {config.api_key.get_secret_value()}"
        self._http = httpx.AsyncClient(headers=headers, timeout=config.timeout_s)
        self._slots = asyncio.Semaphore(config.max_concurrent_requests)
        self._max_batch: int | None = config.max_batch_size

    async def close(self) -> None:
        """Release connections."""
        await self._http.aclose()

    async def scores(self, query: str, texts: Sequence[NamedText]) -> list[float]:
        """The score of each text, in their order, as the API gives it; NaN where that is no number.

        Raises RerankingError for every fault of the API. Cancelling it breaks off its requests.
        """
        attempts = _Attempts()
        try:
            return await asyncio.wait_for(self._all_scores(query, texts, attempts), self._config.timeout_s)
        except asyncio.TimeoutError:
            raise self.errors.too_slow(self._config.timeout_s, attempts.last) from None

    async def _all_scores(self, query: str, texts: Sequence[NamedText], attempts: _Attempts) -> list[float]:
        size = await self._batch_size(len(texts), attempts)
        return await self._together(query, [texts[at : at + size] for at in range(0, len(texts), size)], attempts)

    async def _together(self, query: str, batches: Sequence[Sequence[NamedText]], attempts: _Attempts) -> list[float]:
        tasks = [asyncio.ensure_future(self._of_batch(query, batch, attempts)) for batch in batches]
        try:
            return [score for found in await asyncio.gather(*tasks) for score in found]
        finally:
            for task in tasks:  # those of the other batches, where one has failed
                task.cancel()

    async def _of_batch(self, query: str, texts: Sequence[NamedText], attempts: _Attempts) -> list[float]:
        body = request_body(self._config, query, [each.text for each in texts])
        response = await self._sent("POST", self._url, attempts, json=body)
        if may_be_too_much(response.status_code) and len(texts) > 1:
            # Every server has a limit of its own, and few of them tell it beforehand.
            half = (len(texts) + 1) // 2
            scores = await self._together(query, [texts[:half], texts[half:]], attempts)
            # Both were taken, so it was their number; the next query begins with it.
            self._max_batch = min(half, self._max_batch or half)
            return scores
        if not response.is_success:
            raise self.errors.of_status(response, texts[0].name if len(texts) == 1 else "")
        try:
            reply = response.json()
        except (ValueError, RecursionError):
            raise self.errors.error("answered with what is no JSON", CHECK_URL) from None
        try:
            return read_scores(self._config, reply, len(texts))
        except ValueError as error:
            raise self.errors.error(str(error), CHECK_URL) from error

    async def _batch_size(self, texts: int, attempts: _Attempts) -> int:
        if self._max_batch is None and self._config.api == "tei" and texts > 1:
            response = await self._sent("GET", self._info_url, attempts)
            told = batch_limit(_json_or_none(response)) if response.is_success else None
            self._max_batch = told or _TEI_BATCH
        return self._max_batch or max(1, texts)

    async def _sent(self, method: str, url: str, attempts: _Attempts, json: Any = None) -> httpx.Response:
        """The response to one request, repeated while its faults may pass. Raises RerankingError for other faults."""
        for repetition in range(self._config.max_retries + 1):
            is_last = repetition == self._config.max_retries
            pause = min(_FIRST_PAUSE_S * 2**repetition, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)
            try:
                async with self._slots:
                    response = await self._http.request(method, url, json=json)
            except (httpx.RequestError, httpx.InvalidURL) as error:
                # Without the cause: it holds the request, and with it the key and the passages.
                attempts.last = self.errors.of_transport(error)
                if is_last:
                    raise attempts.last from None
            else:
                if is_last or not is_passing(response.status_code):
                    return response
                attempts.last = self.errors.of_status(response)
                pause = max(pause, retry_after_s(response.headers.get("Retry-After", "")))
            if pause >= self._config.timeout_s:
                raise attempts.last
            await sleep(pause)
        raise AssertionError("the last repetition returns or raises")


class _Attempts:
    """The latest fault of one reranking, for the message when its time is over."""

    def __init__(self) -> None:
        self.last: RerankingError | None = None


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


def _json_or_none(response: httpx.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None
