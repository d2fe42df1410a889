"""What belongs to one generation of the index and answers queries over it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from ragstack.adapters.base import SearchParams
from ragstack.assembly import (
    build_bm25,
    build_embedder,
    build_reranker,
    keeps_token_vectors,
    recomputes_token_vectors,
    token_vector_store,
)
from ragstack.cancellation import Cancellation
from ragstack.config.embedders import LocalEmbedderConfig, RemoteEmbedderConfig, reachable
from ragstack.config.models import EmbedderConfig, PipelineConfig
from ragstack.config.rerankers import CascadeConfig, LateInteractionConfig, NoRerankerConfig
from ragstack.embedding.base import Embedder, Embeddings, InputType, Output, submit
from ragstack.embedding.bm25 import Bm25Encoder
from ragstack.embedding.bm25_scores import Bm25Query
from ragstack.errors import EmbeddingError, InputError
from ragstack.generation.base import WeightedTokens
from ragstack.ledger.schema import TERMS, TOKENS, token_vectors_file
from ragstack.ledger.snapshot import Snapshot
from ragstack.reranking.base import Reranker, RerankQuery, TokenVectorStore, close_reranker
from ragstack.reranking.relevance import REFERENCE, REFERENCE_MODEL, Background, RelevanceScale
from ragstack.retrieval.background import measure_background
from ragstack.retrieval.candidates import LegQuery
from ragstack.retrieval.passages import Passage
from ragstack.retrieval.phrase_search import PhraseQuery
from ragstack.retrieval.phrases import quoted_phrases
from ragstack.retrieval.word_vectors import word_tokens
from ragstack.types import Float32Array, TokenVectors

_BLOCKS_OF_THE_INDEX = ("fields", "chunker", "embedder")
_HOW_IT_RUNS = ("max_batch_tokens", "threads", "profile", "device")

Frequencies = Callable[[int, Sequence[int]], Float32Array]
"""Document frequencies in the snapshot of the ``TERMS`` or ``TOKENS`` with the given ids."""


@dataclass
class GenerationParts:
    """One generation's model, encoders, token vectors and reranker.

    ``users`` counts the queries under way; the engine closes retired parts when the last of them has ended.
    """

    generation: int
    config: PipelineConfig
    embedder: Embedder
    bm25: Bm25Encoder
    token_vectors: TokenVectorStore | None
    token_vectors_are_stored: bool
    reranker: Reranker
    owns_embedder: bool = True
    users: int = 0
    retired: bool = False

    @classmethod
    def open(
        cls, config: PipelineConfig, snapshot: Snapshot, state_dir: Path, lent: Embedder | None = None
    ) -> GenerationParts:
        """The parts of the snapshot's generation: with the model it was built with, whatever ``config`` says now.

        ``lent`` is an embedder of ``config.embedder``, taken where that is the model.
        """
        indexed = as_indexed(config, snapshot)
        is_lent = lent is not None and indexed.embedder == config.embedder
        embedder = lent if lent is not None and is_lent else build_embedder(indexed.embedder)
        tokens, are_stored = None, False
        built = as_built(snapshot)
        if keeps_token_vectors(built):
            tokens = token_vector_store(state_dir / token_vectors_file(snapshot.generation), built)
            are_stored = not recomputes_token_vectors(built)
        reranker = build_reranker(indexed, tokens, embedder)
        bm25 = build_bm25(indexed)
        return cls(snapshot.generation, indexed, embedder, bm25, tokens, are_stored, reranker, not is_lent)

    def close(self) -> None:
        """Release files, and the model unless it was lent."""
        close_reranker(self.reranker)
        if self.owns_embedder:
            self.embedder.close()
        if self.token_vectors is not None:
            self.token_vectors.close()

    @property
    def search_params(self) -> SearchParams:
        """The store's settings for the dense leg."""
        store = self.config.store
        return SearchParams(exact=getattr(store, "exact", False), ef_search=getattr(store, "ef_search", None))

    @property
    def asks_a_server(self) -> bool:
        """Whether embedding is waiting for another server, which other queries need not wait for."""
        return isinstance(self.config.embedder, RemoteEmbedderConfig)

    def ask_for_query(self, text: str, snapshot: Snapshot, cancellation: Cancellation) -> Embeddings:
        """The question's vectors by a server's model, and all else that :meth:`encode_query` would ask it for.

        Raises InterruptedRunError as soon as ``cancellation`` was asked, else what :meth:`encode_query` raises.
        """
        self._check_query(text, snapshot)
        pending = submit(self.embedder, [text], "query")
        with cancellation.calling(pending.cancel):
            try:
                found = pending.result()
            except EmbeddingError:
                cancellation.check()
                raise
        _ = self.background
        return found

    def encode_query(
        self, text: str, snapshot: Snapshot, frequencies: Frequencies, vectors: Embeddings | None = None
    ) -> tuple[RerankQuery, LegQuery]:
        """The query as legs and reranker see it. ``vectors`` are those of :meth:`ask_for_query`, where it was asked.

        Raises InputError for a text longer than the model reads.
        """
        if vectors is None:
            self._check_query(text, snapshot)
            outputs: tuple[Output, ...] = ("dense", "tokens") if self.has_token_vectors else ("dense",)
            vectors = self.embedder.embed([text], "query", outputs)
        if vectors.dense is None or (vectors.tokens is None and self.has_token_vectors):
            raise ValueError("the embedder did not return what it was asked for")
        made = word_tokens(text) if vectors.tokens is None else vectors.tokens[0]
        weighted = self._weighted(text, made, snapshot, frequencies)
        asked = partial(self._bm25_query, snapshot, frequencies)
        # A passage is in one language: what it can reach at most is the best of the languages' analyses.
        totals = [float(asked(text, {code}).vector.values.sum()) for code in sorted(snapshot.text_languages)]
        ceiling = max(totals, default=0.0) * (self.bm25.k1 + 1)
        scale = RelevanceScale(snapshot.chunk_count, ceiling, self.background)
        query = RerankQuery(text, vectors.dense[0], weighted.vectors, weighted.idf, scale)
        phrases = quoted_phrases(text) if self.config.retrieval.phrases == "require" else ()
        words = "\n".join(phrase.text for phrase in phrases)
        quoted = PhraseQuery(phrases, [asked(words, {code}) for code in sorted(snapshot.text_languages)])
        sparse = asked(text, snapshot.text_languages)
        return query, LegQuery(vectors.dense[0], sparse, quoted if phrases else None)

    def _check_query(self, text: str, snapshot: Snapshot) -> None:
        """Raise InputError for a text that is too long, EmbeddingError for a server whose model is not the index's."""
        block, info = self.config.embedder, self.embedder.info
        if isinstance(block, RemoteEmbedderConfig) and info.fingerprint != snapshot.config["parts"]["model"]:
            raise EmbeddingError(
                f"the server at {block.base_url} runs another revision of {info.name} than the one that the index was"
                " built with; their vectors cannot be compared.",
                hint="Run `ragstack index`, which embeds everything anew, or start the server with that revision.",
            )
        count = self.embedder.tokenizer.count([text])[0]
        if count > info.text_tokens("query"):
            raise InputError(
                f"the query has {count} tokens; {info.name} reads {info.text_tokens('query')}.",
                hint="Ask a shorter question.",
            )

    def _bm25_query(
        self, snapshot: Snapshot, frequencies: Frequencies, text: str, text_languages: Collection[str]
    ) -> Bm25Query:
        def document_frequency(ids: Sequence[int]) -> list[int]:
            return [int(n) for n in frequencies(TERMS, ids)]

        vector = self.bm25.encode_query(text, document_frequency, snapshot.chunk_count, text_languages)
        # Where no chunk has a term there is no average, and nothing to be found either.
        average = snapshot.term_lengths.average or self.bm25.nominal_length
        return Bm25Query(self.bm25, vector, average, snapshot.term_lengths.longest)

    @cached_property
    def background(self) -> Background:
        """What unrelated texts have in common with this model: known of the default one, measured of any other."""
        if self.embedder.info.name == REFERENCE_MODEL and not recomputes_token_vectors(self.config):
            return REFERENCE
        return measure_background(self.embedder, self._prepared)

    @property
    def has_token_vectors(self) -> bool:
        """Whether the model gives token vectors; where not, words are compared by their spelling."""
        return self.embedder.info.token_dim > 0

    def tokens_of(self, text: str, snapshot: Snapshot, frequencies: Frequencies) -> WeightedTokens:
        """The token vectors of any text, in the space of the passages'; of a long one, those of its beginning."""
        if not self.has_token_vectors:
            return self._weighted(text, word_tokens(text), snapshot, frequencies)
        spans = self.embedder.tokenizer.token_byte_spans(text)
        limit = self.embedder.info.text_tokens("passage")
        if len(spans) > limit:
            text = text.encode("utf-8")[: spans[limit // 2][0]].decode("utf-8", "ignore")
        return self._weighted(text, self._made([text], "passage")[0], snapshot, frequencies)

    def passage_tokens(self, passages: Sequence[Passage]) -> dict[str, TokenVectors]:
        """Token vectors by chunk id of the passages' chunks: the stored ones, or made where none are kept."""
        chunks = [chunk for passage in passages for chunk in passage.members]
        if self.token_vectors is not None and self.token_vectors_are_stored:
            return self.token_vectors.get([chunk.chunk_id for chunk in chunks])
        made = self._made([chunk.embedded_text for chunk in chunks], "passage") if chunks else ()
        return {chunk.chunk_id: self._prepared(tokens) for chunk, tokens in zip(chunks, made, strict=True)}

    def compared_tokens(self, text: str, input_type: InputType) -> TokenVectors:
        """The token vectors of a text that the model reads whole, in the form in which they are compared."""
        return self._prepared(self._made([text], input_type)[0])

    def _made(self, texts: Sequence[str], input_type: InputType) -> Sequence[TokenVectors]:
        if not self.has_token_vectors:
            return [word_tokens(text) for text in texts]
        found = self.embedder.embed(texts, input_type, ("tokens",)).tokens
        if found is None:
            raise ValueError("the embedder did not return what it was asked for")
        return found

    def _weighted(
        self, text: str, tokens: TokenVectors, snapshot: Snapshot, frequencies: Frequencies
    ) -> WeightedTokens:
        if not self.has_token_vectors:
            return WeightedTokens(tokens, self._word_idf(text, tokens, snapshot, frequencies))
        prepared = self._prepared(tokens)
        counts = frequencies(TOKENS, prepared.token_ids.tolist())
        return WeightedTokens(prepared, token_idf(counts, snapshot.chunk_count))

    def _word_idf(self, text: str, tokens: TokenVectors, snapshot: Snapshot, frequencies: Frequencies) -> Float32Array:
        """How telling words are by the chunks that hold their BM25 terms, ``(t,) float32``; 0 for stop words."""
        data = text.encode("utf-8")
        words = [data[start:end].decode("utf-8") for start, end in tokens.byte_spans.tolist()]
        analyses = self.bm25.query_analyses(text, snapshot.text_languages)
        terms = [{index for analysis in analyses for index in analysis.count(word)} for word in words]
        ids = sorted(set().union(*terms))
        counts = dict(zip(ids, frequencies(TERMS, ids).tolist(), strict=True)) if ids else {}
        commonest = np.array([max((counts[i] for i in found), default=0.0) for found in terms], dtype=np.float32)
        is_term = np.array([bool(found) for found in terms], dtype=bool)
        weights: Float32Array = np.where(is_term, token_idf(commonest, snapshot.chunk_count), 0).astype(np.float32)
        return weights

    def _prepared(self, tokens: TokenVectors) -> TokenVectors:
        return tokens if self.token_vectors is None else self.token_vectors.prepare(tokens)


def token_idf(counts: Float32Array, chunk_count: int) -> Float32Array:
    """How telling tokens are that occur in ``counts`` of the chunks: ``ln(1 + (N - n + 0.5) / (n + 0.5))``."""
    idf: Float32Array = np.log1p((chunk_count - counts + 0.5) / (counts + 0.5)).astype(np.float32)
    return idf


def as_built(snapshot: Snapshot) -> PipelineConfig:
    """What the ledger knows of the config that the index was built with; secrets are masked in it."""
    return PipelineConfig.model_validate({"version": 1, **snapshot.config["config"]})


def _as_run_here(indexed: EmbedderConfig, configured: EmbedderConfig) -> EmbedderConfig:
    """The model of the index, run as the config says: an index may be asked on another machine than it was made on."""
    if not (isinstance(indexed, LocalEmbedderConfig) and isinstance(configured, LocalEmbedderConfig)):
        return indexed
    if (indexed.model, indexed.revision) != (configured.model, configured.revision):
        return indexed
    return indexed.model_copy(update={name: getattr(configured, name) for name in _HOW_IT_RUNS})


def as_indexed(config: PipelineConfig, snapshot: Snapshot) -> PipelineConfig:
    """The config with the blocks that the index was built with; a remote model is where ``config`` says it is.

    A reranker that compares token vectors needs an index that keeps them: without, it is left out until the next run.
    One that takes them from elsewhere than the index was built for takes them from there until then.
    """
    indexed = as_built(snapshot)
    update: dict[str, Any] = {name: getattr(indexed, name) for name in _BLOCKS_OF_THE_INDEX}
    update["embedder"] = _as_run_here(reachable(indexed.embedder, config.embedder), config.embedder)
    if keeps_token_vectors(config) and not keeps_token_vectors(indexed):
        update["reranker"] = NoRerankerConfig()
    elif isinstance(config.reranker, (LateInteractionConfig, CascadeConfig)):
        update["reranker"] = config.reranker.with_token_vectors(
            "recomputed" if recomputes_token_vectors(indexed) else "stored"
        )
    return config.model_copy(update=update)
