"""Rankings by a reranker that reads nothing but the texts: alone, or its pairs together with those of other clients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import anyio
from anyio import CapacityLimiter

from ragstack.api.batch_worker import BatchReport
from ragstack.api.model_errors import ModelRequestError
from ragstack.api.pair_worker import PairWorker
from ragstack.cancellation import Cancellation
from ragstack.config.server_models import ModelServerConfig
from ragstack.errors import InputError, RagstackError
from ragstack.reranking.base import Reranker
from ragstack.reranking.pairs import Pair, PairReranker
from ragstack.retrieval.text_ranking import bare_query, positions, rank_in_order, text_candidates

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Ranking:
    """One text of a ranking: its position in the request, and the reranker's score."""

    index: int
    score: float


class TextRankings:
    """Ranks texts. Its coroutine runs on one event loop; what computes runs in ``threads``, or in the pair worker's."""

    def __init__(
        self, settings: ModelServerConfig, on_batch: Callable[[BatchReport], None], threads: CapacityLimiter
    ) -> None:
        self._settings, self._on_batch, self._threads = settings, on_batch, threads
        self._worker: PairWorker | None = None

    @property
    def queued_requests(self) -> int:
        """Rankings with pairs that wait for a batch."""
        return 0 if self._worker is None else self._worker.queued_requests

    @property
    def queued_tokens(self) -> int:
        """Tokens of pairs that wait for a batch."""
        return 0 if self._worker is None else self._worker.queued_tokens

    def retry_after_s(self) -> int:
        """Seconds in which the pairs that wait now will have been scored; 1 where none do."""
        return 1 if self._worker is None else self._worker.retry_after_s()

    async def rank(self, reranker: Reranker, query: str, texts: Sequence[str]) -> list[Ranking]:
        """Texts, best first; of equal ones the first given comes first. Gives up when it is cancelled.

        Raises ModelRequestError.
        """
        if isinstance(reranker, PairReranker):
            return await self._rank_pairs(reranker, query, texts)
        cancellation = Cancellation()
        try:
            return await self._in_thread(
                lambda: rankings(rank_in_order(reranker, bare_query(query, cancellation), texts))
            )
        finally:
            cancellation.request()

    def close(self) -> None:
        """Refuse what waits, and end the thread that scores. Idempotent."""
        if self._worker is not None:
            self._worker.close()

    async def _rank_pairs(self, reranker: PairReranker, query: str, texts: Sequence[str]) -> list[Ranking]:
        candidates = text_candidates(texts)
        pairs: Sequence[Pair] = await self._in_thread(lambda: reranker.encode(query, candidates))
        if self._worker is None:  # a server that ranks nothing loads no reranker
            settings = self._settings
            self._worker = PairWorker(
                lambda: reranker, settings.max_batch_tokens, settings.max_queued_tokens, self._on_batch
            )
            self._worker.start()
        logits = await self._worker.score(pairs)
        return await self._in_thread(lambda: rankings(positions(reranker.ranked(candidates, pairs, logits))))

    async def _in_thread(self, call: Callable[[], _Result]) -> _Result:
        def told() -> _Result:
            with told_as_request_errors():
                return call()

        return await anyio.to_thread.run_sync(told, limiter=self._threads, abandon_on_cancel=True)


def rankings(found: Sequence[tuple[int, float]]) -> list[Ranking]:
    """Positions and scores as rankings. Raises ModelRequestError (backend) for a score that is no number."""
    if not all(math.isfinite(score) for _, score in found):
        raise ModelRequestError("backend", "The reranker gave a score that is not a number.")
    return [Ranking(index, score) for index, score in found]


@contextmanager
def told_as_request_errors() -> Iterator[None]:
    """A block whose errors become those of a request: a text that cannot be read, or a reranker that fails."""
    try:
        yield
    except ModelRequestError:
        raise
    except InputError as error:
        raise ModelRequestError("too_long", error.message, hint=error.hint) from error
    except RagstackError as error:
        raise ModelRequestError("backend", error.message, hint=error.hint) from error
