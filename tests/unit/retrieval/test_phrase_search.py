"""Quoted phrases narrow the legs to the passages that hold them, however deep these lie."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ragstack.adapters.base import Capabilities, CollectionSpec, Hit, Record, VectorStore
from ragstack.embedding.bm25 import Bm25Encoder
from ragstack.embedding.bm25_scores import Bm25Query
from ragstack.errors import CapabilityError
from ragstack.filters import Condition
from ragstack.retrieval.phrase_search import PhraseQuery, narrowed_to_phrases
from ragstack.retrieval.phrases import quoted_phrases
from ragstack.retrieval.sparse_leg import SparseLeg
from ragstack.testing.memory_store import MemoryStore

ENCODER = Bm25Encoder()
DENSE = np.array([1, 0], dtype=np.float32)
# What holds the phrase is long and has its words once; 700 shorter passages have them more often, apart.
TEXTS = [f"A lever of the pump and a lever of a pump {i}" for i in range(700)]
TEXTS += ["The pump lever is here and a very long text about many other things goes on " + "and on so far " * 20] * 2
TEXTS += ["To be, or not to be", "nothing"]
NAMES = [str(uuid.UUID(int=i)) for i in range(len(TEXTS))]


class WithoutSparseSearch(MemoryStore):
    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, sparse=False)

    def search_sparse(self, *args: Any, **kwargs: Any) -> list[Hit]:
        raise CapabilityError("this store searches no sparse vectors.")


def filled(store: VectorStore) -> VectorStore:
    store.ensure_collection(CollectionSpec("c", 2, {"number": "integer"}))
    records = []
    for i, text in enumerate(TEXTS):
        passage = ENCODER.encode_chunk(text, (), {})
        payload = {"text": text, "heading_path": [], "term_count": passage.term_count, "number": i}
        records.append(Record(NAMES[i], np.array([1, i % 7], dtype=np.float32), passage.vector, payload))
    store.upsert("c", records)
    return store


@pytest.fixture(scope="module")
def store() -> VectorStore:
    return filled(MemoryStore())


def bm25(text: str) -> Bm25Query:
    passages = [ENCODER.encode_chunk(each, (), {}) for each in TEXTS]
    frequency = Counter(index for passage in passages for index in passage.vector.indices.tolist())
    lengths = [passage.term_count for passage in passages]
    return Bm25Query(ENCODER, ENCODER.encode_query(text, frequency, len(TEXTS)), float(np.mean(lengths)), max(lengths))


def narrowed(store: VectorStore, query: str, *legs: str, top_k: int = 10, **leg_settings: Any) -> dict[str, list[int]]:
    phrases = quoted_phrases(query)
    leg = SparseLeg(store, "c", bm25(query), **leg_settings)
    found = {"sparse": leg.search(5)} if "sparse" in legs else {}
    if "dense" in legs:
        found["dense"] = store.search_dense("c", DENSE, 5, filter=leg.filter)
    asked = PhraseQuery(phrases, [bm25(" ".join(phrase.text for phrase in phrases))])
    result = narrowed_to_phrases(asked, leg, found, DENSE, top_k)
    assert list(result) == list(found)
    return {name: [NAMES.index(hit.id) for hit in hits] for name, hits in result.items()}


def test_finds_them_below_hundreds_that_score_more(store: VectorStore) -> None:
    assert narrowed(store, '"pump lever"', "sparse", "dense") == {"sparse": [700, 701], "dense": [700, 701]}
    assert narrowed(store, '"pump lever"', "dense", top_k=1) == {"dense": [700]}


def test_keeps_to_filter_and_snapshot(store: VectorStore) -> None:
    assert narrowed(store, '"pump lever"', "sparse", stale={NAMES[700]}) == {"sparse": [701]}
    only = Condition("number", "lte", 700)
    assert narrowed(store, '"pump lever"', "sparse", "dense", filter=only) == {"sparse": [700], "dense": [700]}


def test_what_nothing_holds_changes_nothing(store: VectorStore) -> None:
    found = narrowed(store, '"pump of levers"', "sparse", "dense")
    assert [len(leg) for leg in found.values()] == [5, 5]
    assert [len(leg) for leg in narrowed(store, '"pump lever" "not there"', "sparse").values()] == [5]


def test_a_store_without_sparse_search_narrows_what_its_dense_leg_found() -> None:
    store = filled(WithoutSparseSearch())
    first = [NAMES.index(hit.id) for hit in store.search_dense("c", DENSE, 5)]
    text = TEXTS[first[2]]
    assert narrowed(store, f'"{text}"', "dense") == {"dense": [first[2]]}
    assert len(narrowed(store, '"pump lever"', "dense")["dense"]) == 5
