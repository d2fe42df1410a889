"""What the batching worker keeps of each request and of each batch under way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ragstack.api.batching import Lane, Slice
from ragstack.embedding.base import BudgetedEmbedder, Embedder, Embeddings, PendingEmbeddings, PipelinedEmbedder
from ragstack.errors import EmbeddingError
from ragstack.types import Float32Array, TokenVectors


@dataclass(frozen=True)
class Embedded:
    """The vectors of one request, and the seconds its first text waited before a batch took it."""

    embeddings: Embeddings
    queue_s: float


@dataclass
class QueuedRequest:
    """A request under way. Written by the worker alone after it was queued; ``future`` belongs to ``loop``."""

    lane: Lane
    texts: Sequence[str]
    counts: Sequence[int]
    future: asyncio.Future[Embedded]
    loop: asyncio.AbstractEventLoop
    queued_at: float
    left: int
    queue_s: float | None = None
    dense: Float32Array | None = None
    tokens: dict[int, TokenVectors] = field(default_factory=dict)

    def finish(self, error: BaseException | None = None) -> None:
        """Hand the result, or the error, to the waiting coroutine."""
        result = None if error is not None else self._result()

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

    def _result(self) -> Embedded:
        tokens = tuple(self.tokens[i] for i in range(len(self.texts))) if self.tokens else None
        return Embedded(Embeddings(dense=self.dense, tokens=tokens), self.queue_s or 0.0)


@dataclass
class BatchUnderWay:
    """A batch that was handed to the embedder, or why it could not be."""

    embedder: Embedder | None
    slices: list[tuple[QueuedRequest, Slice]]
    pending: PendingEmbeddings | None
    error: Exception | None
    started: float

    @property
    def is_done(self) -> bool:
        """True when nothing runs any more: only an embedder that makes several batches of these texts works ahead."""
        tokens = sum(request.counts[i] for request, part in self.slices for i in part.positions)
        embedder = self.embedder
        if self.pending is None or not isinstance(embedder, PipelinedEmbedder):
            return True
        return not (isinstance(embedder, BudgetedEmbedder) and tokens > embedder.max_batch_tokens)


def complete(embeddings: Embeddings, slices: list[tuple[QueuedRequest, Slice]]) -> Embeddings:
    """The same, known to hold what was asked for: a vector too few would give each client its neighbour's."""
    texts = sum(len(part.positions) for _, part in slices)
    for output in slices[0][0].lane.outputs:
        found = embeddings.dense if output == "dense" else embeddings.tokens
        if found is None or len(found) != texts:
            count = "none" if found is None else len(found)
            raise EmbeddingError(f"the model was asked for {output} vectors of {texts} texts; it gave {count}.")
    return embeddings
