"""Asks a reranking API for scores, within limits of time, of requests at a time and of passages in a request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from ragstack.config.rerankers import RemoteRerankerConfig
from ragstack.errors import RerankingError
from ragstack.inference.http_client import Deadline, HttpClient
from ragstack.inference.http_errors import HttpErrors, HttpReply, RemoteRole, may_be_too_much
from ragstack.reranking.remote_apis import APIS, batch_limit, read_scores, request_body

ROLE = RemoteRole(
    key="reranker",
    name="reranker",
    error=RerankingError,
    item="passage",
    check_texts="Check reranker.model and extra_body. If passages are too long: set truncate to END where the API knows"
    " it, or lower chunker.max_tokens.",
    lighten="lower retrieval.rerank_k",
)
_TEI_BATCH = 32
"""TEI's own default of ``max_client_batch_size``, for a server whose ``/info`` is not to be had."""

_BATCH = 256
"""Passages in a request to the others, of which NIM takes 512 and Cohere 1,000: a page takes seconds, not minutes."""

_MAX_REPLY_BYTES = 64 * 1024 * 1024


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
        self.errors = HttpErrors(ROLE, config.model, self._url, config.api_key)
        self._http = HttpClient(
            self.errors,
            api_key=config.api_key,
            timeout_s=config.timeout_s,
            max_retries=config.max_retries,
            connections=config.max_concurrent_requests,
        )
        self._slots = asyncio.Semaphore(config.max_concurrent_requests)
        self._max_batch: int | None = config.max_batch_size

    async def close(self) -> None:
        """Release connections."""
        await self._http.close()

    async def scores(self, query: str, texts: Sequence[NamedText]) -> list[float]:
        """The score of each text, in their order, as the API gives it; NaN where that is no number.

        Raises RerankingError for every fault of the API. Cancelling it breaks off its requests.
        """
        deadline = Deadline(self._config.timeout_s)
        try:
            return await asyncio.wait_for(self._all_scores(query, texts, deadline), deadline.seconds)
        except asyncio.TimeoutError:
            raise self.errors.too_slow(deadline.seconds, deadline.last) from None

    async def _all_scores(self, query: str, texts: Sequence[NamedText], deadline: Deadline) -> list[float]:
        size = await self._batch_size(len(texts), deadline)
        return await self._together(query, [texts[at : at + size] for at in range(0, len(texts), size)], deadline)

    async def _together(self, query: str, batches: Sequence[Sequence[NamedText]], deadline: Deadline) -> list[float]:
        tasks = [asyncio.ensure_future(self._of_batch(query, batch, deadline)) for batch in batches]
        try:
            return [score for found in await asyncio.gather(*tasks) for score in found]
        finally:
            for task in tasks:  # those of the other batches, where one has failed
                task.cancel()

    async def _of_batch(self, query: str, texts: Sequence[NamedText], deadline: Deadline) -> list[float]:
        body = request_body(self._config, query, [each.text for each in texts])
        reply = await self._sent("POST", self._url, deadline, body)
        if len(texts) > 1 and may_be_too_much(reply):
            # Every server has a limit of its own, and few of them tell it beforehand.
            half = (len(texts) + 1) // 2
            scores = await self._together(query, [texts[:half], texts[half:]], deadline)
            # Both were taken, so it was their number; the next query begins with it.
            self._max_batch = min(half, self._max_batch or half)
            return scores
        if not reply.is_success:
            raise self.errors.of_status(reply, texts[0].name if len(texts) == 1 else "")
        try:
            return read_scores(self._config, self._http.json(reply), len(texts))
        except ValueError as error:
            raise self.errors.error(str(error), ROLE.check_url) from error

    async def _batch_size(self, texts: int, deadline: Deadline) -> int:
        if self._max_batch is None and self._config.api == "tei" and texts > 1:
            reply = await self._sent("GET", self._info_url, deadline)
            try:
                told = batch_limit(self._http.json(reply)) if reply.is_success else None
            except RerankingError:  # no JSON: a page, in front of a server that shows its /rerank alone
                told = None
            self._max_batch = told or _TEI_BATCH
        return self._max_batch or _BATCH

    async def _sent(self, method: str, url: str, deadline: Deadline, body: Any = None) -> HttpReply:
        async with self._slots:
            return await self._http.send(method, url, deadline, max_bytes=_MAX_REPLY_BYTES, body=body)
