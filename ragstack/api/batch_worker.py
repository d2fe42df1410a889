"""One thread that feeds the embedder with batches of all clients' texts."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from ragstack.api.admission import Throughput
from ragstack.api.batch_work import BatchUnderWay, Embedded, QueuedRequest, complete
from ragstack.api.batching import Batch, BatchQueue, Lane, Slice
from ragstack.api.model_errors import ModelRequestError
from ragstack.embedding.base import (
    Embedder,
    Embeddings,
    InputType,
    Output,
    submit,
)
from ragstack.errors import RagstackError
from ragstack.inference.threads import usable_cores

CPU_BATCH_TOKENS_PER_CORE = 1024
"""Budget on a CPU, for each core: smaller ones leave cores idle, larger ones embed no more texts a second and keep
short requests waiting (docs/model-server.md)."""
GPU_BATCH_TOKENS = 65536
"""Budget on a GPU."""

_BATCHES_AHEAD = 1
_log = logging.getLogger(__name__)

WorkerState: TypeAlias = Literal["starting", "ready", "failing", "closed"]


@runtime_checkable
class OnDevice(Protocol):
    """An embedder that says where it runs: ``cpu``, ``cuda:0``."""

    @property
    def device(self) -> str: ...


def online_batch_tokens(embedder: Embedder) -> int:
    """The budget of a batch when the config names none."""
    on_gpu = isinstance(embedder, OnDevice) and embedder.device.startswith("cuda")
    return GPU_BATCH_TOKENS if on_gpu else CPU_BATCH_TOKENS_PER_CORE * usable_cores()


@dataclass(frozen=True)
class BatchReport:
    """One batch that was embedded: how many texts of how many requests, their tokens, and the seconds it took."""

    texts: int
    requests: int
    token_counts: tuple[int, ...]
    seconds: float


class EmbeddingWorker:
    """Embeds the texts of many clients, batched by :class:`ragstack.api.batching.BatchQueue`.

    ``open_embedder`` is called in the worker's thread, which then embeds a text to load the weights; the embedder is
    not closed. A request that is cancelled is dropped before it is embedded, and one whose texts cannot be embedded
    fails alone: the others of its batch are embedded again without it.
    """

    def __init__(
        self,
        open_embedder: Callable[[], Embedder],
        max_batch_tokens: int | None,
        max_queued_tokens: int,
        on_batch: Callable[[BatchReport], None],
    ) -> None:
        self._open_embedder = open_embedder
        self._max_batch_tokens = max_batch_tokens
        self._max_queued_tokens = max_queued_tokens
        self._on_batch = on_batch
        self._queue = BatchQueue(max_batch_tokens or CPU_BATCH_TOKENS_PER_CORE)
        self._requests: dict[int, QueuedRequest] = {}
        self._ids = itertools.count()
        self._wake = threading.Condition()
        self._state: WorkerState = "starting"
        self.throughput = Throughput()
        self._thread = threading.Thread(target=self._run, name="ragstack-batches", daemon=True)

    @property
    def state(self) -> WorkerState:
        """``ready`` once the model embeds; ``failing`` when it could not be loaded, until a batch succeeds."""
        return self._state

    @property
    def max_batch_tokens(self) -> int:
        """The budget of a batch."""
        return self._queue.max_batch_tokens

    @property
    def queued_requests(self) -> int:
        """Requests with texts that wait for a batch."""
        return self._queue.requests

    @property
    def queued_tokens(self) -> int:
        """Tokens that wait for a batch."""
        return self._queue.tokens

    def start(self) -> None:
        """Start the thread and load the model in it."""
        self._thread.start()

    def close(self) -> None:
        """Refuse what waits, let the batch under way end, and end the thread. Idempotent."""
        with self._wake:
            self._state = "closed"
            for request_id in self._requests:
                self._queue.cancel(request_id)
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    async def embed(
        self, texts: Sequence[str], token_counts: Sequence[int], input_type: InputType, outputs: Sequence[Output]
    ) -> Embedded:
        """Vectors of ``texts`` (at least one), ``dense`` and ``tokens`` alone among the outputs.

        ``token_counts`` are what the model reads of each text, special tokens included. Raises ModelRequestError:
        overloaded when too many tokens wait, unavailable when the worker is closed, backend when the model fails.
        """
        loop = asyncio.get_running_loop()
        lane = Lane(input_type, tuple(sorted(set(outputs))))
        request = QueuedRequest(lane, texts, token_counts, loop.create_future(), loop, time.perf_counter(), len(texts))
        with self._wake:
            if self._state == "closed":
                raise ModelRequestError("unavailable", "The server is shutting down.", retry_after_s=1)
            self._admit(sum(token_counts))
            request_id = next(self._ids)
            self._queue.add(request_id, lane, token_counts)
            self._requests[request_id] = request
            self._wake.notify()
        try:
            return await request.future
        finally:
            with self._wake:
                self._requests.pop(request_id, None)
                self._queue.cancel(request_id)

    def retry_after_s(self) -> int:
        """Seconds in which what waits now will have been embedded."""
        return self.throughput.retry_after_s(self.queued_tokens)

    def _admit(self, tokens: int) -> None:
        waiting = self._queue.tokens
        if waiting and waiting + tokens > self._max_queued_tokens:
            raise ModelRequestError(
                "overloaded",
                f"Model is overloaded: {waiting} tokens wait, {self._max_queued_tokens} may.",
                hint="Try again later, with fewer texts at a time.",
                retry_after_s=self.retry_after_s(),
            )

    def _run(self) -> None:
        try:
            self._work()
        finally:  # closed, or a fault of ours: whoever waits is told either way, and /health
            with self._wake:
                self._state = "closed"
                waiting = list(self._requests.values())
            for request in waiting:
                request.finish(ModelRequestError("unavailable", "The server is shutting down.", retry_after_s=1))

    def _work(self) -> None:
        embedder = self._load()
        under_way: deque[BatchUnderWay] = deque()
        while True:
            with self._wake:
                while self._state != "closed" and not under_way and not self._queue.requests:
                    self._wake.wait()
                if self._state == "closed" and not under_way:
                    return
                batch = self._queue.next_batch()
                slices = self._slices(batch)
            if slices:
                embedder = embedder or self._load()
                under_way.append(self._begin(embedder, slices))
            # One batch is prepared while another is run; with nothing to prepare, the oldest is waited for. What was
            # run already is not kept from its clients.
            while under_way and (len(under_way) > _BATCHES_AHEAD or not slices or under_way[-1].is_done):
                self._settle(under_way.popleft())

    def _load(self) -> Embedder | None:
        try:
            embedder = self._open_embedder()
            # A text alone and texts that make several batches may be run by different sessions.
            embedder.embed(["warm up"], "query", ("dense",))
            embedder.embed(["warm up", "warm up " * 32], "passage", ("dense",))
        except Exception as error:  # a third party's model raises what it likes; requests are told, and /health
            _log.error("the embedding model cannot be used: %s", error, exc_info=not isinstance(error, RagstackError))
            self._set_state("failing")
            return None
        self._queue.max_batch_tokens = self._max_batch_tokens or online_batch_tokens(embedder)
        self._set_state("ready")
        return embedder

    def _set_state(self, state: WorkerState) -> None:
        with self._wake:
            if self._state != "closed":
                self._state = state

    def _slices(self, batch: Batch | None) -> list[tuple[QueuedRequest, Slice]]:
        """The batch's slices with their requests; those of requests that left in the meantime are dropped."""
        found = []
        now = time.perf_counter()
        for part in batch.slices if batch else ():
            request = self._requests.get(part.request_id)
            if request is not None and not request.future.done():
                if request.queue_s is None:
                    request.queue_s = now - request.queued_at
                found.append((request, part))
        return found

    def _begin(self, embedder: Embedder | None, slices: list[tuple[QueuedRequest, Slice]]) -> BatchUnderWay:
        lane = slices[0][0].lane
        texts = [request.texts[i] for request, part in slices for i in part.positions]
        work = BatchUnderWay(embedder, slices, None, None, time.perf_counter())
        if embedder is None:
            work.error = ModelRequestError(
                "backend", "The embedding model cannot be loaded.", hint="The server's log says why."
            )
            return work
        try:
            work.pending = submit(embedder, texts, lane.input_type, lane.outputs)
        except Exception as error:  # whatever a third party's model raises is the answer to this batch alone
            work.error = error
        return work

    def _settle(self, work: BatchUnderWay) -> None:
        embeddings: Embeddings | None = None
        if work.pending is not None:
            try:
                embeddings = complete(work.pending.result(), work.slices)
            except Exception as error:  # as above
                work.error = error
        if embeddings is not None:
            seconds = time.perf_counter() - work.started
            counts = tuple(request.counts[i] for request, part in work.slices for i in part.positions)
            self.throughput.add(sum(counts), seconds)
            self._on_batch(BatchReport(len(counts), len(work.slices), counts, seconds))
            self._set_state("ready")
            self._deliver(work.slices, embeddings)
        elif len(work.slices) > 1 and work.embedder is not None:
            for one in work.slices:
                self._settle(self._begin(work.embedder, [one]))
        else:
            for request, part in work.slices:
                self._fail(request, part, work.error)

    def _deliver(self, slices: list[tuple[QueuedRequest, Slice]], embeddings: Embeddings) -> None:
        start = 0
        for request, part in slices:
            rows = range(start, start + len(part.positions))
            start = rows.stop
            if embeddings.dense is not None:
                if request.dense is None:
                    request.dense = np.empty((len(request.texts), embeddings.dense.shape[1]), dtype=np.float32)
                request.dense[list(part.positions)] = embeddings.dense[rows.start : rows.stop]
            if embeddings.tokens is not None:
                request.tokens.update(zip(part.positions, (embeddings.tokens[i] for i in rows), strict=True))
            request.left -= len(part.positions)
            if request.left == 0:
                request.finish()

    def _fail(self, request: QueuedRequest, part: Slice, error: Exception | None) -> None:
        with self._wake:
            self._queue.cancel(part.request_id)
        if isinstance(error, ModelRequestError):
            request.finish(error)
            return
        _log.error("a batch could not be embedded", exc_info=error)
        message = error.message if isinstance(error, RagstackError) else "The embedding model failed."
        failure = ModelRequestError("backend", message, hint="The server's log says more.")
        failure.__cause__ = error
        request.finish(failure)
