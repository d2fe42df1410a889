"""The durable half of indexing: staged chunks, then one publishing transaction.

Order of durable steps for each commit group:

1. the generation is marked ``group_open``: from now on queries filter by ``seq``;
2. chunks (``seq`` = committed_seq + 1), token vectors and documents are written, then each flushed;
3. one ledger transaction publishes the group and names what it superseded;
4. after the last group of a run, superseded chunks are deleted, then the mark is taken back.

Killed before 3, the next run deletes what has a larger ``seq`` than the committed one. Killed after
3, the next run finishes 4. Nothing else is needed, because each store only ever holds chunks that
the ledger can name.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ragstack.adapters.base import CollectionSpec, Record, VectorStore
from ragstack.archive.base import DocumentArchive, DocumentKey
from ragstack.archive.unreferenced import unreferenced
from ragstack.embedding.bm25 import EncodedPassage
from ragstack.embedding.bm25_scores import stored_term_count
from ragstack.errors import IndexFormatError
from ragstack.filters import Condition
from ragstack.indexer.memory import return_freed_memory
from ragstack.indexer.prepare import Prepared, PreparedChunk
from ragstack.indexer.reuse import embedded_text_of, text_digest
from ragstack.indexer.statistics import ChunkCounts, copied_counts, count_terms, count_tokens, new_counts
from ragstack.ledger.pins import Pins
from ragstack.ledger.schema import collection_name
from ragstack.ledger.spans import span_chunk_ids
from ragstack.ledger.writer import CommitGroup, Generation, Ledger, document_keys
from ragstack.reranking.base import PackedTokens, TokenVectorStore
from ragstack.types import Document, Float32Array, Int32Array, TokenVectors

_BATCH = 500
_WRITTEN_AT_ONCE = 512
"""Chunks. Every write waits for the disk, and is one more step of a store's log."""
_LEDGER_BYTES, _STORE_BYTES, _PAYLOAD_BYTES = 1_000_000, 6_000_000, 2_000
LONGEST_QUERY_S = 60.0
"""How long purging waits for readers of this process that still hold an older snapshot."""


@dataclass(frozen=True)
class EmbeddedBatch:
    """Chunks with their vectors, new and reused ones alike.

    ``dense`` ``(n, dim) float32``. ``tokens`` holds, for each chunk, fresh token vectors or the stored
    bytes of equal ones, and ``token_ids`` their ids; both are None where none are kept.
    """

    chunks: Sequence[PreparedChunk]
    dense: Float32Array
    sparse: Sequence[EncodedPassage]
    tokens: Sequence[TokenVectors | bytes] | None
    token_ids: Sequence[Int32Array] | None


@dataclass
class _Waiting:
    """Chunks that were taken and not written yet; ``disk_bytes`` is about what they will take."""

    records: list[Record] = field(default_factory=list)
    tokens: list[PackedTokens] = field(default_factory=list)
    disk_bytes: int = 0


