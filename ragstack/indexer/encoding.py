"""Chunks on their way to vectors: the embedder begins with the next batch before the last one is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from ragstack.embedding.base import Embedder, Output, PendingEmbeddings, submit
from ragstack.embedding.bm25 import Bm25Encoder, EncodedPassage
from ragstack.errors import EmbeddingError, TextError
from ragstack.indexer.interruption import Interruption
from ragstack.indexer.overlap import Writer
from ragstack.indexer.prepare import Prepared, PreparedChunk
from ragstack.indexer.reuse import EmbeddingCache, StoredVectors
from ragstack.indexer.staging import EmbeddedBatch
from ragstack.types import Chunk, Int32Array, TokenVectors

_BATCHES_AHEAD = 1


@dataclass(frozen=True)
class Encoding:
    """Everything that turns chunks into vectors: what is stored already is used again."""

    embedder: Embedder
    bm25: Bm25Encoder
    with_tokens: bool
    cache: EmbeddingCache

    def begin(self, chunks: Sequence[PreparedChunk]) -> PendingBatch:
        """Look for stored vectors and begin to embed the other chunks."""
        texts = [item.chunk.embedded_text for item in chunks]
        stored = self.cache.find(texts)
        fresh = [i for i in range(len(texts)) if i not in stored]
        outputs: tuple[Output, ...] = ("dense", "tokens") if self.with_tokens else ("dense",)
        with _chunks_named([chunks[i].chunk for i in fresh]):
            pending = submit(self.embedder, [texts[i] for i in fresh], "passage", outputs)
        try:
            # While the model is at work.
            sparse = [self._encode(item.chunk) for item in chunks]
        except BaseException:
            pending.cancel()
            raise
        return PendingBatch(chunks, sparse, stored, fresh, pending, self.embedder.info.dim, self.with_tokens)

    def _encode(self, chunk: Chunk) -> EncodedPassage:
        return self.bm25.encode_chunk(chunk.text, chunk.heading_path, chunk.fields, chunk.text_language)


@dataclass(frozen=True)
class PendingBatch:
    """A batch that is being embedded. ``fresh``: positions of the chunks whose vectors are made now."""

    chunks: Sequence[PreparedChunk]
    sparse: Sequence[EncodedPassage]
    stored: dict[int, StoredVectors]
    fresh: Sequence[int]
    pending: PendingEmbeddings
    dim: int
    with_tokens: bool

    def finish(self) -> EmbeddedBatch:
        """Wait for the vectors. Raises EmbeddingError, naming the chunk whose text is at fault."""
        with _chunks_named([self.chunks[i].chunk for i in self.fresh]):
            vectors = self.pending.result()
        dense = np.empty((len(self.chunks), self.dim), dtype=np.float32)
        tokens: dict[int, TokenVectors | bytes] = {}
        token_ids: dict[int, Int32Array] = {}
        if self.fresh:
            dense[list(self.fresh)] = vectors.dense
        for i, found in zip(self.fresh, vectors.tokens or (), strict=self.with_tokens):
            tokens[i], token_ids[i] = found, found.token_ids
        for i, old in self.stored.items():
            dense[i] = old.dense
            if old.tokens is not None and old.token_ids is not None:
                tokens[i], token_ids[i] = old.tokens, old.token_ids
        order = range(len(self.chunks))
        return EmbeddedBatch(
            self.chunks,
            dense,
            self.sparse,
            [tokens[i] for i in order] if self.with_tokens else None,
            [token_ids[i] for i in order] if self.with_tokens else None,
        )


@contextmanager
def _chunks_named(chunks: Sequence[Chunk]) -> Iterator[None]:
    """A block whose errors name one of these ``chunks`` where the embedder names a text by its position."""
    try:
        yield
    except TextError as error:
        chunk = chunks[error.text_index]
        raise EmbeddingError(
            f"{chunk.source_id}: chunk {chunk.chunk_id} (bytes {chunk.byte_start} to {chunk.byte_end}): {error.fault}",
            hint=error.hint,
        ) from error


@dataclass(frozen=True)
class _Publication:
    sources: Sequence[Prepared]
    deleted: Sequence[str]


class EncodeQueue:
    """Hands chunks and publications to the writer in the order given, a batch behind the embedder.

    Used in a ``with`` block; left without an error, it first hands over all there is, and with one it
    drops what was not handed over. ``on_encoded`` is told of each batch: its chunks, and how many of them and of
    their tokens were embedded now.
    """

    def __init__(
        self,
        encoding: Encoding,
        writer: Writer,
        interruption: Interruption,
        on_encoded: Callable[[int, int, int], None],
    ) -> None:
        self._encoding, self._writer = encoding, writer
        self._interruption, self._on_encoded = interruption, on_encoded
        self._queue: deque[PendingBatch | _Publication] = deque()
        self._batches = 0

    def __enter__(self) -> EncodeQueue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._hand_over(0)
        finally:
            for item in self._queue:
                if isinstance(item, PendingBatch):
                    item.pending.cancel()

    def stage(self, chunks: Sequence[PreparedChunk]) -> None:
        """Embed and stage these chunks."""
        if not chunks:
            return
        with self._interruption.anywhere():
            self._queue.append(self._encoding.begin(chunks))
        self._batches += 1
        self._hand_over(_BATCHES_AHEAD)

    def publish(self, sources: Sequence[Prepared], deleted: Sequence[str]) -> None:
        """Publish these sources, whose chunks were given before."""
        self._queue.append(_Publication(sources, deleted))
        self._hand_over(_BATCHES_AHEAD)

    def _hand_over(self, batches_left: int) -> None:
        while self._queue:
            item = self._queue[0]
            if isinstance(item, _Publication):
                self._writer.publish(item.sources, item.deleted)
                self._queue.popleft()
                continue
            if self._batches <= batches_left:
                return
            with self._interruption.anywhere():
                batch = item.finish()
            self._queue.popleft()
            self._batches -= 1
            self._writer.stage(batch)
            tokens = sum(item.chunks[i].chunk.token_count for i in item.fresh)
            self._on_encoded(len(item.chunks), len(item.fresh), tokens)
