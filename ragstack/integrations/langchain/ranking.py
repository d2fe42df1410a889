"""Any texts, ordered by a pipeline's reranker."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import cast

import numpy as np

from ragstack.assembly import build_reranker, keeps_token_vectors
from ragstack.config.models import PipelineConfig
from ragstack.embedding.base import Embeddings
from ragstack.errors import IndexNotFoundError, InputError
from ragstack.integrations.langchain.backend import Ranked, Truncate
from ragstack.integrations.langchain.texts import cut_texts
from ragstack.ledger.schema import TOKENS
from ragstack.ledger.snapshot import SnapshotReader
from ragstack.pipeline import Pipeline
from ragstack.reranking.base import RerankCandidate, RerankQuery, TokenVectorStore, no_idf
from ragstack.types import Chunk, Float32Array, TokenVectors


class _MadeNow:
    """The token vectors of texts that belong to no index: what a reranker reads of a store of them."""

    def __init__(self, entries: dict[str, TokenVectors]) -> None:
        self._entries = entries

    def get(self, chunk_ids: Sequence[str]) -> dict[str, TokenVectors]:
        return {chunk_id: self._entries[chunk_id] for chunk_id in chunk_ids if chunk_id in self._entries}


def rank_texts(pipeline: Pipeline, query: str, texts: Sequence[str], truncate: Truncate = "NONE") -> list[Ranked]:
    """Every text once, best first; of equal ones, the first given comes first. A score does not depend on the others.

    Late interaction weighs the query's tokens by how rare they are in the pipeline's index; without one they count
    alike. Raises InputError where the config has no reranker, EmbeddingError for a text that is too long.
    """
    config = pipeline.config
    if config.reranker.type == "none":
        raise InputError(
            "the config's reranker is none, so there is nothing that ranks texts.",
            hint="Set reranker.type, for example to late_interaction.",
        )
    embedder = pipeline.embedder
    asked = embedder.embed(cut_texts(embedder, [query], truncate), "query", ("dense", "tokens"))
    passages = cut_texts(embedder, texts, truncate)
    found = embedder.embed(passages, "passage", ("dense", "tokens"))
    (query_dense, query_tokens), (dense, tokens) = _both(asked), _both(found)
    ids = [f"{index:08d}" for index in range(len(texts))]  # ties are ordered by id
    candidates = [
        # The part of BM25 would compare the texts given with each other.
        RerankCandidate(Chunk(id_, "", "", 0, len(text.encode()), text, 0), float(vector @ query_dense[0]), None)
        for id_, text, vector in zip(ids, passages, dense, strict=True)
    ]
    made = cast(TokenVectorStore, _MadeNow(dict(zip(ids, tokens, strict=True))))
    reranker = build_reranker(config, made if keeps_token_vectors(config) else None)
    idf = _idf(pipeline, query_tokens[0])
    scores = reranker.rerank(RerankQuery(query, query_dense[0], query_tokens[0], idf), candidates)
    return [Ranked(int(score.chunk_id), score.score) for score in scores]


def _both(embeddings: Embeddings) -> tuple[Float32Array, tuple[TokenVectors, ...]]:
    if embeddings.dense is None or embeddings.tokens is None:
        raise ValueError("the embedder did not return what it was asked for")
    return embeddings.dense, embeddings.tokens


def _idf(pipeline: Pipeline, tokens: TokenVectors) -> Float32Array:
    """The tokens' inverse document frequencies in the index; 1 without an index, or with another model's."""
    alike = no_idf(len(tokens))
    try:
        reader = SnapshotReader(pipeline.state_dir)
    except IndexNotFoundError:
        return alike
    with closing(reader):
        try:
            with reader.consistent():
                snapshot = reader.read()
                counts = reader.frequencies(snapshot.generation, TOKENS, tokens.token_ids.tolist())
        except IndexNotFoundError:
            return alike
    indexed = PipelineConfig.model_validate({"version": 1, **snapshot.config["config"]})
    if indexed.embedder != pipeline.config.embedder or not snapshot.chunk_count:
        return alike
    idf: Float32Array = np.log1p((snapshot.chunk_count - counts + 0.5) / (counts + 0.5)).astype(np.float32)
    return idf
