"""Asks an embedding API for vectors, within limits of time, of requests at a time, and of texts in a request."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ragstack.config.embedders import RemoteEmbedderConfig
from ragstack.embedding.base import InputType
from ragstack.embedding.remote_apis import (
    APIS,
    Float64Array,
    ServerFacts,
    VectorError,
    read_facts,
    read_vectors,
    request_body,
    request_query,
    request_url,
)
from ragstack.errors import EmbeddingServerError, RagstackError, ServerTextError
from ragstack.inference.http_client import Deadline, HttpClient
from ragstack.inference.http_errors import HttpErrors, HttpReply, RemoteRole, may_be_too_much
from ragstack.types import Float32Array

ROLE = RemoteRole(
    key="embedder",
    name="embedder",
    error=EmbeddingServerError,
    item="text",
    check_texts="Check embedder.model, dimensions, and what else is sent. If a text is too long: name the model's own"
    " embedder.tokenizer and max_tokens, so that chunks are cut to fit, or lower chunker.max_tokens.",
    lighten="lower embedder.max_batch_size",
)
_T = TypeVar("_T")
_CHECK_MODEL = (
    "Is this the model that embedder.model means, and can it give embedder.dimensions? The server's log may say more."
)
_MAX_FACTS_BYTES = 16 * 1024 * 1024
# A number is written in at most 25 characters, and no model has more dimensions than this.
_MAX_VECTOR_BYTES = 25 * 16384
_SPARE_BYTES = 1024 * 1024
# What servers answer on a path that they do not have, or do not show to this key.
_OF_THE_TEXTS = frozenset({400, 413, 422})
_NOT_SAID = frozenset({400, 401, 403, 404, 405, 410, 422, 424, 501})


@dataclass(frozen=True)
class _Batch:
    """Consecutive texts of one call: those from ``start``."""

    start: int
    texts: Sequence[str]


class EmbedClient:
    """One embedding API. Its coroutines run in one event loop, and share its limits.

    ``dim`` is how long the vectors are, once that is known: of the config, or of the first reply.
    """

    def __init__(self, config: RemoteEmbedderConfig) -> None:
        self._config = config
        self._url = request_url(config)
        self.errors = HttpErrors(ROLE, config.model, self._url, config.api_key)
        self.dim: int | None = config.dimensions
        self._http = HttpClient(
            self.errors,
            api_key=config.api_key,
            timeout_s=config.timeout_s,
            max_retries=config.max_retries,
            connections=config.max_concurrent_requests,
        )
        self._slots = asyncio.Semaphore(config.max_concurrent_requests)
        self._max_batch = config.max_batch_size or APIS[config.api].max_batch_size

    async def close(self) -> None:
        """Release connections."""
        await self._http.close()

    async def facts(self) -> ServerFacts:
        """What the server says of its model; nothing where its API has no way to say it.

        Raises EmbeddingError for a server that fails, as it may say more another time.
        """
        path = APIS[self._config.api].facts
        if path is None:
            return ServerFacts()
        deadline = Deadline(self._config.timeout_s)
        url = self._config.base_url.rstrip("/") + path
        reply = await self._in_time(self._http.send("GET", url, deadline, max_bytes=_MAX_FACTS_BYTES), deadline)
        if reply.status in _NOT_SAID:
            return ServerFacts()
        if not reply.is_success:
            raise self.errors.of_status(reply, f"asked for {url}")
        try:
            found = read_facts(self._config, self._http.json(reply))
        except EmbeddingServerError:
            if self._config.api == "tei":  # of which much is asked
                raise
            return ServerFacts()
        if self._config.max_batch_size is None and found.max_batch_size is not None:
            self._max_batch = found.max_batch_size
        return found

    async def vectors(self, texts: Sequence[str], counts: Sequence[int], input_type: InputType) -> Float32Array:
        """Vectors of texts, which have their prompts already: ``(n, dim) float32`` of length 1, in their order.

        ``counts`` are the tokens of each, by which they are put into requests. Raises EmbeddingError for every fault of
        the API. Cancelling it breaks off its requests.
        """
        batches = self._batches(texts, counts)
        dense = np.empty((len(texts), self.dim or 0), dtype=np.float32)

        async def work() -> None:
            nonlocal dense
            # Each worker takes the next batch when it is free, so few of them are in memory at a time.
            for batch in batches:
                async with self._slots:
                    deadline = Deadline(self._config.timeout_s)
                    rows = await self._in_time(self._of_batch(batch, input_type, deadline), deadline)
                if not dense.shape[1]:
                    dense = np.empty((len(texts), rows.shape[1]), dtype=np.float32)
                dense[batch.start : batch.start + len(rows)] = rows

        workers = [asyncio.ensure_future(work()) for _ in range(min(len(texts), self._config.max_concurrent_requests))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:  # those of the other batches, where one has failed
                worker.cancel()
        return dense

    async def _in_time(self, work: Coroutine[Any, Any, _T], deadline: Deadline) -> _T:
        try:
            return await asyncio.wait_for(work, deadline.left_s())
        except asyncio.TimeoutError:
            raise self.errors.too_slow(deadline.seconds, deadline.last) from None

    def _batches(self, texts: Sequence[str], counts: Sequence[int]) -> Iterator[_Batch]:
        """Consecutive texts up to the limits, which may become lower on the way."""
        start = 0
        while start < len(texts):
            end, tokens = start + 1, counts[start]
            while end < len(texts) and end - start < self._max_batch:
                tokens += counts[end]
                if tokens > self._config.max_batch_tokens:
                    break
                end += 1
            yield _Batch(start, texts[start:end])
            start = end

    async def _of_batch(self, batch: _Batch, input_type: InputType, deadline: Deadline) -> Float64Array:
        count = len(batch.texts)
        reply = await self._http.send(
            "POST",
            self._url,
            deadline,
            max_bytes=_SPARE_BYTES + count * _MAX_VECTOR_BYTES,
            body=request_body(self._config, batch.texts, input_type),
            query=request_query(self._config, input_type) or None,
        )
        if count > 1 and may_be_too_much(reply):
            # Every server has limits of its own, and few of them tell these beforehand. One half after the other: where
            # it is not the number of texts, the first half fails again, and so on down to the one that is to blame.
            half = (count + 1) // 2
            parts = (_Batch(batch.start, batch.texts[:half]), _Batch(batch.start + half, batch.texts[half:]))
            halves = [await self._of_batch(part, input_type, deadline) for part in parts]
            self._max_batch = min(half, self._max_batch)
            return np.concatenate(halves)
        if not reply.is_success:
            error = self.errors.of_status(reply)
            raise self._of_text(batch.start, error) if count == 1 and reply.status in _OF_THE_TEXTS else error
        return self._read(reply, batch)

    def _read(self, reply: HttpReply, batch: _Batch) -> Float64Array:
        try:
            found = read_vectors(self._config, self._http.json(reply), len(batch.texts), self.dim)
        except VectorError as fault:
            raise self._of_text(batch.start + fault.position, self.errors.error(str(fault), _CHECK_MODEL)) from fault
        except ValueError as error:
            raise self.errors.error(str(error), _CHECK_MODEL) from error
        self.dim = found.shape[1]
        return found

    @staticmethod
    def _of_text(index: int, error: RagstackError) -> ServerTextError:
        return ServerTextError(index, error.message, hint=error.hint)
