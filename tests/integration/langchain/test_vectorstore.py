"""The vector store beyond LangChain's suite: filters, metadata, ids, MMR, lifetimes."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

import ragstack
from ragstack.errors import CollectionError, FilterError, InputError
from ragstack.integrations.langchain import RagstackEmbeddings, RagstackVectorStore
from ragstack.integrations.langchain.mmr import max_marginal_relevance
from ragstack.testing.memory_store import MemoryStore
from tests.integration.langchain.conftest import CONFIG

TEXTS = ["The pump runs at 40 bar.", "The pump is old.", "A valve of brass.", "The lamp is red."]
YEARS = [{"year": 2019}, {"year": 2021}, {"year": 2024}, {}]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ragstack.Pipeline]:
    with ragstack.open(CONFIG, state_dir=tmp_path_factory.mktemp("store")) as pipeline:
        yield pipeline


@pytest.fixture
def store(opened: ragstack.Pipeline) -> RagstackVectorStore:
    """Over the embedded store, with the pipeline's own embedder, in a collection of its own."""
    return RagstackVectorStore(pipeline=opened, collection=f"c-{uuid.uuid4().hex}", fields={"tags": "keyword"})


def test_filters_are_ragstacks_over_declared_metadata(store: RagstackVectorStore) -> None:
    store.add_texts(TEXTS, YEARS, ids=list("abcd"))
    store.add_texts(["A pump with tags."], [{"tags": ["new", "blue"], "year": None}], ids=["e"])
    recent = {"field": "year", "op": "gte", "value": 2021}
    assert {d.id for d in store.similarity_search("pump", k=9, filter=recent)} == {"b", "c"}
    blue = {"field": "tags", "op": "contains", "value": "blue"}
    assert [d.id for d in store.similarity_search("pump", k=9, filter=blue)] == ["e"]
    assert {d.id for d in asyncio.run(store.asimilarity_search("pump", k=9, filter={"not": recent}))} == set("ade")
    retriever = store.as_retriever(search_kwargs={"k": 9, "filter": recent})
    assert {d.id for d in retriever.invoke("pump")} == {"b", "c"}
    assert [d.id for d in retriever.invoke("pump", k=1)] == ["b"]
    mmr = store.as_retriever(search_type="mmr", search_kwargs={"k": 2, "fetch_k": 9, "filter": recent})
    assert {d.id for d in asyncio.run(mmr.ainvoke("pump"))} == {"b", "c"}
    store.delete(filter=recent)
    assert {d.id for d in store.similarity_search("pump", k=9)} == set("ade")
    for wrong in (
        {"field": "colour", "op": "eq", "value": 1},
        {"year": 2021},
        {"field": "year", "op": "eq", "value": "x"},
    ):
        with pytest.raises(FilterError):
            store.similarity_search("pump", filter=wrong)
    empty = RagstackVectorStore(pipeline=store._pipeline.pipeline, collection="not-there-yet")
    with pytest.raises(FilterError):
        empty.similarity_search("pump", filter={"field": "colour", "op": "eq", "value": 1})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text().filter(lambda name: name != "year"), JSON, max_size=4), st.text(min_size=1))
def test_metadata_ids_and_texts_come_back_as_they_were(metadata: dict[str, Any], id_: str) -> None:
    store = RagstackVectorStore(_embeddings(), store=MemoryStore(), fields={"year": "integer"})
    store.add_texts([f"{id_} pump"], [metadata], ids=[id_])
    expected = Document(f"{id_} pump", metadata=metadata, id=id_)
    assert store.get_by_ids([id_]) == [expected]
    assert store.similarity_search("pump") == [expected]
    assert store.get_by_ids([id_])[0].metadata == metadata