class Stager:
    """Writes one generation: stages batches, publishes groups, purges what is superseded.

    Used by one thread at a time. ``fault_point`` is called with a name between durable steps, so
    that tests can end the process there. ``before_growing`` is called before anything larger is written,
    with the bytes that this may take beside the store; it raises when they are not free. ``token_bytes``
    is what a token vector takes.
    """

    def __init__(
        self,
        ledger: Ledger,
        generation: Generation,
        store: VectorStore,
        archive: DocumentArchive,
        token_vectors: TokenVectorStore | None,
        spec: CollectionSpec,
        pins: Pins,
        before_growing: Callable[[int], None],
        token_bytes: int,
    ) -> None:
        self._before_growing = before_growing
        self._token_bytes = token_bytes
        self._pins = pins
        self._ledger = ledger
        self._generation = generation.generation
        self._fingerprint = generation.fingerprint
        self._committed_seq = generation.committed_seq
        self._is_open = generation.group_open
        self._store = store
        self._archive = archive
        self._token_vectors = token_vectors
        self._collection = collection_name(generation.generation)
        self._added = new_counts()
        self._embedded: list[tuple[bytes, str]] = []
        self._waiting = _Waiting()
        store.ensure_collection(spec)
        self._check_store(generation.chunk_count)

    def _check_store(self, expected: int) -> None:
        """Notice a store that lost or gained chunks behind the ledger's back, while no group is open."""
        found = self._store.count(self._collection)
        if not self._is_open and found != expected:
            raise IndexFormatError(
                f"the store holds {found} chunks of {self._collection}, the ledger {expected}.",
                hint="Rebuild the index with: ragstack index --rebuild",
            )

    @property
    def needs_recovery(self) -> bool:
        """True when an earlier run ended before its last step."""
        return self._is_open

    def recover(self) -> None:
        """Delete what was staged and not published, and purge what was superseded.

        Both take a little space before they give any back; StoreError when there is none.
        """
        self._waiting = _Waiting()
        self._store.delete(self._collection, filter=Condition("seq", "gt", self._committed_seq))
        fault_point("recovered-store")
        if self._token_vectors is not None:
            self._token_vectors.delete_after(self._committed_seq)
        self._added = new_counts()
        self._embedded.clear()
        fault_point("recovered")
        if self._is_open:
            # The ended run may have left documents of which the ledger knows nothing.
            self._delete_documents(unreferenced(self._archive, self._ledger.live_documents()))
        self.purge()

    def stage(self, batch: EmbeddedBatch) -> None:
        """Take chunks and token vectors, to be written, hidden, by now or by :meth:`publish`, and published by that.

        Token vectors are compressed at once: as they come they are a hundred times as large as the chunks.
        Raises StoreError when the disk is full.
        """
        seq = self._committed_seq + 1
        waiting = self._waiting
        waiting.records += [_record(batch, i, seq) for i in range(len(batch.chunks))]
        waiting.disk_bytes += self._bytes_of(batch)
        for item, passage in zip(batch.chunks, batch.sparse, strict=True):
            count_terms(self._added, passage.vector, passage.term_count, item.chunk.text_language)
        self._embedded += [(text_digest(item.chunk.embedded_text), item.chunk.chunk_id) for item in batch.chunks]
        if self._token_vectors is not None and batch.tokens is not None and batch.token_ids is not None:
            for item, tokens, token_ids in zip(batch.chunks, batch.tokens, batch.token_ids, strict=True):
                if isinstance(tokens, bytes):
                    waiting.tokens.append(PackedTokens(item.chunk.chunk_id, seq, tokens))
                    count_tokens(self._added, token_ids)
                else:
                    fresh = self._token_vectors.prepare(tokens)
                    waiting.tokens.append(self._token_vectors.pack(item.chunk.chunk_id, seq, fresh))
                    # What is counted must be what is kept: it is read back when the chunk is replaced.
                    count_tokens(self._added, fresh.token_ids)
        if len(waiting.records) >= _WRITTEN_AT_ONCE:
            self._write_waiting()

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, _Waiting()
        if not waiting.records:
            return
        self._before_growing(waiting.disk_bytes + _STORE_BYTES)
        self._open_group()
        self._store.upsert(self._collection, waiting.records)
        fault_point("staged")
        if self._token_vectors is not None:
            self._token_vectors.put_packed(waiting.tokens)
        fault_point("staged-tokens")

    def _bytes_of(self, batch: EmbeddedBatch) -> int:
        """About what a batch takes on disk, beside what every write takes.

        Databases write into a log first, then into their files.
        """
        tokens = sum(map(len, batch.token_ids or ())) * self._token_bytes
        payloads = sum(len(item.chunk.text) + _PAYLOAD_BYTES for item in batch.chunks)
        sparse = sum(len(passage.vector) for passage in batch.sparse) * 12
        return 2 * (tokens + payloads + batch.dense.nbytes + sparse)

    def publish(self, sources: Sequence[Prepared], deleted: Sequence[str] = ()) -> None:
        """Make everything staged since the last call visible, and what it replaces invisible, at once."""
        self._write_waiting()
        text_bytes = sum(len(document.canonical_bytes) for source in sources for _, document in source.documents)
        self._before_growing(2 * text_bytes + _LEDGER_BYTES)
        self._open_group()
        self._archive.put(item for source in sources for item in _referred_to(source))
        fault_point("archive-put")
        self._archive.flush()
        fault_point("archived")
        self._store.flush(self._collection)
        fault_point("flushed-store")
        if self._token_vectors is not None:
            self._token_vectors.flush()
        fault_point("flushed")
        frequencies = copied_counts(self._added)
        source_ids = [*deleted, *(source.row.source_id for source in sources)]
        replaced = self._subtract_replaced(source_ids, frequencies)
        rows = [source.row for source in sources]
        group = CommitGroup(self._committed_seq + 1, rows, deleted, frequencies, tuple(self._embedded), replaced)
        self._ledger.publish(self._generation, group)
        fault_point("published")
        self._committed_seq += 1
        self._added = new_counts()
        self._embedded.clear()
        return_freed_memory()

    def purge(self) -> None:
        """Delete superseded chunks and the documents they were of; afterwards no query needs a filter."""
        superseded = self._ledger.superseded(self._generation)
        if superseded:
            self._pins.wait_for_readers(self._generation, self._committed_seq, LONGEST_QUERY_S)
        stale = [
            identity
            for old in superseded
            for identity in span_chunk_ids(old.source_id, old.source_version, old.spans, self._fingerprint)
        ]
        for ids in _batches(stale):
            self._store.delete(self._collection, ids=ids)
            fault_point("purged-store")
            if self._token_vectors is not None:
                self._token_vectors.delete(ids)
        fault_point("purged-chunks")
        if self._is_open or superseded:
            self._store.flush(self._collection)
            if self._token_vectors is not None:
                self._token_vectors.flush()
            self._ledger.purged(self._generation)
            fault_point("purged")
            gone = {k for old in superseded for k in document_keys(old.source_version, old.parser, old.spans)}
            live = self._ledger.live_documents({key.source_version for key in gone}) if gone else ()
            self._delete_documents(sorted(gone.difference(live)))
            self._ledger.set_group_open(self._generation, False)
            self._is_open = False
            fault_point("closed")

    def _delete_documents(self, keys: Sequence[DocumentKey]) -> None:
        if keys:
            self._archive.delete(keys)
        self._archive.flush()
        fault_point("collected")

    def _open_group(self) -> None:
        if not self._is_open:
            self._ledger.set_group_open(self._generation, True)
            self._is_open = True
            fault_point("opened")
            # Who read the ledger before that searches without a filter and would see what is staged now.
            self._pins.wait_for_unfiltered(self._generation, LONGEST_QUERY_S)

    def _subtract_replaced(self, source_ids: Iterable[str], frequencies: ChunkCounts) -> list[tuple[bytes, str]]:
        """Take the terms and word pieces of the versions that are replaced out of the corpus statistics.

        Returns text digest and id of their chunks.
        """
        replaced = []
        for old in self._ledger.versions_of(self._generation, source_ids):
            ids = span_chunk_ids(old.source_id, old.source_version, old.spans, self._fingerprint)
            for part in _batches(ids):
                records = self._store.fetch(self._collection, part)
                tokens = self._token_vectors.get(part) if self._token_vectors is not None else {}
                missing = [i for i in part if i not in records or (self._token_vectors is not None and i not in tokens)]
                if missing:
                    raise IndexFormatError(
                        f"chunk {missing[0]} of {old.source_id} is in the ledger but not in the store.",
                        hint="Rebuild the index with: ragstack index --rebuild",
                    )
                for record in records.values():
                    replaced.append((text_digest(embedded_text_of(record.payload)), record.id))
                    language = str(record.payload.get("text_language", ""))
                    count_terms(frequencies, record.sparse, stored_term_count(record.payload, record.id), language, -1)
                for vectors in tokens.values():
                    count_tokens(frequencies, vectors.token_ids, -1)
        return replaced


