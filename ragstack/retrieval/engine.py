"""The query path: embed → retrieve → rerank → passages → answer → chain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ragstack.adapters.base import SearchParams
from ragstack.archive.sqlite import SqliteArchive
from ragstack.assembly import (
    SharedIndex,
    build_bm25,
    build_embedder,
    build_generator,
    build_reranker,
    build_store,
    keeps_token_vectors,
    snapshot_pins,
    token_vector_store,
)
from ragstack.citations.chain import Chain
from ragstack.citations.places import DocumentReader
from ragstack.config.models import PipelineConfig
from ragstack.embedding.base import Embedder
from ragstack.embedding.bm25 import Bm25Encoder
from ragstack.errors import InputError
from ragstack.filters import Filter, all_of
from ragstack.generation.base import Answer, ContextPassage, Question
from ragstack.ledger.schema import ARCHIVE_FILE, TERMS, TOKENS, collection_name, token_vectors_file
from ragstack.ledger.snapshot import Snapshot, SnapshotReader
from ragstack.reranking.base import Reranker, RerankQuery, TokenVectorStore
from ragstack.retrieval.candidates import LegQuery, Retriever
from ragstack.retrieval.chain_builder import ChainInputs, build_chain
from ragstack.retrieval.passages import Passage, build_passages
from ragstack.types import Float32Array, TokenVectors

_BLOCKS_OF_THE_INDEX = ("fields", "chunker", "embedder")


@dataclass(frozen=True)
class QueryRequest:
    """One query. ``filter`` is put beside the config's own; None for the others means the config's value."""

    text: str
    filter: Filter | None = None
    top_n: int | None = None
    with_answer: bool = True


@dataclass
class _Parts:
    """What belongs to one generation: its model, its encoders, its token vectors."""

    generation: int
    config: PipelineConfig
    embedder: Embedder
    bm25: Bm25Encoder
    token_vectors: TokenVectorStore | None
    reranker: Reranker

    @classmethod
    def open(cls, config: PipelineConfig, snapshot: Snapshot, state_dir: Path) -> _Parts:
        indexed = _as_indexed(config, snapshot)
        embedder = build_embedder(indexed.embedder)
        tokens = None
        if keeps_token_vectors(indexed):
            tokens = token_vector_store(state_dir / token_vectors_file(snapshot.generation), indexed.embedder)
        reranker = build_reranker(indexed, tokens)
        return cls(snapshot.generation, indexed, embedder, build_bm25(indexed), tokens, reranker)

    def close(self) -> None:
        self.embedder.close()
        if self.token_vectors is not None:
            self.token_vectors.close()


class QueryEngine:
    """Everything that answers queries over one index, opened once and used for many.

    The model and the fields are those the active generation was built with, whatever the config says
    now (``config_differs`` tells); when another generation becomes the active one, the engine moves on
    to it. One query at a time; wrap it in a lock to share it between threads.
    """

    def __init__(self, config: PipelineConfig, state_dir: Path, shared: SharedIndex | None = None) -> None:
        """``shared`` is given where this process indexes too. The store is opened otherwise.

        Raises IndexNotFoundError without an index, IndexLockedError while another process holds the store.
        """
        self._given = config
        self._state_dir = state_dir
        with ExitStack() as stack:
            self._ledger = SnapshotReader(state_dir)
            stack.callback(self._ledger.close)
            snapshot = self._ledger.read()
            if shared is None:
                store = build_store(config.store, state_dir, config.indexer.lock_timeout_s)
                stack.callback(store.close)
                shared = SharedIndex(store, snapshot_pins(store, state_dir))
            self._store, self._pins = shared.store, shared.pins
            archive = SqliteArchive(state_dir / ARCHIVE_FILE)
            stack.callback(archive.close)
            self._documents = DocumentReader(archive)
            self._generator = build_generator(config.generator)
            self._parts = _Parts.open(config, snapshot, state_dir)
            stack.callback(lambda: self._parts.close())  # noqa: PLW0108 - the parts of the time of closing
            self._stack = stack.pop_all()

    @property
    def config_differs(self) -> bool:
        """True when the config says other things than the index was built with."""
        return self._parts.config != self._given

    def close(self) -> None:
        """Release store, files and model. Idempotent."""
        self._stack.close()

    def __enter__(self) -> QueryEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def warm_up(self) -> None:
        """Load model and store at the same time, so that the first query is as quick as the next."""
        with ThreadPoolExecutor(1, "warm-up") as pool:
            loading = pool.submit(self._parts.embedder.embed, ["warm up"], "query", ("dense",))
            self._store.count(collection_name(self._parts.generation))
            loading.result()

    def query(self, request: QueryRequest) -> Chain:
        """Answer one query with its whole chain.

        Raises InputError for an empty text, a text longer than the model reads, or a bad ``top_n``;
        FilterError for a filter that names an undeclared field.
        """
        retrieval = self._given.retrieval
        top_n = retrieval.top_n if request.top_n is None else request.top_n
        if not 1 <= top_n <= retrieval.rerank_k:
            raise InputError(f"top_n must be between 1 and rerank_k ({retrieval.rerank_k}); got {top_n}.")
        if not request.text.strip():
            raise InputError("the query is empty.", hint="Ask a question: ragstack query 'How do I ...?'")
        with self._pins.reading() as hold:
            return self._query(request, top_n, hold)

    def _query(self, request: QueryRequest, top_n: int, hold: Callable[[Snapshot], None]) -> Chain:
        clock = _Clock()
        retrieval = self._given.retrieval
        with clock.stage("embed"), self._ledger.consistent():
            snapshot = self._ledger.read()
            hold(snapshot)
            parts = self._parts_of(snapshot)
            question, legs = self._embed(request.text, snapshot, parts)
        retriever = Retriever(self._store, retrieval, _search_params(parts.config))
        pinned = all_of(retrieval.parsed_filter(), request.filter)
        with clock.stage("retrieve"):
            hits = retriever.candidates(legs, snapshot, pinned, retrieval.top_k)
        with clock.stage("rerank"):
            considered = hits[: retrieval.rerank_k]
            ranked = parts.reranker.rerank(question, retriever.with_scores(legs, considered, snapshot))
        min_relevance = retrieval.min_relevance
        if min_relevance is None:
            min_relevance = parts.reranker.min_relevance
        # One passage that answers makes its weaker neighbours worth showing; the answer rests on relevant ones alone.
        is_answered = any(score.relevance >= min_relevance for score in ranked)
        payloads = {hit.id: hit.payload for hit in considered}
        passages = build_passages(ranked, payloads, top_n) if is_answered else []
        with clock.stage("answer"):
            relevant = [(rank, p) for rank, p in enumerate(passages, 1) if p.score.relevance >= min_relevance]
            answer = self._answer(question, relevant, parts) if request.with_answer else None
        name = parts.reranker.name
        inputs = ChainInputs(request.text, pinned, snapshot, hits, passages, answer, top_n, min_relevance, name)
        with clock.stage("cite"):
            chain = build_chain(inputs, parts.config, self._documents, self._ledger.source_uri)
        return chain.with_timings(clock.seconds)

    def _parts_of(self, snapshot: Snapshot) -> _Parts:
        if snapshot.generation != self._parts.generation:
            old, self._parts = self._parts, _Parts.open(self._given, snapshot, self._state_dir)
            old.close()
        return self._parts

    def _embed(self, text: str, snapshot: Snapshot, parts: _Parts) -> tuple[RerankQuery, LegQuery]:
        info = parts.embedder.info
        count = parts.embedder.tokenizer.count([text])[0]
        if count > info.max_tokens:
            raise InputError(
                f"the query has {count} tokens; {info.name} reads {info.max_tokens}.", hint="Ask a shorter question."
            )
        vectors = parts.embedder.embed([text], "query", ("dense", "tokens"))
        if vectors.dense is None or vectors.tokens is None:
            raise ValueError("the embedder did not return what it was asked for")
        tokens = vectors.tokens[0]
        sparse = parts.bm25.encode_query(
            text,
            lambda ids: [int(n) for n in self._ledger.frequencies(snapshot.generation, TERMS, ids)],
            snapshot.chunk_count,
        )
        frequencies = self._ledger.frequencies(snapshot.generation, TOKENS, tokens.token_ids.tolist())
        idf = np.log1p((snapshot.chunk_count - frequencies + 0.5) / (frequencies + 0.5)).astype(np.float32)
        if parts.token_vectors is not None:
            tokens = TokenVectors(parts.token_vectors.project(tokens.vectors), tokens.token_ids, tokens.byte_spans)
        return RerankQuery(text, vectors.dense[0], tokens, idf), LegQuery(vectors.dense[0], sparse)

    def _answer(self, question: RerankQuery, passages: Sequence[tuple[int, Passage]], parts: _Parts) -> Answer:
        """The answer from passages given with their ranks; ranks are the generator's markers."""
        tokens = self._passage_tokens([passage for _, passage in passages], parts)
        context = [
            ContextPassage(rank, passage.best, passage.score.relevance, tokens.get(passage.best.chunk_id))
            for rank, passage in passages
        ]
        weights: Float32Array = question.token_idf
        return self._generator.generate(
            Question(question.text, question.tokens, tuple(float(weight) for weight in weights)), context
        )

    def _passage_tokens(self, passages: Sequence[Passage], parts: _Parts) -> dict[str, TokenVectors]:
        """Token vectors of the passages: the stored ones, or made now where the index keeps none."""
        chunks = [passage.best for passage in passages]
        if parts.token_vectors is not None:
            return parts.token_vectors.get([chunk.chunk_id for chunk in chunks])
        vectors = parts.embedder.embed([chunk.embedded_text for chunk in chunks], "passage", ("tokens",))
        return {chunk.chunk_id: tokens for chunk, tokens in zip(chunks, vectors.tokens or (), strict=True)}


class _Clock:
    """Seconds spent in each stage of one query."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._stages[name] = time.perf_counter() - started

    @property
    def seconds(self) -> dict[str, float]:
        """Each stage, and ``total``."""
        return {**self._stages, "total": time.perf_counter() - self._started}


def _as_indexed(config: PipelineConfig, snapshot: Snapshot) -> PipelineConfig:
    """The config with the blocks that the index was built with; the reranker's too where its kind differs."""
    indexed = PipelineConfig.model_validate({"version": 1, **snapshot.config["config"]})
    update: dict[str, Any] = {name: getattr(indexed, name) for name in _BLOCKS_OF_THE_INDEX}
    if keeps_token_vectors(indexed) != keeps_token_vectors(config):
        update["reranker"] = indexed.reranker
    return config.model_copy(update=update)


def _search_params(config: PipelineConfig) -> SearchParams:
    return SearchParams(exact=getattr(config.store, "exact", False), ef_search=getattr(config.store, "ef_search", None))
