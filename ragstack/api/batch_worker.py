"""One thread that feeds a model with batches of all clients' texts: the embedder, or a cross-encoder with pairs."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias

from ragstack.api.admission import Throughput
from ragstack.api.batch_work import BatchRunner, BatchUnderWay, Finished, ItemT, OutT, QueuedRequest
from ragstack.api.batching import Batch, BatchQueue, Slice
from ragstack.api.model_errors import ModelRequestError
from ragstack.errors import RagstackError

_BEFORE_LOADING = 1024  # tokens of a batch until the model says otherwise; none is run before
_log = logging.getLogger(__name__)

WorkerState: TypeAlias = Literal["starting", "ready", "failing", "closed"]


@dataclass(frozen=True)
class BatchReport:
    """One batch that was run: how many texts of how many requests, their tokens, and the seconds it took."""

    texts: int
    requests: int
    token_counts: tuple[int, ...]
    seconds: float


class BatchWorker(Generic[ItemT, OutT]):
    """Runs the items of many clients, batched by :class:`ragstack.api.batching.BatchQueue`.

    ``open_runner`` loads the model, in the worker's thread; ``model`` is what messages call it. A request that is
    cancelled is dropped before it is run, and one whose items cannot be run fails alone: the others of its batch are
    run again without it.
    """

    def __init__(
        self,
        open_runner: Callable[[], BatchRunner[ItemT, OutT]],
        model: str,
        max_queued_tokens: int,
        on_batch: Callable[[BatchReport], None],
    ) -> None:
        self._open_runner = open_runner
        self._model = model
        self._max_queued_tokens = max_queued_tokens
        self._on_batch = on_batch
        self._queue = BatchQueue(_BEFORE_LOADING)
        self._requests: dict[int, QueuedRequest[ItemT, OutT]] = {}
        self._ids = itertools.count()
        self._wake = threading.Condition()
        self._state: WorkerState = "starting"
        self.throughput = Throughput()
        self._thread = threading.Thread(target=self._run, name=f"ragstack-batches ({model})", daemon=True)

    @property
    def state(self) -> WorkerState:
        """``ready`` once the model runs; ``failing`` when it could not be loaded, until a batch succeeds."""
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

    async def submit(self, lane: Hashable, items: Sequence[ItemT], token_counts: Sequence[int]) -> Finished[OutT]:
        """What the model makes of ``items`` (at least one), all of one ``lane``.

        ``token_counts`` are what it reads of each, special tokens included. Raises ModelRequestError: overloaded when
        too many tokens wait, unavailable when the worker is closed, backend when the model fails.
        """
        loop = asyncio.get_running_loop()
        request: QueuedRequest[ItemT, OutT]
        request = QueuedRequest(lane, items, token_counts, loop.create_future(), loop, time.perf_counter())
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
        """Seconds in which what waits now will have been run."""
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
        runner = self._load()
        under_way: deque[BatchUnderWay[ItemT, OutT]] = deque()
        while True:
            with self._wake:
                while self._state != "closed" and not under_way and not self._queue.requests:
                    self._wake.wait()
                if self._state == "closed" and not under_way:
                    return
                batch = self._queue.next_batch()
                slices = self._slices(batch)
            if slices:
                runner = runner or self._load()
                under_way.append(self._begin(runner, slices))
            # A batch is prepared while others are run; with nothing to prepare, the oldest is waited for. What was
            # run already is not kept from its clients.
            ahead = 0 if runner is None else runner.batches_ahead
            while under_way and (len(under_way) > ahead or not slices or under_way[-1].is_done):
                self._settle(under_way.popleft(), runner)

    def _load(self) -> BatchRunner[ItemT, OutT] | None:
        try:
            runner = self._open_runner()
        except Exception as error:  # a third party's model raises what it likes; requests are told, and /health
            _log.error("the %s cannot be used: %s", self._model, error, exc_info=not isinstance(error, RagstackError))
            self._set_state("failing")
            return None
        self._queue.max_batch_tokens = runner.max_batch_tokens
        self._set_state("ready")
        return runner

    def _set_state(self, state: WorkerState) -> None:
        with self._wake:
            if self._state != "closed":
                self._state = state

    def _slices(self, batch: Batch | None) -> list[tuple[QueuedRequest[ItemT, OutT], Slice]]:
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

    def _begin(
        self, runner: BatchRunner[ItemT, OutT] | None, slices: list[tuple[QueuedRequest[ItemT, OutT], Slice]]
    ) -> BatchUnderWay[ItemT, OutT]:
        work = BatchUnderWay(slices, time.perf_counter())
        if runner is None:
            work.error = ModelRequestError(
                "backend", f"The {self._model} cannot be loaded.", hint="The server's log says why."
            )
            return work
        items = [request.items[i] for request, part in slices for i in part.positions]
        try:
            work.pending = runner.begin(slices[0][0].lane, items)
            work.is_done = not runner.works_ahead(sum(work.counts))
        except Exception as error:  # whatever a third party's model raises is the answer to this batch alone
            work.error = error
        return work

    def _settle(self, work: BatchUnderWay[ItemT, OutT], runner: BatchRunner[ItemT, OutT] | None) -> None:
        outcomes: Sequence[OutT] | None = None
        if work.pending is not None:
            try:
                outcomes = work.pending.result()
            except Exception as error:  # as above
                work.error = error
        if outcomes is not None:
            seconds = time.perf_counter() - work.started
            self.throughput.add(sum(work.counts), seconds)
            self._on_batch(BatchReport(len(work.counts), len(work.slices), work.counts, seconds))
            self._set_state("ready")
            start = 0
            for request, part in work.slices:
                stop = start + len(part.positions)
                request.add(part.positions, outcomes[start:stop])
                start = stop
        elif len(work.slices) > 1 and runner is not None:
            for one in work.slices:
                self._settle(self._begin(runner, [one]), runner)
        else:
            for request, part in work.slices:
                self._fail(request, part, work.error)

    def _fail(self, request: QueuedRequest[ItemT, OutT], part: Slice, error: Exception | None) -> None:
        with self._wake:
            self._queue.cancel(part.request_id)
        if isinstance(error, ModelRequestError):
            request.finish(error)
            return
        _log.error("a batch of the %s could not be run", self._model, exc_info=error)
        message = error.message if isinstance(error, RagstackError) else f"The {self._model} failed."
        failure = ModelRequestError("backend", message, hint="The server's log says more.")
        failure.__cause__ = error
        request.finish(failure)