def _referred_to(source: Prepared) -> list[tuple[DocumentKey, Document]]:
    """The documents of a source that are kept: records without a chunk are not."""
    row = source.row
    kept = set(document_keys(row.source_version, row.parser, row.spans))
    return [item for item in source.documents if item[0] in kept]


def _record(batch: EmbeddedBatch, index: int, seq: int) -> Record:
    item = batch.chunks[index]
    chunk = item.chunk
    payload = {
        **chunk.fields,
        "source_id": chunk.source_id,
        "source_version": chunk.source_version,
        "media_type": item.media_type,
        "seq": seq,
        "parser": item.parser,
        "record": item.record,
        "byte_start": chunk.byte_start,
        "byte_end": chunk.byte_end,
        "token_count": chunk.token_count,
        "term_count": batch.sparse[index].term_count,
        "text_language": chunk.text_language,
        "heading_path": list(chunk.heading_path),
        "text": chunk.text,
    }
    return Record(chunk.chunk_id, batch.dense[index], batch.sparse[index].vector, payload)


def _batches(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]


def fault_point(name: str) -> None:
    """End this process at once, as a kill would, when ``RAGSTACK_FAULT_POINT`` is ``name`` or ``name:n``.

    ``n`` counts the passes, from 1. Only tests set the variable.
    """
    wanted = os.environ.get("RAGSTACK_FAULT_POINT")
    if not wanted:
        return
    target, _, count = wanted.partition(":")
    if target != name:
        return
    _passes[name] += 1
    if _passes[name] == int(count or 1):
        os.kill(os.getpid(), 9)


_passes: Counter[str] = Counter()
