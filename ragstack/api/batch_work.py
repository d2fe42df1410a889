"""What the batching worker needs of a model, and what it keeps of each request and of each batch under way."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from ragstack.api.batching import Slice

ItemT = TypeVar("ItemT")
"""What is run: a text, a pair."""
OutT = TypeVar("OutT")
"""What a model makes of one: vectors, a logit."""
_InT_contra = TypeVar("_InT_contra", contravariant=True)
_ResultT_co = TypeVar("_ResultT_co", covariant=True)


class PendingItems(Protocol[_ResultT_co]):
    """Items that were handed to a model and are being worked on."""

    def result(self) -> Sequence[_ResultT_co]:
        """Wait for what it makes of each, in their order; raises what the model raises. To be called once."""


class BatchRunner(Protocol[_InT_contra, _ResultT_co]):
    """A loaded model, as the batching worker sees it.

    ``max_batch_tokens`` is what it is handed at a time. ``batches_ahead`` is how many more it is handed while the
    oldest is worked on.
    """

    @property
    def max_batch_tokens(self) -> int: ...

    @property
    def batches_ahead(self) -> int: ...

    def begin(self, lane: Hashable, items: Sequence[_InT_contra]) -> PendingItems[_ResultT_co]:
        """Begin with items of one lane; whatever this raises is the answer to the batch."""

    def works_ahead(self, tokens: int) -> bool:
        """False where :meth:`begin` of so many tokens has done all the work, or more of it at a time would not pay."""


@dataclass(frozen=True)
class Finished(Generic[OutT]):
    """The outcome of one request's items, and the seconds that its first one waited before a batch took it."""

    items: Sequence[OutT]
    queue_s: float


@dataclass
class QueuedRequest(Generic[ItemT, OutT]):
    """A request under way. Written by the worker alone after it was queued; ``future`` belongs to ``loop``."""

    lane: Hashable
    items: Sequence[ItemT]
    counts: Sequence[int]
    future: asyncio.Future[Finished[OutT]]
    loop: asyncio.AbstractEventLoop
    queued_at: float
    queue_s: float | None = None
    found: dict[int, OutT] = field(default_factory=dict)

    def add(self, positions: Sequence[int], outcomes: Sequence[OutT]) -> None:
        """What was made of the items at these ``positions``; the last of them finishes the request."""
        self.found.update(zip(positions, outcomes, strict=True))
        if len(self.found) == len(self.items):
            self.finish()

    def finish(self, error: BaseException | None = None) -> None:
        """Hand the result, or the error, to the waiting coroutine."""
        result = None
        if error is None:
            result = Finished([self.found[position] for position in range(len(self.items))], self.queue_s or 0.0)

        def settle() -> None:
            if self.future.done():
                return
            if error is not None:
                self.future.set_exception(error)
            elif result is not None:
                self.future.set_result(result)

        # A loop that was closed has no coroutine left that waits.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(settle)


@dataclass
class BatchUnderWay(Generic[ItemT, OutT]):
    """A batch that was handed to the model, or why it could not be. ``is_done``: nothing of it runs any more."""

    slices: list[tuple[QueuedRequest[ItemT, OutT], Slice]]
    started: float
    pending: PendingItems[OutT] | None = None
    error: Exception | None = None
    is_done: bool = True

    @property
    def counts(self) -> tuple[int, ...]:
        """The tokens of each item."""
        return tuple(request.counts[i] for request, part in self.slices for i in part.positions)
