from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.errors import InputError, StoreError
from ragstack.reranking.base import RerankCandidate, RerankQuery, no_idf
from ragstack.reranking.late_interaction import LateInteractionReranker, max_sim
from ragstack.reranking.none import NoReranker
from ragstack.reranking.registry import RERANKERS
from ragstack.testing.hashing_embedder import HashingEmbedder
from ragstack.types import Chunk, Float32Array, TokenVectors

EMBEDDER = HashingEmbedder(dim=32)


class MemoryTokenVectors:
    """Token vectors of chunks in a dict, as they were put."""

    def __init__(self, entries: dict[str, TokenVectors]) -> None:
        self.entries = entries

    def get(self, chunk_ids: Sequence[str]) -> dict[str, TokenVectors]:
        return {i: self.entries[i] for i in chunk_ids if i in self.entries}


def make_chunk(name: str, text: str = "text") -> Chunk:
    return Chunk(name, "root/a.txt", "0" * 64, 0, len(text.encode()), text, 1)


def make_query(text: str, idf: Float32Array | None = None) -> RerankQuery:
    found = EMBEDDER.embed([text], "query", ("dense", "tokens"))
    assert found.dense is not None and found.tokens is not None
    tokens = found.tokens[0]
    return RerankQuery(text, found.dense[0], tokens, no_idf(len(tokens)) if idf is None else idf)


def make_corpus(texts: Sequence[str]) -> tuple[dict[str, TokenVectors], list[RerankCandidate]]:
    found = EMBEDDER.embed(texts, "passage", ("dense", "tokens"))
    assert found.tokens is not None
    names = [f"c{i:03}" for i in range(len(texts))]
    candidates = [RerankCandidate(make_chunk(n, t), 0.5, None) for n, t in zip(names, texts, strict=True)]
    return dict(zip(names, found.tokens, strict=True)), candidates


COLOURS_AND_THINGS = ["red", "green", "blue", "cat", "dog", "house", "tree", "sky"]
WORDS = st.lists(st.sampled_from(COLOURS_AND_THINGS), max_size=8).map(" ".join)


@given(WORDS, st.lists(WORDS, min_size=1, max_size=6), st.data())
def test_max_sim_is_its_definition(query_text: str, texts: list[str], data: st.DataObject) -> None:
    query = make_query(query_text)
    count = len(query.tokens)
    idf = np.array(data.draw(st.lists(st.floats(0, 9, width=32), min_size=count, max_size=count)), dtype=np.float32)
    query = RerankQuery(query.text, query.dense, query.tokens, idf)
    tokens, _ = make_corpus(texts)
    for score, passage in zip(max_sim(query, list(tokens.values())), tokens.values(), strict=True):
        expected = 0.0
        if len(passage) and idf.sum() > 0:
            best = [max(float(q @ d) for d in passage.vectors) for q in query.tokens.vectors]
            expected = sum(float(w) * b for w, b in zip(idf, best, strict=True)) / float(idf.astype(np.float64).sum())
        assert score == pytest.approx(expected, abs=1e-5)


@given(WORDS, st.lists(WORDS, min_size=1, max_size=6), st.randoms())
def test_order_of_candidates_does_not_matter(query_text: str, texts: list[str], random: object) -> None:
    tokens, candidates = make_corpus(texts)
    candidates = [RerankCandidate(c.chunk, None if i == 0 else i / 10, i / 3) for i, c in enumerate(candidates)]
    reranker = LateInteractionReranker(MemoryTokenVectors(tokens))  # type: ignore[arg-type]
    query = make_query(query_text)
    expected = reranker.rerank(query, candidates)
    random.shuffle(candidates)  # type: ignore[attr-defined]
    assert reranker.rerank(query, candidates) == expected
    assert [(-s.score, s.chunk_id) for s in expected] == sorted((-s.score, s.chunk_id) for s in expected)
    assert {s.chunk_id for s in expected} == {c.chunk.chunk_id for c in candidates}