def test_metadata_survives_the_embedded_store(store: RagstackVectorStore) -> None:
    metadata = {
        "id": 7,
        "page_content": "x",
        "nested": {"a": [1, 2.5, None, {"b": "水"}]},
        "big": 2**70,
        "": "",
        "year": 1,
    }
    store.add_texts(["text"], [metadata], ids=["one"])
    assert store.get_by_ids(["one"])[0].metadata == metadata
    assert type(store.get_by_ids(["one"])[0].metadata["nested"]["a"][1]) is float


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"when": object()}, "object is not JSON"),
        ({"nested": {1: "a"}}, "key 1 is not a string"),
        ({"set": {1, 2}}, "set is not JSON"),
        ({"number": float("nan")}, "not JSON"),
        ({"year": "last"}, "year"),
    ],
)
def test_metadata_that_would_change_is_refused_and_nothing_is_written(
    store: RagstackVectorStore, metadata: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        store.add_texts(["good", "bad"], [{}, metadata])
    assert store.similarity_search("good") == []


def test_ids_are_kept_generated_and_replaced(store: RagstackVectorStore) -> None:
    own, upper = str(uuid.uuid4()), str(uuid.uuid4()).upper()
    given_ids = [own, upper, "a name", "ein größerer Name" * 20]
    assert store.add_texts(TEXTS, ids=given_ids) == given_ids
    assert [d.id for d in store.get_by_ids([*reversed(given_ids), "unknown", own])] == [*reversed(given_ids), own]
    many = store.add_texts([f"text {n}" for n in range(7)], batch_size=3)
    assert [d.page_content for d in store.get_by_ids(many)] == [f"text {n}" for n in range(7)]
    new = store.add_documents([Document("one"), Document("two", id="named")])
    assert new[1] == "named"
    assert uuid.UUID(new[0])
    assert store.add_texts(["first", "second"], ids=["same", "same"]) == ["same", "same"]
    assert [d.page_content for d in store.get_by_ids(["same"])] == ["second"]
    store.delete([own, "never there"])
    assert store.get_by_ids([own]) == []
    store.delete()
    assert store.get_by_ids(given_ids) == []
    assert store.similarity_search("pump") == []
    store.add_texts(["again"], ids=["after"])
    assert [d.id for d in store.similarity_search("pump")] == ["after"]


def test_scores_are_cosines_and_relevance_scores_lie_between_0_and_1(store: RagstackVectorStore) -> None:
    store.add_texts(TEXTS, ids=list("abcd"))
    found = store.similarity_search_with_score("The pump is old.", k=4)
    assert found[0][0].id == "b"
    assert found[0][1] == pytest.approx(1, abs=1e-4)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert asyncio.run(store.asimilarity_search_with_score("The pump is old.", k=4)) == found
    relevant = store.similarity_search_with_relevance_scores("The pump is old.", k=4, score_threshold=0.9)
    assert [document.id for document, _ in relevant] == ["b"]
    by_vector = store.similarity_search_by_vector(store.embeddings.embed_query("The pump is old."), k=1)
    assert [document.id for document in by_vector] == ["b"]
    opposite = [-value for value in store.embeddings.embed_query("The pump is old.")]
    assert store.similarity_search_with_score_by_vector(opposite, k=1)[0][1] < 1
    with pytest.raises(InputError, match="k must be 1"):
        store.similarity_search("pump", k=0)
    with pytest.raises(TypeError, match="colour"):
        store.similarity_search("pump", colour="red")


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 12), st.floats(0, 1))
def test_mmr_chooses_what_langchains_own_chooses(seed: int, count: int, k: int, lambda_mult: float) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count + 1, 8)).astype(np.float32)
    expected = maximal_marginal_relevance(vectors[0].astype(np.float64), vectors[1:].astype(np.float64), lambda_mult, k)
    assert max_marginal_relevance(vectors[0], list(vectors[1:]), k, lambda_mult) == expected


def test_mmr_is_that_of_langchains_own_store(store: RagstackVectorStore) -> None:
    reference = InMemoryVectorStore(store.embeddings)
    for each in (store, reference):
        each.add_texts([*TEXTS, "The pump runs at 41 bar."], ids=list("abcde"))
    for lambda_mult in (0.0, 0.4, 1.0):
        asked: dict[str, Any] = {"k": 3, "fetch_k": 5, "lambda_mult": lambda_mult}
        expected = [d.id for d in reference.max_marginal_relevance_search("How does the pump run?", **asked)]
        assert [d.id for d in store.max_marginal_relevance_search("How does the pump run?", **asked)] == expected


