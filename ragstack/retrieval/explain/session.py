"""One snapshot of the index, opened to be looked into for an explanation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ragstack.adapters.base import Payload, Record, SearchParams, VectorStore
from ragstack.archive.base import DocumentKey
from ragstack.archive.sqlite import SqliteArchive
from ragstack.assembly import SharedIndex
from ragstack.citations.chain import Place
from ragstack.citations.places import DocumentReader, OpenDocument
from ragstack.config.models import PipelineConfig
from ragstack.embedding.bm25_scores import stored_term_count
from ragstack.embedding.term_languages import TermCounter
from ragstack.filters import Condition, Filter, all_of, bind_filter
from ragstack.ledger.schema import ARCHIVE_FILE, collection_name
from ragstack.ledger.snapshot import IndexedSource, Snapshot, SnapshotReader
from ragstack.reranking.base import RerankQuery
from ragstack.retrieval.candidates import LegQuery, Retriever, chunk_of
from ragstack.retrieval.engine import QueryEngine
from ragstack.retrieval.filter_check import matches
from ragstack.retrieval.generation_parts import GenerationParts
from ragstack.retrieval.sparse_leg import term_scores
from ragstack.types import Chunk, Float32Array

_BATCH = 256


@dataclass
class Session:
    """The parts of one snapshot. What ``access_filter`` does not match does not exist for the asker.

    ``config`` is the caller's, its ``parts.config`` that of the generation. To be used in one thread.
    """

    config: PipelineConfig
    snapshot: Snapshot
    ledger: SnapshotReader
    store: VectorStore
    documents: DocumentReader
    parts: GenerationParts
    access_filter: Filter | None
    _records: dict[str, Record] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the generation, which is part of every chunk id."""
        return self.snapshot.fingerprint

    @property
    def collection(self) -> str:
        """The store's collection of the generation."""
        return collection_name(self.snapshot.generation)

    def source(self, source_id: str) -> IndexedSource | None:
        """The source as it is indexed, whoever may see it; None when it is not."""
        return self.ledger.indexed_source(self.snapshot.generation, source_id)

    def document(self, key: DocumentKey) -> OpenDocument:
        """An archived document. Raises IndexFormatError when it is not there."""
        return self.documents.open(key)

    def records(self, chunk_ids: Sequence[str]) -> dict[str, Record]:
        """Those of the chunks that are in the snapshot and that the asker may see."""
        missing = [chunk_id for chunk_id in chunk_ids if chunk_id not in self._records]
        for start in range(0, len(missing), _BATCH):
            found = self.store.fetch(self.collection, missing[start : start + _BATCH])
            self._records |= {i: record for i, record in found.items() if self._is_shown(i, record.payload)}
        return {chunk_id: self._records[chunk_id] for chunk_id in chunk_ids if chunk_id in self._records}

    def payloads(self, chunk_ids: Sequence[str]) -> dict[str, Payload]:
        """The payloads of :meth:`records`."""
        return {chunk_id: record.payload for chunk_id, record in self.records(chunk_ids).items()}

    def chunk(self, chunk_id: str) -> Chunk:
        """A chunk that :meth:`records` has."""
        return chunk_of(chunk_id, self._records[chunk_id].payload)

    def place(self, payload: Payload) -> Place:
        """Where a chunk is."""
        document = self.document(DocumentKey(payload["source_version"], payload["parser"], payload["record"]))
        start, end = payload["byte_start"], payload["byte_end"]
        return document.place(payload["source_id"], "", start, end, payload["heading_path"])

    def encode(self, text: str) -> tuple[RerankQuery, LegQuery]:
        """A query as reranker and legs see it. Raises InputError for one longer than the model reads."""
        return self.parts.encode_query(text, self.snapshot, self.frequencies)

    def term_points(self, query: LegQuery, chunk_id: str) -> dict[int, float]:
        """What each term of the query, by its index, adds to the BM25 score of a chunk that :meth:`records` has."""
        record = self._records[chunk_id]
        shared = term_scores(query.sparse, record.sparse, stored_term_count(record.payload, chunk_id))
        return {term.index: term.score for term in shared}

    def analyses(self, text: str) -> list[TermCounter]:
        """How the sparse leg reads a query."""
        return self.parts.bm25.query_analyses(text, self.snapshot.text_languages)

    def frequencies(self, kind: int, ids: Sequence[int]) -> Float32Array:
        """In how many chunks of the whole index terms or tokens occur."""
        return self.ledger.frequencies(self.snapshot.generation, kind, ids)

    def retriever(self, *, exact: bool, mode: str | None = None) -> Retriever:
        """What searches the store: as queries do, or exactly; in one leg alone where ``mode`` names it."""
        retrieval = self.config.retrieval if mode is None else self.config.retrieval.model_copy(update={"mode": mode})
        params = SearchParams(exact=True) if exact else self.parts.search_params
        return Retriever(self.store, retrieval, params)

    def search(self, text: str, top_k: int) -> list[Payload]:
        """The chunks that a search for ``text`` finds, best first. A text longer than the model reads is cut."""
        spans = self.parts.embedder.tokenizer.token_byte_spans(text)
        most = self.parts.embedder.info.text_tokens("query")
        if len(spans) > most:
            text = text.encode("utf-8")[: spans[most // 2][0]].decode("utf-8", "ignore")
        _, legs = self.encode(text)
        hits = self.retriever(exact=False).candidates(legs, self.snapshot, self.access_filter, top_k)
        return [hit.payload for hit in hits]

    def scan(self, most: int, limits: list[str]) -> Iterator[Payload]:
        """Every chunk of the snapshot that the asker may see, the first ``most`` of them; more add to ``limits``."""
        pinned = all_of(self.access_filter, Condition("seq", "lte", self.snapshot.committed_seq))
        hits = self.store.iterate(self.collection, pinned, batch_size=_BATCH)
        for number, hit in enumerate(hits):
            if number == most:
                limits.append(f"The text was looked for in the documents of {most:,} chunks; the index has more.")
                return
            if hit.id not in self.snapshot.stale:
                yield hit.payload

    def _is_shown(self, chunk_id: str, payload: Payload) -> bool:
        if chunk_id in self.snapshot.stale or payload["seq"] > self.snapshot.committed_seq:
            return False
        if self.access_filter is None:
            return True
        types = self.parts.config.field_types()
        return matches(bind_filter(self.access_filter, types), payload, types)


@contextmanager
def open_session(
    config: PipelineConfig,
    state_dir: Path,
    engine: QueryEngine,
    shared: SharedIndex,
    access_filter: Filter | None,
) -> Iterator[Session]:
    """The snapshot that is active now. No query of ``engine`` retrieves meanwhile, so work in the block is bounded."""
    with ExitStack() as stack:
        store, _ = stack.enter_context(engine.reading())
        hold = stack.enter_context(shared.pins.reading())
        ledger = SnapshotReader(state_dir)
        stack.callback(ledger.close)
        stack.enter_context(ledger.consistent())
        snapshot = ledger.read()
        hold(snapshot)
        archive = SqliteArchive(state_dir / ARCHIVE_FILE)
        stack.callback(archive.close)
        parts = stack.enter_context(engine.parts_of(snapshot))
        yield Session(config, snapshot, ledger, store, DocumentReader(archive), parts, access_filter)
