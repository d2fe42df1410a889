"""The embedder under the batching worker."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from ragstack.api.batch_worker import BatchReport, BatchWorker
from ragstack.api.batching import Lane
from ragstack.embedding.base import (
    BudgetedEmbedder,
    Embedder,
    Embeddings,
    InputType,
    OnDevice,
    Output,
    PendingEmbeddings,
    PipelinedEmbedder,
    device_count,
    submit,
)
from ragstack.errors import EmbeddingError
from ragstack.inference.budgets import shared_batch_tokens
from ragstack.inference.threads import usable_cores
from ragstack.types import Float32Array, TokenVectors


@dataclass(frozen=True, slots=True)
class EmbeddedText:
    """The vectors of one text, those that its lane has: ``dense`` ``(dim,)``."""

    dense: Float32Array | None
    tokens: TokenVectors | None


@dataclass(frozen=True)
class Embedded:
    """The vectors of one request, and the seconds its first text waited before a batch took it."""

    embeddings: Embeddings
    queue_s: float


class EmbeddingWorker(BatchWorker[str, EmbeddedText]):
    """Embeds the texts of many clients.

    ``open_embedder`` is called in the worker's thread, which then embeds a text to load the weights; the embedder is
    not closed. ``max_batch_tokens``: None for what its device is used best with.
    """

    def __init__(
        self,
        open_embedder: Callable[[], Embedder],
        max_batch_tokens: int | None,
        max_queued_tokens: int,
        on_batch: Callable[[BatchReport], None],
    ) -> None:
        super().__init__(
            lambda: _opened(open_embedder(), max_batch_tokens), "embedding model", max_queued_tokens, on_batch
        )

    async def embed(
        self, texts: Sequence[str], token_counts: Sequence[int], input_type: InputType, outputs: Sequence[Output]
    ) -> Embedded:
        """Vectors of ``texts`` (at least one), ``dense`` and ``tokens`` alone among the outputs.

        ``token_counts`` are what the model reads of each text, special tokens included. Raises ModelRequestError as
        :meth:`BatchWorker.submit`.
        """
        lane = Lane(input_type, tuple(sorted(set(outputs))))
        found = await self.submit(lane, texts, token_counts)
        dense = np.stack([cast(Float32Array, one.dense) for one in found.items]) if "dense" in outputs else None
        tokens = tuple(cast(TokenVectors, one.tokens) for one in found.items) if "tokens" in outputs else None
        return Embedded(Embeddings(dense=dense, tokens=tokens), found.queue_s)


@dataclass(frozen=True)
class _EmbeddingRunner:
    """A :class:`ragstack.api.batch_work.BatchRunner`."""

    embedder: Embedder
    max_batch_tokens: int
    batches_ahead: int

    def begin(self, lane: Hashable, items: Sequence[str]) -> _PendingTexts:
        assert isinstance(lane, Lane)
        pending = submit(self.embedder, items, lane.input_type, lane.outputs)
        return _PendingTexts(pending, lane, len(items))

    def works_ahead(self, tokens: int) -> bool:
        """Only with texts that keep the model busy: of few, more are waited for while they are run."""
        if not isinstance(self.embedder, PipelinedEmbedder):
            return False
        one_call = self.embedder.max_batch_tokens if isinstance(self.embedder, BudgetedEmbedder) else 0
        return tokens > min(one_call, self.max_batch_tokens // 2)


@dataclass(frozen=True)
class _PendingTexts:
    pending: PendingEmbeddings
    lane: Lane
    texts: int

    def result(self) -> list[EmbeddedText]:
        """The vectors of each text, known to be all there: one too few would give each client its neighbour's."""
        embeddings = self.pending.result()
        for output in self.lane.outputs:
            found = embeddings.dense if output == "dense" else embeddings.tokens
            if found is None or len(found) != self.texts:
                count = "none" if found is None else len(found)
                raise EmbeddingError(
                    f"the model was asked for {output} vectors of {self.texts} texts; it gave {count}."
                )
        dense, tokens = embeddings.dense, embeddings.tokens
        return [
            EmbeddedText(None if dense is None else dense[row], None if tokens is None else tokens[row])
            for row in range(self.texts)
        ]


def _opened(embedder: Embedder, max_batch_tokens: int | None) -> _EmbeddingRunner:
    # A text alone and texts that make several batches may be run by different sessions.
    embedder.embed(["warm up"], "query", ("dense",))
    embedder.embed(["warm up", "warm up " * 32], "passage", ("dense",))
    device = embedder.device if isinstance(embedder, OnDevice) else "cpu"
    budget = max_batch_tokens or shared_batch_tokens(device, "online", usable_cores())
    return _EmbeddingRunner(embedder, budget, batches_ahead=device_count(embedder))
