"""Embeddings and reranker, over a local pipeline and over a server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

import ragstack
from ragstack.errors import EmbeddingError, InputError, RemoteError
from ragstack.integrations.langchain import RagstackEmbeddings, RagstackReranker
from ragstack.integrations.langchain.backend import Truncate
from ragstack.integrations.langchain.ranking import rank_texts
from ragstack.integrations.langchain.texts import cut_texts
from ragstack.testing.hashing_embedder import HashingEmbedder
from tests.integration.langchain.conftest import CONFIG

TEXTS = ["The lamp is red.", "The pump runs at 40 bar.", "A valve.", "The pump of line seven is checked on Mondays."]
LONG = "pressure " * 9000


@pytest.fixture(params=["local", "remote"])
def embeddings(request: pytest.FixtureRequest) -> RagstackEmbeddings:
    if request.param == "local":
        return RagstackEmbeddings(pipeline=request.getfixturevalue("pipeline"))
    return RagstackEmbeddings(url=request.getfixturevalue("url"))


@pytest.fixture(params=["local", "remote"])
def reranker(request: pytest.FixtureRequest) -> RagstackReranker:
    if request.param == "local":
        return RagstackReranker(pipeline=request.getfixturevalue("pipeline"))
    return RagstackReranker(url=request.getfixturevalue("url"))


def test_vectors_are_the_pipelines(embeddings: RagstackEmbeddings, pipeline: ragstack.Pipeline) -> None:
    expected = pipeline.embedder.embed(TEXTS, "passage").dense
    assert expected is not None
    assert np.allclose(embeddings.embed_documents(TEXTS), expected, atol=1e-6)
    assert np.allclose(asyncio.run(embeddings.aembed_documents(TEXTS)), expected, atol=1e-6)
    assert np.allclose(embeddings.embed_query(TEXTS[0]), expected[0], atol=1e-6)
    assert embeddings.embed_documents([]) == asyncio.run(embeddings.aembed_documents([])) == []


def test_queries_are_embedded_as_queries_and_documents_as_passages(
    pipeline: ragstack.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    embed = pipeline.embedder.embed

    def watched(texts: list[str], input_type: str, *rest: object) -> object:
        seen.append(input_type)
        return embed(texts, input_type, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline.embedder, "embed", watched)
    local = RagstackEmbeddings(pipeline=pipeline)
    local.embed_query("a")
    local.embed_documents(["a"])
    asyncio.run(local.aembed_query("a"))
    asyncio.run(local.aembed_documents(["a"]))
    assert seen == ["query", "passage"] * 2


def test_a_long_text_is_an_error_unless_it_may_be_cut(embeddings: RagstackEmbeddings) -> None:
    with pytest.raises((EmbeddingError, InputError), match="token"):
        embeddings.embed_documents([LONG])
    settings = {"pipeline": embeddings.pipeline, "url": embeddings.url}
    at_end = RagstackEmbeddings(**settings, truncate="END").embed_query("first " + LONG)
    at_start = RagstackEmbeddings(**settings, truncate="START").embed_query("first " + LONG)
    assert np.linalg.norm(at_end) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(at_end, at_start)
    assert np.allclose(at_start, embeddings.embed_query("pressure " * 500), atol=1e-5)


@pytest.mark.parametrize("truncate", ["START", "END"])
@given(text=st.text(alphabet="ab \u6c34\u0301-", max_size=60))
def test_what_is_left_of_a_text_is_its_start_or_end_and_fits(truncate: Truncate, text: str) -> None:
    embedder = HashingEmbedder(max_tokens=5)
    [kept] = cut_texts(embedder, [text], "passage", truncate)
    assert embedder.tokenizer.count([kept])[0] <= 5
    assert text.startswith(kept) if truncate == "END" else text.endswith(kept)
    if embedder.tokenizer.count([text])[0] <= 5:
        assert kept == text


def test_the_real_model_embeds_cuts_and_ranks() -> None:
    long = "The pump of line seven is checked. " * 90
    config = {"embedder": {"model": "all-MiniLM-L6-v2", "threads": 1}, "indexer": {"state_dir": "/nowhere"}}
    with ragstack.open(config) as pipeline:
        embeddings = RagstackEmbeddings(pipeline=pipeline, truncate="END")
        query, [near, far] = (
            embeddings.embed_query("When is the pump checked?"),
            embeddings.embed_documents([long, "Bread is made of flour."]),
        )
        assert np.dot(query, near) > np.dot(query, far) + 0.3
        with pytest.raises(EmbeddingError, match="truncate='END'"):
            RagstackEmbeddings(pipeline=pipeline).embed_query(long)
        documents = [Document("Bread is made of flour."), Document(long)]
        ranked = RagstackReranker(pipeline=pipeline, truncate="END").compress_documents(documents, "pump checks")
        assert ranked[0].page_content == long


def test_a_model_is_named_for_servers_only(url: str) -> None:
    with pytest.raises(InputError, match="local pipeline"):
        RagstackEmbeddings(pipeline=CONFIG, model="all-MiniLM-L6-v2")
    with pytest.raises(RemoteError, match="nonsense"):
        RagstackEmbeddings(url=url, model="nonsense").embed_query("a")


def test_documents_come_best_first_with_their_scores(reranker: RagstackReranker) -> None:
    documents = [Document(text, metadata={"n": n}, id=f"d{n}") for n, text in enumerate(TEXTS)]
    found = reranker.compress_documents(documents, "How many bar does the pump run at?")
    assert next(document.id for document in found) == "d1"
    assert {document.id for document in found} == {"d0", "d1", "d2", "d3"}
    scores = [document.metadata["relevance_score"] for document in found]
    assert scores == sorted(scores, reverse=True)
    assert all("relevance_score" not in document.metadata for document in documents), "what was given is not changed"
    assert all(document.metadata["n"] == int(str(document.id)[1:]) for document in found)
    assert asyncio.run(reranker.acompress_documents(documents, "How many bar does the pump run at?")) == found
    best = reranker.model_copy(update={"top_n": 2}).compress_documents(documents, "How many bar does the pump run at?")
    assert best == found[:2]
    assert list(reranker.compress_documents([], "pump")) == []


def test_local_and_remote_rank_alike(pipeline: ragstack.Pipeline, url: str) -> None:
    question, documents = "When is the pump checked?", [Document(text) for text in TEXTS]
    local = RagstackReranker(pipeline=pipeline).compress_documents(documents, question)
    remote = RagstackReranker(url=url).compress_documents(documents, question)
    assert [document.page_content for document in local] == [document.page_content for document in remote]
    assert [d.metadata["relevance_score"] for d in local] == pytest.approx(
        [d.metadata["relevance_score"] for d in remote], abs=1e-5
    )


def test_a_score_does_not_depend_on_the_other_texts(pipeline: ragstack.Pipeline) -> None:
    question = "When is the pump checked?"
    together = {item.index: item.score for item in rank_texts(pipeline, question, TEXTS)}
    for index, text in enumerate(TEXTS):
        [alone] = rank_texts(pipeline, question, [text])
        assert alone.score == pytest.approx(together[index], abs=1e-6)


def test_ranking_needs_no_index_but_a_reranker(tmp_path: Path) -> None:
    with ragstack.open(CONFIG, state_dir=tmp_path / "none") as fresh:
        assert rank_texts(fresh, "pump", TEXTS)[0].index in (1, 3)
        assert not (tmp_path / "none").exists()
    with (
        ragstack.open({**CONFIG, "reranker": {"type": "none"}}, state_dir=tmp_path / "none") as without,
        pytest.raises(InputError, match="reranker is none"),
    ):
        rank_texts(without, "pump", TEXTS)
