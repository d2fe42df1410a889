"""Any texts, ordered by a pipeline's reranker."""

from __future__ import annotations

from collections.abc import Sequence

from ragstack.assembly import build_text_reranker, compares_vectors, text_reranker, token_vectors_of_texts
from ragstack.cancellation import Cancellation
from ragstack.embedding.base import Embeddings
from ragstack.errors import InputError
from ragstack.integrations.langchain.backend import Ranked, Truncate
from ragstack.integrations.langchain.texts import cut_texts
from ragstack.pipeline import Pipeline
from ragstack.reranking.base import RerankQuery
from ragstack.retrieval.corpus_weights import corpus_idf
from ragstack.retrieval.text_ranking import bare_query, rank_in_order, text_ids
from ragstack.types import Float32Array, TokenVectors


def rank_texts(pipeline: Pipeline, query: str, texts: Sequence[str], truncate: Truncate = "NONE") -> list[Ranked]:
    """Every text once, best first; of equal ones, the first given comes first. A score does not depend on the others.

    Late interaction weighs the query's tokens by how rare they are in the pipeline's index; without one they count
    alike. Of a cascade the last stage ranks. ``truncate`` is for late interaction: a cross-encoder reads long texts in
    windows, a server by its own rules. Raises InputError where the config has no reranker, EmbeddingError
    for a text that is too long, RerankingError where the model or the server fails.
    """
    config = pipeline.config
    if config.reranker.type == "none":
        raise InputError(
            "the config's reranker is none, so there is nothing that ranks texts.",
            hint="Set reranker.type, for example to late_interaction.",
        )
    reranker = pipeline.text_reranker
    if reranker is not None and not compares_vectors(text_reranker(config)):
        ranked = rank_in_order(reranker, bare_query(query, Cancellation()), texts)
        return [Ranked(index, score) for index, score in ranked]
    embedder = pipeline.embedder
    asked = embedder.embed(cut_texts(embedder, [query], "query", truncate), "query", ("dense", "tokens"))
    passages = cut_texts(embedder, texts, "passage", truncate)
    found = embedder.embed(passages, "passage", ("dense", "tokens"))
    (query_dense, query_tokens), (dense, tokens) = _both(asked), _both(found)
    made = token_vectors_of_texts(config, dict(zip(text_ids(len(texts)), tokens, strict=True)))
    asked_tokens = made.prepare(query_tokens[0])
    idf = corpus_idf(config, pipeline.state_dir, asked_tokens)
    asking = RerankQuery(query, query_dense[0], asked_tokens, idf)
    ranked = rank_in_order(reranker or build_text_reranker(config, made), asking, passages, dense @ query_dense[0])
    return [Ranked(index, score) for index, score in ranked]


def _both(embeddings: Embeddings) -> tuple[Float32Array, tuple[TokenVectors, ...]]:
    if embeddings.dense is None or embeddings.tokens is None:
        raise ValueError("the embedder did not return what it was asked for")
    return embeddings.dense, embeddings.tokens
