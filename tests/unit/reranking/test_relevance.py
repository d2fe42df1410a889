"""Relevance: what it grows with, and that neither the corpus's size nor the model changes what it means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.assembly import build_embedder, token_vector_store
from ragstack.config.models import PipelineConfig
from ragstack.reranking.relevance import (
    MIN_RELEVANCE,
    REFERENCE,
    REFERENCE_MODEL,
    Background,
    RelevanceScale,
    relevance,
)
from ragstack.retrieval.background import measure_background
from ragstack.testing.hashing_embedder import HashingEmbedder

SIMILARITY = st.floats(-1, 1)
BM25 = st.floats(0, 40)


def one(scale: RelevanceScale, cosine: float, sparse: float, maxsim: float | None = None) -> float:
    tokens = None if maxsim is None else np.array([maxsim])
    return float(relevance(scale, np.array([cosine]), np.array([sparse]), tokens)[0])


@given(SIMILARITY, BM25, st.none() | SIMILARITY, st.integers(0, 10**9), st.floats(0, 100), st.floats(-0.5, 0.99))
def test_is_a_share_for_any_scores(
    cosine: float, sparse: float, maxsim: float | None, chunks: int, ceiling: float, zero: float
) -> None:
    scale = RelevanceScale(chunks, ceiling, Background(zero, zero))
    assert 0 <= one(scale, cosine, sparse, maxsim) <= 1


@given(SIMILARITY, SIMILARITY, BM25, BM25, SIMILARITY, SIMILARITY)
def test_never_falls_when_a_score_rises(a: float, b: float, c: float, d: float, e: float, f: float) -> None:
    scale = RelevanceScale(300, 25.0)
    low = one(scale, min(a, b), min(c, d), min(e, f))
    assert low <= one(scale, max(a, b), max(c, d), max(e, f))
    assert one(scale, min(a, b), min(c, d)) <= one(scale, max(a, b), max(c, d))


def test_the_same_scores_tell_less_in_a_larger_corpus() -> None:
    found = [one(RelevanceScale(n, 20.0), 0.32, 5.0, 0.5) for n in (1, 10, 300, 12_000)]
    assert found == sorted(found, reverse=True)
    assert found[0] > MIN_RELEVANCE > found[-1]


def test_a_query_without_terms_is_judged_by_its_vectors() -> None:
    scale = RelevanceScale(300, 0.0)
    assert one(scale, 0.8, 0.0, 0.9) > MIN_RELEVANCE > one(scale, 0.1, 0.0, 0.4)


@pytest.mark.parametrize("zero", [0.3, 0.75])
def test_a_model_whose_unrelated_texts_are_close_is_brought_to_the_same_scale(zero: float) -> None:
    narrow = RelevanceScale(300, 20.0, Background(zero, zero))

    def seen(value: float, reference: float) -> float:
        return 1 - (1 - value) * (1 - zero) / (1 - reference)

    for cosine, maxsim in ((0.1, 0.35), (0.45, 0.6), (0.7, 0.9)):
        shown = one(narrow, seen(cosine, REFERENCE.cosine), 6.0, seen(maxsim, REFERENCE.maxsim))
        assert shown == pytest.approx(one(RelevanceScale(300, 20.0), cosine, 6.0, maxsim))


def test_the_background_of_a_model_is_what_its_unrelated_texts_share() -> None:
    embedder = HashingEmbedder(dim=64)
    found = measure_background(embedder, lambda tokens: tokens)
    assert found == measure_background(embedder, lambda tokens: tokens)
    assert 0 < found.cosine < 0.4 and 0 < found.maxsim < 0.5


def test_the_reference_is_what_is_measured_of_the_default_model(tmp_path: Path) -> None:
    config = PipelineConfig()
    embedder = build_embedder(config.embedder)
    tokens = token_vector_store(tmp_path / "tokens.db", config)
    try:
        found = measure_background(embedder, tokens.prepare)
    finally:
        embedder.close()
        tokens.close()
    assert (embedder.info.name, round(found.cosine, 2), round(found.maxsim, 2)) == (
        REFERENCE_MODEL,
        REFERENCE.cosine,
        REFERENCE.maxsim,
    )