def test_score_is_the_sum_of_its_parts() -> None:
    tokens, candidates = make_corpus(["red cat", "blue dog", "green house"])
    scores = [(0.8, 6.0), (0.4, 3.0), (None, None)]
    candidates = [RerankCandidate(c.chunk, d, s) for c, (d, s) in zip(candidates, scores, strict=True)]
    reranker = LateInteractionReranker(MemoryTokenVectors(tokens), 2.0, 0.5, 0.3)  # type: ignore[arg-type]
    found = {s.chunk_id: s for s in reranker.rerank(make_query("red cat"), candidates)}
    assert found["c000"].parts == pytest.approx({"dense": 1.6, "maxsim": 0.5, "sparse": 0.3})
    assert found["c001"].parts["sparse"] == pytest.approx(0.15)
    assert found["c002"].parts["dense"] == pytest.approx(0.8) and found["c002"].parts["sparse"] == 0.0
    for score in found.values():
        assert score.score == pytest.approx(sum(score.parts.values()))
    assert found["c000"].relevance > 0.9
    assert found["c001"].relevance < 0.9


def test_idf_decides_which_word_counts() -> None:
    tokens, candidates = make_corpus(["cat", "red"])
    reranker = LateInteractionReranker(MemoryTokenVectors(tokens))  # type: ignore[arg-type]
    for idf, best in (([1.0, 9.0], "c000"), ([9.0, 1.0], "c001")):
        query = make_query("red cat", np.array(idf, dtype=np.float32))
        assert reranker.rerank(query, candidates)[0].chunk_id == best


def test_no_candidates_and_no_scores() -> None:
    tokens, candidates = make_corpus(["", "cat"])
    reranker = LateInteractionReranker(MemoryTokenVectors(tokens))  # type: ignore[arg-type]
    assert reranker.rerank(make_query("cat"), []) == []
    blank = [RerankCandidate(c.chunk, None, None) for c in candidates]
    found = reranker.rerank(make_query(""), blank)
    assert [(s.chunk_id, s.score) for s in found] == [("c000", 0.0), ("c001", 0.0)]
    assert all(s.relevance < 0.05 for s in found)


def test_a_candidate_without_token_vectors_is_an_error() -> None:
    _, candidates = make_corpus(["cat"])
    reranker = LateInteractionReranker(MemoryTokenVectors({}))  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=r"chunk c000 of root/a.txt: the index holds no token vectors") as caught:
        reranker.rerank(make_query("cat"), candidates)
    assert "ragstack index" in caught.value.hint


def test_token_vectors_of_another_space_are_an_error() -> None:
    tokens, candidates = make_corpus(["cat"])
    shorter = TokenVectors(tokens["c000"].vectors[:, :8], tokens["c000"].token_ids, tokens["c000"].byte_spans)
    reranker = LateInteractionReranker(MemoryTokenVectors({"c000": shorter}))  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="have 8 dimensions, the query's 32"):
        reranker.rerank(make_query("cat"), candidates)


@pytest.mark.parametrize("idf", [[1.0], [1.0, -1.0], [1.0, np.nan]])
def test_refuses_idf_that_does_not_fit(idf: list[float]) -> None:
    tokens, candidates = make_corpus(["cat"])
    reranker = LateInteractionReranker(MemoryTokenVectors(tokens))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="for each of the query's 2 tokens"):
        reranker.rerank(make_query("red cat", np.array(idf, dtype=np.float32)), candidates)


@pytest.mark.parametrize("weights", [(-1.0, 1.0, 0.3), (1.0, np.nan, 0.3), (0.0, 0.0, 0.0), (1.0, 1.0, np.inf)])
def test_refuses_weights(weights: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match="reranker"):
        LateInteractionReranker(MemoryTokenVectors({}), *weights)  # type: ignore[arg-type]


def test_none_keeps_the_fused_order() -> None:
    candidates = [RerankCandidate(make_chunk(n), d, None) for n, d in (("b", 0.3), ("a", None), ("c", 1.2))]
    found = NoReranker().rerank(make_query("cat"), candidates)
    assert [s.chunk_id for s in found] == ["b", "a", "c"]
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)
    relevances = [s.relevance for s in found]
    assert 0 < relevances[1] < relevances[0] < 0.5 < relevances[2] <= 1


def test_registry() -> None:
    assert RERANKERS.load("late_interaction") is LateInteractionReranker
    assert RERANKERS.load("none") is NoReranker
