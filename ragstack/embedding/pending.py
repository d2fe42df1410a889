"""Texts on their way to vectors: cut into windows, tokenised ahead of the batches, collected in their order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ragstack.embedding.base import Embeddings
from ragstack.errors import EmbeddingError
from ragstack.types import Float32Array, Int32Array, SparseVector, TokenVectors

WINDOW_TOKENS = 131_072
"""Least tokens, about, that are sorted by length together: padding stays small, and so does what waits."""

_WINDOW_TEXTS = 8192
_WINDOWS_AHEAD = 2
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class Window:
    """Consecutive texts that are tokenised and batched together. ``ids``, one array each, include special tokens."""

    start: int
    ids: list[Int32Array]
    spans: list[Int32Array] | None


@dataclass(frozen=True)
class BatchResult:
    """Vectors of the texts ``indices`` of a request."""

    indices: Int32Array
    dense: Float32Array | None
    tokens: list[TokenVectors] | None


Batches: TypeAlias = deque[Future[list[BatchResult]]]


@dataclass(frozen=True)
class Steps:
    """What is done with a window: ``tokenize`` makes one of the texts from an index on, ``begin`` runs its batches.

    Both are called for the first window where the texts are given, for later ones in the thread of ``ahead``.
    """

    tokenize: Callable[[int, Sequence[str]], Window]
    begin: Callable[[Window], Batches]
    ahead: Callable[[], Executor]


class PendingTexts:
    """A :class:`ragstack.embedding.base.PendingEmbeddings`.

    Whatever the number of texts, those of three windows at most are tokenised and queued: the one whose vectors come
    next, and two that are made ready meanwhile. ``dim``: the length of the dense vectors, None where none are wanted.
    ``encode_sparse`` makes the sparse ones while the model is at work.
    """

    def __init__(
        self,
        texts: Sequence[str],
        steps: Steps,
        *,
        window_tokens: int,
        dim: int | None,
        with_tokens: bool,
        encode_sparse: Callable[[str], SparseVector] | None,
    ) -> None:
        self._texts, self._steps, self._encode_sparse = texts, steps, encode_sparse
        self._dense = None if dim is None else np.empty((len(texts), dim), dtype=np.float32)
        self._tokens: dict[int, TokenVectors] | None = {} if with_tokens else None
        self._lock = threading.Lock()
        self._cancelled = False
        self._windows: deque[Future[Batches]] = deque()
        self._spans: Iterator[tuple[int, int]] = iter(())
        if dim is not None or with_tokens:
            self._spans = window_spans(texts, window_tokens)
        try:
            self._begin_first()
        except BaseException:
            self.cancel()
            raise

    def result(self) -> Embeddings:
        """See :class:`ragstack.embedding.base.PendingEmbeddings`."""
        try:
            sparse = None if self._encode_sparse is None else tuple(map(self._encode_sparse, self._texts))
            while self._windows:
                batches = self._windows[0].result()
                self._prepare_ahead()
                # A batch leaves the queue after it succeeded, so that an error finds all others in it.
                while batches:
                    self._collect(batches[0].result())
                    batches.popleft()
                self._windows.popleft()
        except CancelledError as error:
            self.cancel()
            raise EmbeddingError("the embedding was cancelled, or its model closed, before it was done.") from error
        except BaseException:
            self.cancel()
            raise
        tokens = None if self._tokens is None else tuple(self._tokens[i] for i in range(len(self._texts)))
        return Embeddings(dense=self._dense, sparse=sparse, tokens=tokens)

    def cancel(self) -> None:
        """See :class:`ragstack.embedding.base.PendingEmbeddings`; a batch that runs ends in a fraction of a second."""
        with self._lock:
            self._cancelled = True
        for window in self._windows:
            if not window.cancel() and window.done() and window.exception() is None:
                for batch in window.result():
                    batch.cancel()

    def _begin_first(self) -> None:
        span = next(self._spans, None)
        if span is None:
            return
        first: Future[Batches] = Future()
        first.set_result(self._prepare(*span))
        self._windows.append(first)
        self._prepare_ahead()

    def _prepare_ahead(self) -> None:
        while len(self._windows) <= _WINDOWS_AHEAD:
            span = next(self._spans, None)
            if span is None:
                return
            self._windows.append(self._steps.ahead().submit(self._prepare, *span))

    def _prepare(self, start: int, stop: int) -> Batches:
        if self._cancelled:
            return deque()
        window = self._steps.tokenize(start, self._texts[start:stop])
        with self._lock:
            # Batches that are begun after `cancel` looked for them would run to their end.
            return deque() if self._cancelled else self._steps.begin(window)

    def _collect(self, results: Sequence[BatchResult]) -> None:
        for result in results:
            if self._dense is not None and result.dense is not None:
                self._dense[result.indices] = result.dense
            if self._tokens is not None and result.tokens is not None:
                self._tokens.update(zip(result.indices.tolist(), result.tokens, strict=True))


def window_spans(texts: Sequence[str], window_tokens: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each window of about ``window_tokens`` tokens, guessed from the lengths of the texts."""
    start = tokens = 0
    for index, text in enumerate(texts):
        tokens += 1 + (len(text) // _CHARACTERS_PER_TOKEN if isinstance(text, str) else 0)
        if tokens >= window_tokens or index + 1 - start == _WINDOW_TEXTS:
            yield start, index + 1
            start, tokens = index + 1, 0
    if start < len(texts):
        yield start, len(texts)
