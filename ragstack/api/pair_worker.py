"""A cross-encoder under the batching worker: pairs of several clients' rankings run together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragstack.api.batch_worker import BatchReport, BatchWorker
from ragstack.cancellation import Cancellation
from ragstack.inference.budgets import shared_batch_tokens
from ragstack.inference.threads import usable_cores
from ragstack.reranking.pairs import Pair, PairReranker, PendingLogits

_LANE = "pairs"  # all pairs of a reranker may run together


class PairWorker(BatchWorker[Pair, float]):
    """Scores the pairs of many clients' rankings.

    ``open_reranker`` is called in the worker's thread, and the weights are loaded there; the reranker is not closed.
    ``max_batch_tokens``: None for what its device is used best with.
    """

    def __init__(
        self,
        open_reranker: Callable[[], PairReranker],
        max_batch_tokens: int | None,
        max_queued_tokens: int,
        on_batch: Callable[[BatchReport], None],
    ) -> None:
        super().__init__(lambda: _opened(open_reranker(), max_batch_tokens), "reranker", max_queued_tokens, on_batch)

    async def score(self, pairs: Sequence[Pair]) -> NDArray[np.float64]:
        """The logits ``(n,)`` of pairs (at least one), in their order.

        Raises ModelRequestError as :meth:`BatchWorker.submit`.
        """
        found = await self.submit(_LANE, pairs, [len(pair.ids) for pair in pairs])
        return np.array(found.items, dtype=np.float64)


@dataclass(frozen=True)
class _PairRunner:
    """A :class:`ragstack.api.batch_work.BatchRunner`."""

    reranker: PairReranker
    max_batch_tokens: int
    batches_ahead: int

    def begin(self, lane: Hashable, items: Sequence[Pair]) -> _PendingPairs:
        return _PendingPairs(self.reranker.submit(items, Cancellation()))

    def works_ahead(self, tokens: int) -> bool:
        """Only with pairs that keep the model busy: of few, more are waited for while they are run."""
        return tokens > min(self.reranker.max_batch_tokens, self.max_batch_tokens // 2)


@dataclass(frozen=True)
class _PendingPairs:
    pending: PendingLogits

    def result(self) -> list[float]:
        logits: list[float] = self.pending.result().tolist()
        return logits


def _opened(reranker: PairReranker, max_batch_tokens: int | None) -> _PairRunner:
    reranker.preload()
    budget = max_batch_tokens or shared_batch_tokens(reranker.device, "reranking", usable_cores())
    return _PairRunner(reranker, budget, batches_ahead=len(reranker.device.split(",")))
