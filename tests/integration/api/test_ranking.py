"""/v1/ranking and /rerank over the pipeline's reranker."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from langchain_core.documents import Document
from langchain_nvidia_ai_endpoints import NVIDIARerank

import ragstack
from ragstack.api.app import create_app
from ragstack.api.keys import KeyFile
from tests.integration.harness import SMALL_CONFIG

M = "all-MiniLM-L6-v2"
QUERY = "How often is the pump checked?"
PASSAGES = [
    "The log is in room 12.",
    "The pump of line seven is checked every Monday.",
    "Valves are replaced after 300 hours of service.",
    "",
]


@pytest.fixture(scope="module")
def http(model_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=model_url, timeout=30) as client:
        yield client


def ranking(http: httpx.Client | TestClient, passages: list[str], query: str = QUERY) -> list[tuple[int, float]]:
    request = {
        "model": M,
        "query": {"text": query},
        "passages": [{"text": text} for text in passages],
        "truncate": "END",
    }
    answer = http.post("/v1/ranking", json=request)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"rankings"}
    return [(item["index"], item["logit"]) for item in answer.json()["rankings"]]


def test_the_call_of_the_issue_works_as_typed(http: httpx.Client) -> None:
    ranked = ranking(http, PASSAGES)
    assert sorted(index for index, _ in ranked) == [0, 1, 2, 3]
    logits = [logit for _, logit in ranked]
    assert logits == sorted(logits, reverse=True)
    assert ranked[0][0] == 1


def test_a_passages_score_does_not_depend_on_the_others(http: httpx.Client) -> None:
    """Clients send passages in batches and merge the rankings."""
    together = dict(ranking(http, PASSAGES))
    for index, passage in enumerate(PASSAGES):
        alone = ranking(http, [passage])
        assert alone[0][1] == pytest.approx(together[index], abs=1e-4)
    turned = dict(ranking(http, PASSAGES[::-1]))
    assert [turned[3 - index] for index in range(4)] == pytest.approx([together[i] for i in range(4)], abs=1e-4)


def test_equal_passages_keep_their_order(http: httpx.Client) -> None:
    assert [index for index, _ in ranking(http, ["same text"] * 5)] == [0, 1, 2, 3, 4]


def test_nvidias_client_by_base_url_alone(model_url: str) -> None:
    reranker = NVIDIARerank(base_url=f"{model_url}/v1", model=M, top_n=2, max_batch_size=2)
    documents = [Document(page_content=text, metadata={"at": at}) for at, text in enumerate(PASSAGES[:3])]
    found = reranker.compress_documents(documents, QUERY)
    assert found[0].metadata["at"] == 1
    assert len(found) == 2


def test_nvidias_client_takes_the_first_model_that_is_listed(model_url: str) -> None:
    with pytest.warns(UserWarning, match="Default model is set as: ragstack"):
        reranker = NVIDIARerank(base_url=f"{model_url}/v1")
    assert len(reranker.compress_documents([Document(page_content=text) for text in PASSAGES[:3]], QUERY)) == 3


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"query": {"text": ""}}, 400, "query"),
        ({"query": "a"}, 400, "query"),
        ({"passages": []}, 400, "passages"),
        ({"passages": ["a"]}, 400, "passages"),
        ({"passages": [{"text": "a"}] * 2049}, 400, "passages"),
        ({"passages": [{"text": "word " * 600}]}, 400, "passages"),
        ({"query": {"text": "word " * 600}}, 400, "query"),
        ({"truncate": "START"}, 400, "truncate"),
        ({"model": "gpt-9"}, 404, "model"),
    ],
)
def test_refusals(http: httpx.Client, change: dict[str, object], status: int, param: str) -> None:
    request = {"model": M, "query": {"text": "a"}, "passages": [{"text": "a"}], **change}
    answer = http.post("/v1/ranking", json=request)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


def test_tei_ranks_alike(http: httpx.Client) -> None:
    logits = ranking(http, PASSAGES)
    raw = http.post("/rerank", json={"query": QUERY, "texts": PASSAGES, "raw_scores": True}).json()
    assert [set(item) for item in raw] == [{"index", "score"}] * 4
    assert [(item["index"], pytest.approx(item["score"], abs=1e-4)) for item in raw] == logits
    scaled = http.post("/rerank", json={"query": QUERY, "texts": PASSAGES, "return_text": True}).json()
    assert [item["text"] for item in scaled] == [PASSAGES[item["index"]] for item in scaled]
    for one, other in zip(scaled, raw, strict=True):
        assert one["score"] == pytest.approx(1 / (1 + math.exp(-other["score"])), abs=1e-4)


@pytest.mark.parametrize(
    ("request_body", "status", "error_type"),
    [
        ({"query": "a", "texts": []}, 400, "Empty"),
        ({"query": "", "texts": ["a"]}, 400, "Empty"),
        ({"query": "a"}, 422, "Validation"),
        ({"query": "a", "texts": ["word " * 600]}, 413, "Validation"),
        ({"query": "a", "texts": ["a"] * 2049}, 413, "Validation"),
    ],
)
def test_teis_refusals(http: httpx.Client, request_body: dict[str, object], status: int, error_type: str) -> None:
    answer = http.post("/rerank", json=request_body)
    assert (answer.status_code, answer.json()["error_type"]) == (status, error_type)
    assert http.post("/rerank", json={"query": "a", "texts": ["word " * 600], "truncate": True}).status_code == 200


def test_words_that_are_rare_in_the_index_count_more(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(12):
        (corpus / f"{number}.txt").write_text(f"the pump number {number}\n" + ("a gasket\n" if number == 0 else ""))
    texts = ["the pump", "a gasket"]
    request = {"query": "the pump gasket", "texts": texts, "raw_scores": True}
    with (
        ragstack.open(SMALL_CONFIG, state_dir=tmp_path / "state") as pipeline,
        TestClient(create_app(pipeline)) as client,
    ):
        even = {item["index"]: item["score"] for item in client.post("/rerank", json=request).json()}
    with ragstack.open(SMALL_CONFIG, state_dir=tmp_path / "state") as pipeline:
        pipeline.index(corpus)
        with TestClient(create_app(pipeline)) as client:
            weighted = {item["index"]: item["score"] for item in client.post("/rerank", json=request).json()}
    assert weighted[1] - weighted[0] > even[1] - even[0] + 0.1


def test_a_key_with_a_filter_learns_nothing_of_the_corpus(tmp_path: Path) -> None:
    """How rare a word is in the index is told by a score; documents beyond the key's filter must not show in it."""
    (tmp_path / "a.txt").write_text("the pump\n" * 3)
    keys = KeyFile(tmp_path / "state")
    _, whole = keys.create("whole", ["query"])
    _, tenant = keys.create("tenant", ["query"], {"field": "media_type", "op": "eq", "value": "text/markdown"})
    request = {"query": "the gasket", "texts": ["the pump", "a gasket"], "raw_scores": True}
    scores: dict[str, list[object]] = {whole: [], tenant: []}
    for indexed in (False, True):
        with ragstack.open(SMALL_CONFIG, state_dir=tmp_path / "state") as pipeline:
            if indexed:
                pipeline.index(tmp_path / "a.txt")
            with TestClient(create_app(pipeline)) as client:
                for key, found in scores.items():
                    answer = client.post("/rerank", json=request, headers={"Authorization": f"Bearer {key}"})
                    assert answer.status_code == 200, answer.text
                    found.append(answer.json())
    assert scores[tenant][0] == scores[tenant][1]
    assert scores[whole][0] != scores[whole][1]


