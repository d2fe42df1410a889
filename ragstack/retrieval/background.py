"""What unrelated texts have in common with an embedding model: the zero of relevance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ragstack.embedding.base import Embedder, Embeddings, submit
from ragstack.reranking.relevance import REFERENCE, Background
from ragstack.types import TokenVectors

# None of the passages has to do with any of the questions, nor with most corpora.
_QUESTIONS = (
    "How do plants make sugar from light?",
    "Who wrote the first novel of the series?",
    "What does the contract say about late payment?",
    "Which port does the server listen on?",
    "When was the bridge rebuilt?",
    "How is the sauce thickened?",
)
_PASSAGES = (
    "The museum opens at nine and closes at five; children under twelve enter free of charge.",
    "Interest rates were raised by a quarter of a point, the third increase this year.",
    "Tighten the bolts crosswise, then check the pressure of each tyre with a gauge.",
    "Her brother moved to the coast, where he kept bees and sold honey at the market.",
    "The patch fixes a race in the cache that made some requests return stale data.",
    "Rain fell on the hills for three days and the river rose above its banks.",
)


def measure_background(embedder: Embedder, prepare: Callable[[TokenVectors], TokenVectors]) -> Background:
    """The background of a model, from six questions and six passages; takes about as long as reading one page.

    ``prepare`` brings token vectors into the form in which they are compared.
    """
    if not embedder.info.token_dim:
        asking = submit(embedder, _QUESTIONS, "query")  # a server answers both at a time
        told = embedder.embed(_PASSAGES, "passage")
        return Background(_mean_cosine(asking.result(), told), REFERENCE.maxsim)  # which nothing is compared with
    asked = embedder.embed(_QUESTIONS, "query", ("dense", "tokens"))
    told = embedder.embed(_PASSAGES, "passage", ("dense", "tokens"))
    if asked.tokens is None or told.tokens is None:
        raise ValueError("the embedder did not return what it was asked for")
    passages = [prepare(tokens).vectors for tokens in told.tokens]
    best = [
        float((question @ passage.T).max(axis=1).mean())
        for question in (prepare(tokens).vectors for tokens in asked.tokens)
        for passage in passages
    ]
    return Background(_mean_cosine(asked, told), float(np.mean(best)))


def _mean_cosine(asked: Embeddings, told: Embeddings) -> float:
    if asked.dense is None or told.dense is None:
        raise ValueError("the embedder did not return what it was asked for")
    return float((asked.dense @ told.dense.T).mean())