def test_langchains_indexing_works_over_it(store: RagstackVectorStore) -> None:
    manager = InMemoryRecordManager("test")
    documents = [Document(text, metadata={"source": f"{n}"}) for n, text in enumerate(TEXTS)]

    def run(given_documents: list[Document]) -> tuple[int, int, int]:
        done = index(given_documents, manager, store, cleanup="full", source_id_key="source", key_encoder="sha256")
        return done["num_added"], done["num_skipped"], done["num_deleted"]

    assert run(documents) == (4, 0, 0)
    assert run(documents[1:]) == (0, 3, 1)
    assert {d.page_content for d in store.similarity_search("pump", k=9)} == set(TEXTS[1:])


def test_from_texts_and_another_object_over_the_same_collection(opened: ragstack.Pipeline) -> None:
    made = RagstackVectorStore.from_texts(
        TEXTS, _embeddings(), YEARS, ids=list("abcd"), pipeline=opened, collection="f"
    )
    again = RagstackVectorStore(_embeddings(), pipeline=opened, collection="f")
    assert again.get_by_ids(["a"]) == made.get_by_ids(["a"]) != []
    documents = [Document("The pump.", id="z")]
    more = asyncio.run(RagstackVectorStore.afrom_documents(documents, _embeddings(), pipeline=opened, collection="f"))
    assert [d.id for d in more.get_by_ids(["z", "a"])] == ["z", "a"]
    assert isinstance(RagstackVectorStore(pipeline=opened).embeddings, RagstackEmbeddings)
    with pytest.raises(CollectionError, match="dimension 32"):
        RagstackVectorStore(_embeddings(64), pipeline=opened, collection="f").add_texts(["x"])


def test_it_stands_beside_the_index_of_its_pipeline(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text("The pump runs at 40 bar.\n")
    with ragstack.open(CONFIG, state_dir=tmp_path / "state") as pipeline:
        store = RagstackVectorStore(pipeline=pipeline)
        store.add_texts(["before the first index"], ids=["x"])
        pipeline.index(folder)
        store.add_texts(["The pump is secret."], ids=["y"])
        assert {p.place.source_id for p in pipeline.query("pump").passages} == {"corpus/a.txt"}
        pipeline.index(folder, rebuild=True)
        pipeline.erase("corpus/a.txt")
        assert {d.id for d in store.similarity_search("pump", k=9)} == {"x", "y"}
        assert len(store.get_by_ids(["x", "y"])) == 2


def test_a_store_opened_from_a_config_keeps_what_it_holds(tmp_path: Path) -> None:
    config = {**CONFIG, "indexer": {"state_dir": str(tmp_path)}}
    with RagstackVectorStore(pipeline=config) as store:
        store.add_texts(TEXTS, YEARS, ids=list("abcd"))
    with RagstackVectorStore(pipeline=config) as store:
        recent = {"field": "year", "op": "gt", "value": 2020}
        assert {d.id for d in store.similarity_search("pump", filter=recent)} == {"b", "c"}


def test_threads_may_share_it(store: RagstackVectorStore) -> None:
    def add(number: int) -> None:
        store.add_texts([f"text {number}-{n}" for n in range(5)], ids=[f"{number}-{n}" for n in range(5)])

    threads = [threading.Thread(target=add, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.similarity_search("text", k=100)) == 30


def test_mistakes_are_told_when_it_is_made(opened: ragstack.Pipeline) -> None:
    with pytest.raises(InputError, match="pipeline, or a store"):
        RagstackVectorStore(_embeddings())
    with pytest.raises(InputError, match="'metadata' cannot be declared"):
        RagstackVectorStore(pipeline=opened, fields={"metadata": "keyword"})
    store = RagstackVectorStore(pipeline=opened, collection="mistakes")
    with pytest.raises(InputError, match="2 texts and 1 ids"):
        store.add_texts(["a", "b"], ids=["x"])
    with pytest.raises(InputError, match="2 texts and 3 metadatas"):
        store.add_texts(["a", "b"], [{}, {}, {}])
    with pytest.raises(InputError, match="not empty"):
        store.add_texts(["a"], ids=[""])
    with pytest.raises(InputError, match="either ids or a filter"):
        store.delete(["a"], filter={"field": "year", "op": "exists", "value": True})
    assert store.add_texts([]) == []


def _embeddings(dim: int = 32) -> RagstackEmbeddings:
    return RagstackEmbeddings(pipeline={"embedder": {"type": "hashing", "dim": dim}})
