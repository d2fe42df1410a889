"""How many chunks are handed to the embedder at a time: what makes whole batches for it, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragstack.embedding.base import BudgetedEmbedder, Embedder, OnDevice, device_count
from ragstack.indexer.prepare import PreparedChunk

_BUDGETS, _BUDGETS_WITH_TOKENS = 4, 2
"""Batches of each device in a request: sorted by length together, few of them are not full. Token vectors, which are
hundreds of times as large as dense ones, are held for fewer."""

_MOST_CHUNKS = 16_384


@dataclass(frozen=True, slots=True)
class RequestSize:
    """When chunks are enough for a request to the embedder, and a commit group: at ``chunks`` chunks that have
    ``tokens`` tokens in all, or at :data:`_MOST_CHUNKS` where a number of tokens is asked for.
    """

    chunks: int
    tokens: int = 0

    def reached(self, chunks: int, tokens: int) -> bool:
        """True for chunks that are enough."""
        return chunks >= self.chunks and (tokens >= self.tokens or chunks >= _MOST_CHUNKS)

    @property
    def most_files(self) -> int:
        """Files that end a commit group whether they have chunks or not."""
        return max(self.chunks, _MOST_CHUNKS) if self.tokens else self.chunks


def request_tokens(embedder: Embedder, *, with_tokens: bool) -> int:
    """How many tokens keep the embedder's GPUs busy with whole batches; 0 on a CPU, and where it does not say.

    A batch on a CPU has some hundred tokens: any commit group has more, and a larger one would only take more memory.
    """
    if not isinstance(embedder, BudgetedEmbedder) or not isinstance(embedder, OnDevice):
        return 0
    if not embedder.device.startswith("cuda"):
        return 0
    budgets = _BUDGETS_WITH_TOKENS if with_tokens else _BUDGETS
    return budgets * embedder.max_batch_tokens * device_count(embedder)


class ChunkBuffer:
    """Chunks that wait to be handed to the embedder, in their order."""

    def __init__(self) -> None:
        self._chunks: list[PreparedChunk] = []
        self._tokens = 0

    def extend(self, chunks: Sequence[PreparedChunk]) -> None:
        """Put chunks behind the others."""
        self._chunks += chunks
        self._tokens += sum(item.chunk.token_count for item in chunks)

    def take_full(self, size: RequestSize) -> list[list[PreparedChunk]]:
        """The requests that are full.

        Up to a quarter more stays with the last one, until :meth:`take_rest`: the embedder would run dry over a small
        rest.
        """
        taken = []
        while size.reached(len(self._chunks), self._tokens):
            stop = self._first_full(size)
            if len(self._chunks) - stop <= stop // 4:
                break
            taken.append(self._take(stop))
        return taken

    def take_rest(self) -> list[PreparedChunk]:
        """All that is left."""
        return self._take(len(self._chunks))

    def _first_full(self, size: RequestSize) -> int:
        tokens = 0
        for number, item in enumerate(self._chunks, 1):
            tokens += item.chunk.token_count
            if size.reached(number, tokens):
                return number
        return len(self._chunks)

    def _take(self, stop: int) -> list[PreparedChunk]:
        taken = self._chunks[:stop]
        del self._chunks[:stop]
        self._tokens -= sum(item.chunk.token_count for item in taken)
        return taken
