"""Any texts, ordered by a pipeline's reranker."""

from __future__ import annotations

from collections.abc import Sequence

from ragstack.assembly import build_reranker, keeps_token_vectors, token_vectors_of_texts
from ragstack.embedding.base import Embeddings
from ragstack.errors import InputError
from ragstack.integrations.langchain.backend import Ranked, Truncate
from ragstack.integrations.langchain.texts import cut_texts
from ragstack.pipeline import Pipeline
from ragstack.reranking.base import RerankCandidate, RerankQuery
from ragstack.retrieval.corpus_weights import corpus_idf
from ragstack.types import Chunk, Float32Array, TokenVectors


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
    asked = embedder.embed(cut_texts(embedder, [query], "query", truncate), "query", ("dense", "tokens"))
    passages = cut_texts(embedder, texts, "passage", truncate)
    found = embedder.embed(passages, "passage", ("dense", "tokens"))
    (query_dense, query_tokens), (dense, tokens) = _both(asked), _both(found)
    ids = [f"{index:08d}" for index in range(len(texts))]  # ties are ordered by id
    candidates = [
        # The part of BM25 would compare the texts given with each other.
        RerankCandidate(Chunk(id_, "", "", 0, len(text.encode()), text, 0), float(vector @ query_dense[0]), None)
        for id_, text, vector in zip(ids, passages, dense, strict=True)
    ]
    made = token_vectors_of_texts(config, dict(zip(ids, tokens, strict=True)))
    reranker = build_reranker(config, made if keeps_token_vectors(config) else None)
    asked_tokens = made.prepare(query_tokens[0])
    idf = corpus_idf(config, pipeline.state_dir, asked_tokens)
    scores = reranker.rerank(RerankQuery(query, query_dense[0], asked_tokens, idf), candidates)
    return [Ranked(int(score.chunk_id), score.score) for score in scores]


def _both(embeddings: Embeddings) -> tuple[Float32Array, tuple[TokenVectors, ...]]:
    if embeddings.dense is None or embeddings.tokens is None:
        raise ValueError("the embedder did not return what it was asked for")
    return embeddings.dense, embeddings.tokens