def test_keys_and_scopes_are_asked_for_in_each_dialect(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "state")
    _, writer = keys.create("writer", ["write"])
    with TestClient(create_app(ragstack.open(SMALL_CONFIG, state_dir=tmp_path / "state"))) as client:
        for path, body in (("/v1/embeddings", {"input": "a"}), ("/embed", {"inputs": "a"})):
            assert client.post(path, json=body).status_code == 401
        key = {"X-API-Key": writer}
        openai_like = client.post("/v1/embeddings", json={"input": "a"}, headers=key)
        assert (openai_like.status_code, openai_like.json()["error"]["type"]) == (403, "permission_error")
        tei_like = client.post("/embed", json={"inputs": "a"}, headers=key)
        assert (tei_like.status_code, tei_like.json()["error_type"]) == (403, "ForbiddenError")
        for path in ("/info", "/metrics"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers=key).status_code == 403
        assert client.get("/health").status_code in (200, 503)


def test_without_a_reranker_there_is_no_ranking(tmp_path: Path) -> None:
    config = {**SMALL_CONFIG, "reranker": {"type": "none"}}
    with TestClient(create_app(ragstack.open(config, state_dir=tmp_path / "state"))) as client:
        request = {"query": {"text": "a"}, "passages": [{"text": "a"}]}
        answer = client.post("/v1/ranking", json=request)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        answer = client.post("/rerank", json={"query": "a", "texts": ["a"]})
        assert (answer.status_code, answer.json()["error_type"]) == (424, "Backend")
        assert "re-ranker" in answer.json()["error"]


def test_a_ranking_of_too_many_tokens_is_refused(tmp_path: Path) -> None:
    config = {**SMALL_CONFIG, "server": {"model_server": {"max_token_vectors": 20}}}
    with TestClient(create_app(ragstack.open(config, state_dir=tmp_path / "state"))) as client:
        for texts, status in ((["word " * 10] * 2, 200), (["word " * 7] * 3, 413)):
            assert client.post("/rerank", json={"query": "word", "texts": texts}).status_code == status
        assert client.post("/embed_all", json={"inputs": "word " * 21}).status_code == 413
        assert client.post("/embed", json={"inputs": "word " * 21}).status_code == 200


def test_the_weights_of_the_config_decide(tmp_path: Path) -> None:
    config = {**SMALL_CONFIG, "reranker": {"type": "late_interaction", "maxsim_weight": 0.0, "sparse_weight": 0.0}}
    with TestClient(create_app(ragstack.open(config, state_dir=tmp_path / "state"))) as client:
        texts = ["the red pump", "a blue valve"]
        dense = np.array(client.post("/embed", json={"inputs": ["red valve", *texts]}).json())
        request = {"query": "red valve", "texts": texts, "raw_scores": True}
        found = {item["index"]: item["score"] for item in client.post("/rerank", json=request).json()}
    assert [found[0], found[1]] == pytest.approx((dense[1:] @ dense[0]).tolist(), abs=1e-5)
