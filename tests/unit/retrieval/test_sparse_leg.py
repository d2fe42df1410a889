"""The sparse leg gives the best passages by plain BM25, whatever the nominal length, the store and what is stale."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstack.adapters.base import CollectionSpec, Hit, Record, VectorStore
from ragstack.adapters.milvus import MilvusStore
from ragstack.adapters.qdrant_edge import QdrantEdgeStore
from ragstack.config.stores.milvus import MilvusStoreConfig
from ragstack.embedding.bm25 import Bm25Encoder
from ragstack.embedding.bm25_scores import Bm25Query
from ragstack.embedding.term_index import term_index
from ragstack.embedding.terms import TermAnalyzer
from ragstack.errors import IndexFormatError
from ragstack.filters import Condition
from ragstack.retrieval.sparse_leg import SparseLeg, exact_scores, term_scores
from ragstack.testing.memory_store import MemoryStore
from tests.bm25_oracle import bm25_scores

ANALYZER = TermAnalyzer("english")
WORDS = ["pump", "valve", "lever", "gasket", "oil", "lamp", "seal", "rotor", "stator", "bearing", "shaft", "flange"]
PASSAGES = st.lists(st.lists(st.sampled_from(WORDS), max_size=40), max_size=40)
NAMES = [str(uuid.UUID(int=i)) for i in range(2000)]


def fill(store: VectorStore, texts: Sequence[str], encoder: Bm25Encoder, collection: str = "c") -> None:
    store.ensure_collection(CollectionSpec(collection, 2, {"odd": "bool"}))
    records = []
    for i, text in enumerate(texts):
        passage = encoder.encode_chunk(text, (), {})
        payload = {"term_count": passage.term_count, "odd": bool(i % 2)}
        records.append(Record(NAMES[i], np.array([1, 0], dtype=np.float32), passage.vector, payload))
    store.upsert(collection, records)


def query_over(texts: Sequence[str], encoder: Bm25Encoder, query: str) -> Bm25Query:
    """What a ledger would tell of these texts."""
    bags = [ANALYZER.terms(text) for text in texts]
    frequency = Counter(term_index(term) for bag in bags for term in set(bag))
    lengths = [len(bag) for bag in bags] or [0]
    vector = encoder.encode_query(query, frequency, len(texts))
    return Bm25Query(encoder, vector, np.mean(lengths).item() or encoder.nominal_length, max(lengths))


def assert_best(hits: Sequence[Hit], expected: dict[str, float], top_k: int) -> None:
    """The hits are ``top_k`` of the best; which of two that differ by rounding comes first is not asked."""
    assert len(hits) == min(top_k, len(expected)) == len({hit.id for hit in hits})
    best = sorted(expected.values(), reverse=True)[: len(hits)]
    assert [hit.score for hit in hits] == pytest.approx(best, rel=2e-6)
    assert [hit.score for hit in hits] == pytest.approx([expected[hit.id] for hit in hits], rel=2e-6)
    assert list(hits) == sorted(hits, key=lambda hit: (-hit.score, hit.id))


@settings(deadline=None)
@given(
    PASSAGES,
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=6),
    st.integers(1, 12),
    st.floats(0.5, 400),
    st.floats(0.1, 3),
    st.floats(0, 1),
    st.sets(st.integers(0, 39)),
)
def test_finds_what_plain_bm25_finds(
    passages: list[list[str]],
    query: list[str],
    top_k: int,
    nominal_length: float,
    k1: float,
    b: float,
    stale: set[int],
) -> None:
    encoder = Bm25Encoder(k1=k1, b=b, nominal_length=nominal_length)
    texts = [" ".join(words) for words in passages]
    store = MemoryStore()
    fill(store, texts, encoder)
    hidden = {NAMES[i] for i in stale}
    asked = query_over(texts, encoder, " ".join(query))
    terms = dict(zip(NAMES, map(ANALYZER.terms, texts), strict=False))
    scores = bm25_scores(ANALYZER.terms(" ".join(query)), terms, k1, b)
    expected = {identity: score for identity, score in scores.items() if identity not in hidden}
    assert_best(SparseLeg(store, "c", asked, stale=hidden).search(top_k), expected, top_k)


@settings(max_examples=50)
@given(st.floats(1, 400), st.floats(1, 400), st.floats(0.1, 3), st.floats(0, 1), st.integers(1, 300))
def test_no_passage_gains_more_than_the_bound_says(
    nominal: float, average: float, k1: float, b: float, longest: int
) -> None:
    encoder = Bm25Encoder(k1=k1, b=b, nominal_length=nominal)
    lengths = np.unique(np.geomspace(1, longest, 20).round())
    for tf in (1, 2, 30):
        tfs = np.minimum(tf, lengths)
        stored = (tfs * (k1 + 1) / (tfs + k1 * (1 - b + b * lengths / nominal))).astype(np.float32).astype(np.float64)
        query = Bm25Query(encoder, encoder.encode_query_terms(""), average, longest)
        true = query.true_weights(stored, lengths)
        assert true == pytest.approx(tfs * (k1 + 1) / (tfs + k1 * (1 - b + b * lengths / average)), rel=1e-9)
        assert np.all(true <= stored * query.largest_factor * (1 + 1e-6))


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    """600 texts with word frequencies like those of a language, and very unlike lengths."""
    rng = np.random.default_rng(5)
    words = [f"{a}{b}" for a in WORDS for b in ("", "ark", "orn", "ule", "esk")]
    shares = 1 / np.arange(1, len(words) + 1)
    lengths = rng.integers(1, 120, 600)
    return [" ".join(rng.choice(words, n, p=shares / shares.sum())) for n in lengths]


@pytest.fixture(scope="module", params=["embedded", "milvus"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorStore]:
    folder: Path = tmp_path_factory.mktemp("store")
    opened: Any = (
        QdrantEdgeStore(folder)
        if request.param == "embedded"
        else MilvusStore(MilvusStoreConfig(uri=str(folder / "store.db")))
    )
    with opened as found:
        yield found


def test_stores_agree_with_plain_bm25(store: VectorStore, corpus: list[str]) -> None:
    terms = dict(zip(NAMES, map(ANALYZER.terms, corpus), strict=False))
    for number, nominal in enumerate((20.0, 300.0)):
        encoder = Bm25Encoder(nominal_length=nominal)
        fill(store, corpus, encoder, f"c{number}")
        for query in ("pump", "valveark levers gasketule oil", "shaftesk flange flange statororn"):
            asked = query_over(corpus, encoder, query)
            expected = bm25_scores(ANALYZER.terms(query), terms, encoder.k1, encoder.b)
            assert_best(SparseLeg(store, f"c{number}", asked).search(50), expected, 50)
            odd = SparseLeg(store, f"c{number}", asked, Condition("odd", "eq", True)).search(50)
            assert_best(odd, {i: s for i, s in expected.items() if int(uuid.UUID(i)) % 2}, 50)


def test_a_store_that_does_not_give_vectors_back_is_asked_for_them(corpus: list[str]) -> None:
    class Plain(MemoryStore):
        def search_sparse(self, *args: Any, **kwargs: Any) -> list[Hit]:
            return [replace(hit, sparse=None) for hit in super().search_sparse(*args, **kwargs)]

    encoder = Bm25Encoder()
    plain, giving = Plain(), MemoryStore()
    for each in (plain, giving):
        fill(each, corpus[:200], encoder)
    asked = query_over(corpus[:200], encoder, "pump levers")
    assert SparseLeg(plain, "c", asked).search(20) == SparseLeg(giving, "c", asked).search(20)


def test_one_search_is_enough_where_lengths_are_usual(corpus: list[str]) -> None:
    depths = []

    class Counting(MemoryStore):
        def search_sparse(self, collection: str, vector: Any, top_k: int, **kwargs: Any) -> list[Hit]:
            depths.append(top_k)
            return super().search_sparse(collection, vector, top_k, **kwargs)

    encoder, store = Bm25Encoder(nominal_length=60), Counting()
    fill(store, corpus, encoder)
    SparseLeg(store, "c", query_over(corpus, encoder, "pump levers")).search(100)
    assert len(depths) == 1
    assert 100 < depths[0] < 150


def test_a_record_without_its_length_is_named() -> None:
    store = MemoryStore()
    encoder = Bm25Encoder()
    store.ensure_collection(CollectionSpec("c", 2, {}))
    store.upsert("c", [Record(NAMES[7], np.array([1, 0], dtype=np.float32), encoder.encode_passage("pump"), {})])
    with pytest.raises(IndexFormatError, match=f"{NAMES[7]}.*number of terms"):
        SparseLeg(store, "c", query_over(["pump"], encoder, "pump")).search(3)


def test_scores_do_not_depend_on_the_company(corpus: list[str]) -> None:
    encoder = Bm25Encoder(nominal_length=60)
    asked = query_over(corpus, encoder, "pump valveark levers oil")
    passages = [encoder.encode_chunk(text, (), {}) for text in corpus[:300]]
    vectors, counts = [p.vector for p in passages], [p.term_count for p in passages]
    together = exact_scores(asked, vectors, counts)
    alone = [exact_scores(asked, [v], [n])[0] for v, n in zip(vectors, counts, strict=True)]
    assert together.tolist() == alone


def test_a_score_is_the_sum_of_what_its_terms_add(corpus: list[str]) -> None:
    encoder = Bm25Encoder(nominal_length=40)
    query = "pumps valveark levers levers unheard"
    asked = query_over(corpus, encoder, query)
    names = {term_index(t): t for reading in encoder.query_analyses(query) for t in reading.analyzer.terms(query)}
    for text in corpus[:50]:
        passage = encoder.encode_chunk(text, (), {})
        terms = term_scores(asked, passage.vector, passage.term_count)
        bag = Counter(ANALYZER.terms(text))
        assert {names[t.index]: t.frequency for t in terms} == {t: bag[t] for t in set(ANALYZER.terms(query)) if bag[t]}
        total = exact_scores(asked, [passage.vector], [passage.term_count])[0]
        assert sum(t.score for t in terms) == pytest.approx(total, rel=1e-6)
        assert [t.score for t in terms] == sorted((t.query_weight * t.passage_weight for t in terms), reverse=True)
