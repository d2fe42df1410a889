"""How many chunks are handed to the embedder at a time, and published together: whole batches for it, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragstack.embedding.base import BudgetedEmbedder, Embedder, OnDevice, RequestingEmbedder, device_count
from ragstack.indexer.prepare import PreparedChunk

_LEAST_CHUNKS = 128
"""Token vectors of so many chunks take some 30 MB until they are compressed, and sorted by length the chunks leave no
padding to speak of."""

_BUDGETS, _BUDGETS_WITH_TOKENS = 4, 2
"""Batches of each device in a request: sorted by length together, few of them are not full. Token vectors, which are
hundreds of times as large as dense ones, are held for fewer."""

_MOST_CHUNKS = 16_384


@dataclass(frozen=True, slots=True)
class Amount:
    """Chunks are enough at ``least_chunks`` that have ``tokens`` tokens in all, or at ``most_chunks`` of any length."""

    least_chunks: int
    tokens: int
    most_chunks: int

    def reached(self, chunks: int, tokens: int) -> bool:
        """True for chunks that are enough."""
        return chunks >= self.most_chunks or (chunks >= self.least_chunks and tokens >= self.tokens)


@dataclass(frozen=True, slots=True)
class Sizes:
    """When chunks are enough for a ``request`` to the embedder, and for a commit ``group``."""

    request: Amount
    group: Amount


@dataclass(frozen=True, slots=True)
class Demand:
    """What an embedder takes at a time: about ``tokens``; ``whole``: even if a commit group grows by that."""

    tokens: int = 0
    whole: bool = False

    def sizes(self, group_chunks: int) -> Sizes:
        """Of a run that publishes after about ``group_chunks`` chunks."""
        most = max(group_chunks, _MOST_CHUNKS) if self.whole else group_chunks
        request = Amount(min(group_chunks, _LEAST_CHUNKS), self.tokens, most)
        return Sizes(request, Amount(group_chunks, self.tokens if self.whole else 0, most))


def demand_of(embedder: Embedder, *, with_tokens: bool) -> Demand:
    """Several batches for each of the embedder's devices, or all requests that its server has at a time.

    No number of tokens where it does not say what a batch is. On a CPU a batch has some hundred tokens, and
    a commit group is not made larger for it: that would only take memory.
    """
    if isinstance(embedder, RequestingEmbedder):
        return Demand(embedder.max_tokens_under_way)
    if not isinstance(embedder, BudgetedEmbedder):
        return Demand()
    budgets = _BUDGETS_WITH_TOKENS if with_tokens else _BUDGETS
    on_gpu = isinstance(embedder, OnDevice) and embedder.device.startswith("cuda")
    return Demand(budgets * embedder.max_batch_tokens * device_count(embedder), whole=on_gpu)


class ChunkBuffer:
    """Chunks that wait to be handed to the embedder, in their order."""

    def __init__(self) -> None:
        self._chunks: list[PreparedChunk] = []
        self._tokens = 0

    def extend(self, chunks: Sequence[PreparedChunk]) -> None:
        """Put chunks behind the others."""
        self._chunks += chunks
        self._tokens += sum(item.chunk.token_count for item in chunks)

    def take_full(self, enough: Amount) -> list[list[PreparedChunk]]:
        """The requests that are full.

        Up to a quarter more stays with the last one, until :meth:`take_rest`: the embedder would run dry over a small
        rest.
        """
        taken = []
        while enough.reached(len(self._chunks), self._tokens):
            stop = self._first_full(enough)
            if len(self._chunks) - stop <= stop // 4:
                break
            taken.append(self._take(stop))
        return taken

    def take_rest(self) -> list[PreparedChunk]:
        """All that is left."""
        return self._take(len(self._chunks))

    def _first_full(self, enough: Amount) -> int:
        tokens = 0
        for number, item in enumerate(self._chunks, 1):
            tokens += item.chunk.token_count
            if enough.reached(number, tokens):
                return number
        return len(self._chunks)

    def _take(self, stop: int) -> list[PreparedChunk]:
        taken = self._chunks[:stop]
        del self._chunks[:stop]
        self._tokens -= sum(item.chunk.token_count for item in taken)
        return taken
