"""Cross-encoders, remote rerankers and cascades in whole pipelines; the remote server is ragstack's own."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import ragstack
from ragstack.api.app import create_app
from ragstack.citations.chain import Chain, chain_digest
from ragstack.cli.main import main
from ragstack.config.rerankers import RemoteRerankerConfig
from ragstack.errors import ConfigError, InterruptedRunError, RerankingError
from ragstack.reranking.cross_encoder import CrossEncoderReranker
from ragstack.reranking.remote import RemoteReranker
from ragstack.retrieval.engine import QueryRequest
from tests.cross_encoder_kit import ask, by_id, candidate, write_cross_encoder
from tests.integration.harness import SMALL_CONFIG, write_corpus
from tests.servers.api import running_app
from tests.servers.rerank_replay import Answer, Seen, running

QUERY = "turn the red lever"
TEXTS = ["The lamp goes out.", "Turn the red lever twice. Wait ten seconds.", "", "weather " * 150 + "red lever"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cross_encoder(tmp_path_factory.mktemp("models") / "words-in-common")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexed") / "corpus"
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def state_dir(corpus: Path) -> Path:
    """An index with token vectors, for all configs here."""
    folder = corpus.parent / "state"
    with ragstack.open(config({"type": "late_interaction"}), state_dir=folder) as pipeline:
        pipeline.index(corpus)
    return folder


def config(reranker: dict[str, Any], **retrieval: Any) -> dict[str, Any]:
    return {**SMALL_CONFIG, "retrieval": {"min_relevance": 0.0, **retrieval}, "reranker": reranker}


def cascade(*later: tuple[dict[str, Any], int]) -> dict[str, Any]:
    stages: list[dict[str, Any]] = [{"reranker": {"type": "late_interaction"}}]
    stages += [{"reranker": reranker, "rerank_k": rerank_k} for reranker, rerank_k in later]
    return {"type": "cascade", "stages": stages}


def cross_encoder(model: Path) -> dict[str, Any]:
    return {"type": "cross_encoder", "model": str(model)}


@pytest.fixture(scope="module")
def url(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A ragstack server whose model server ranks with the cross-encoder, as the last stage of a cascade."""
    served = config(cascade((cross_encoder(model), 5)))
    with (
        ragstack.open(served, state_dir=tmp_path_factory.mktemp("server") / "state") as pipeline,
        running_app(create_app(pipeline)) as url,
    ):
        yield url


def test_a_cascade_tells_what_each_stage_said(model: Path, state_dir: Path) -> None:
    with ragstack.open(config(cascade((cross_encoder(model), 4)), rerank_k=12), state_dir=state_dir) as pipeline:
        found = pipeline.query(QUERY)
        assert {finding.status for finding in pipeline.verify(found.chain)} == {"verified"}
    chain = found.chain
    assert chain.query.reranker == "cascade(late_interaction, cross_encoder:words-in-common)"
    assert "red lever" in chain.passages[0].place.text
    depths = [len(passage.stages) for passage in chain.passages]
    assert depths == [2, 2, 2, 2, 1, 1, 1, 1]
    assert [passage.stages[1].rank for passage in chain.passages[:4]] == [1, 2, 3, 4]
    assert sorted(passage.stages[0].rank or 0 for passage in chain.passages[:4]) == [1, 2, 3, 4]
    assert [passage.stages[0].rank for passage in chain.passages[4:]] == [5, 6, 7, 8]
    assert chain.passages[0].score == chain.passages[0].stages[1].score
    scores = [passage.score for passage in chain.passages]
    assert scores == sorted(scores, reverse=True)
    read = Chain.model_validate_json(json.dumps(chain.to_json()))
    assert read == chain and read.computed_digest() == chain.digest


def test_chains_without_stages_are_as_they_were(state_dir: Path) -> None:
    with ragstack.open(config({"type": "late_interaction"}), state_dir=state_dir) as pipeline:
        chain = pipeline.query(QUERY).chain
    told = chain.to_json()
    assert "reranker_errors" not in told["query"]
    assert all("stages" not in passage for passage in told["passages"])
    assert chain_digest(told) == chain.digest


def test_a_cross_encoder_needs_no_token_vectors(model: Path, corpus: Path, tmp_path: Path, state_dir: Path) -> None:
    chosen = config(cross_encoder(model))
    with ragstack.open(chosen, state_dir=tmp_path / "state") as pipeline:
        pipeline.index(corpus)
        first = pipeline.query(QUERY)
    assert not list((tmp_path / "state").glob("tokens-*.db"))
    assert "red lever" in first.text
    # And it works at once over an index that has them.
    with ragstack.open(chosen, state_dir=state_dir) as pipeline:
        second = pipeline.query(QUERY)
    assert second.chain.query.reranker == "cross_encoder:words-in-common"
    assert [p.place.text for p in second.passages[:2]] == [p.place.text for p in first.passages[:2]]
    assert second.text == first.text


def test_a_reranker_that_the_index_has_no_token_vectors_for_waits(model: Path, corpus: Path, tmp_path: Path) -> None:
    with ragstack.open(config(cross_encoder(model)), state_dir=tmp_path / "state") as pipeline:
        pipeline.index(corpus)
    with ragstack.open(config({"type": "late_interaction"}), state_dir=tmp_path / "state") as pipeline:
        assert pipeline.query(QUERY).chain.query.reranker == "none"
        assert pipeline.engine.config_differs
        pipeline.index(corpus)
        assert pipeline.query(QUERY).chain.query.reranker == "late_interaction"


@pytest.mark.parametrize("settings", [{"api": "nim", "path": "/v1/ranking", "model": "ragstack"}, {"api": "tei"}])
def test_our_own_server_ranks_as_the_cross_encoder(url: str, model: Path, settings: dict[str, Any]) -> None:
    candidates = [candidate(f"c{index}", text) for index, text in enumerate(TEXTS)]
    expected = CrossEncoderReranker(str(model)).rerank(ask(QUERY), candidates)
    for more in ({}, {"max_batch_size": 2}):
        remote = RemoteReranker(RemoteRerankerConfig(type="remote", base_url=url, **settings, **more))
        found = remote.rerank(ask(QUERY), candidates)
        remote.close()
        assert [score.chunk_id for score in found] == [score.chunk_id for score in expected]
        assert by_id(found) == pytest.approx(by_id(expected), abs=1e-5)
        assert [s.relevance for s in found] == pytest.approx([s.relevance for s in expected], abs=1e-5)


def test_the_model_server_serves_a_cross_encoder(url: str, model: Path) -> None:
    with httpx.Client(base_url=url, timeout=30) as http:
        body = {"query": {"text": QUERY}, "passages": [{"text": text} for text in TEXTS]}
        logits = {}
        for name in ("ragstack", "cross_encoder", "cascade", str(model)):
            answer = http.post("/v1/ranking", json={**body, "model": name})
            assert answer.status_code == 200, answer.text
            logits = {item["index"]: item["logit"] for item in answer.json()["rankings"]}
        assert max(logits, key=lambda index: logits[index]) == 1
        alone = http.post("/v1/ranking", json={**body, "passages": [{"text": TEXTS[1]}]}).json()["rankings"][0]["logit"]
        assert alone == pytest.approx(logits[1], abs=1e-5)
        scores = http.post("/rerank", json={"query": QUERY, "texts": TEXTS}).json()
        assert {s["index"]: s["score"] for s in scores} == pytest.approx(
            {index: 1 / (1 + math.exp(-logit)) for index, logit in logits.items()}
        )
        assert str(model) in [m["id"] for m in http.get("/v1/models").json()["data"] if m["role"] == "reranker"]
        faults = [
            ({**body, "query": {"text": "lever " * 60}}, 400, "the query has 60 tokens"),
            ({**body, "query": {"text": ""}}, 400, "cannot be empty"),
            ({**body, "passages": []}, 400, "cannot be empty"),
            ({**body, "passages": [{"text": "a"}, {"text": "\ud800"}]}, 400, "lone surrogate"),
            ({**body, "passages": [{"text": "a"}] * 2049}, 400, "maximum allowed batch size"),
            ({**body, "passages": [{"text": "a zebra"}]}, 500, "gave nan for text 0"),
            ({**body, "model": "gpt-9"}, 404, "does not exist"),
        ]
        as_json = {"Content-Type": "application/json"}  # httpx itself cannot send a lone surrogate
        for request, status, message in faults:
            answer = http.post("/v1/ranking", content=json.dumps(request), headers=as_json)
            assert answer.status_code == status, answer.text
            assert message in answer.json()["error"]["message"]
        assert http.post("/rerank", json={"query": QUERY, "texts": ["a zebra"]}).status_code == 424


def test_langchains_reranker_takes_the_last_stage(model: Path, tmp_path: Path) -> None:
    from langchain_core.documents import Document

    from ragstack.integrations.langchain import RagstackReranker

    with ragstack.open(config(cascade((cross_encoder(model), 2))), state_dir=tmp_path / "state") as pipeline:
        documents = [Document(page_content=text) for text in TEXTS]
        found = RagstackReranker(pipeline=pipeline, top_n=3).compress_documents(documents, QUERY)
        own = pipeline.text_reranker
    expected = CrossEncoderReranker(str(model)).rerank(ask(QUERY), [candidate("a", TEXTS[1])])
    assert found[0].page_content == TEXTS[1]
    assert found[0].metadata["relevance_score"] == pytest.approx(expected[0].score, abs=1e-5)
    with pytest.raises(RerankingError, match="was closed"):
        own.rerank(ask(QUERY), [candidate("a", "a")])  # type: ignore[union-attr]


def test_a_server_that_is_down(state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running() as gone:
        address = gone.url
    down = {"type": "remote", "api": "tei", "base_url": address, "max_retries": 0}
    with ragstack.open(config(down), state_dir=state_dir) as pipeline:
        with pytest.raises(RerankingError, match=f"the reranker at {address}/rerank cannot be reached"):
            pipeline.query(QUERY)
        with running_app(create_app(pipeline)) as url, httpx.Client(base_url=url, timeout=30) as http:
            answer = http.post("/v1/query", json={"query": QUERY})
            assert (answer.status_code, answer.json()["error"]["type"]) == (502, "RerankingError")
            assert http.post("/rerank", json={"query": "a", "texts": ["a"]}).status_code == 424
    with ragstack.open(config({"type": "none"}), state_dir=state_dir) as pipeline:
        fused = pipeline.query(QUERY).chain
    kept = config({**down, "on_error": "keep_order"})
    with ragstack.open(kept, state_dir=state_dir) as pipeline:
        chain = pipeline.query(QUERY).chain
    [reason] = chain.query.reranker_errors
    assert reason.startswith(f"the reranker at {address}/rerank cannot be reached")
    assert [p.chunk_ids for p in chain.passages] == [p.chunk_ids for p in fused.passages]
    assert [p.stages[1].error for p in chain.passages] == [reason] * len(chain.passages)
    assert [p.relevance for p in chain.passages] == [p.relevance for p in fused.passages]
    (tmp_path / "c.json").write_text(json.dumps({**kept, "indexer": {**kept["indexer"], "state_dir": str(state_dir)}}))
    assert main(["query", "-c", str(tmp_path / "c.json"), QUERY]) == 0
    assert "warning: not reranked as configured: the reranker at" in capsys.readouterr().err


def test_giving_up_a_query_breaks_off_the_reranker(state_dir: Path) -> None:
    request = QueryRequest(QUERY)

    def respond(seen: Seen) -> Answer:
        request.cancellation.request()
        return Answer(b"[]", stall_s=60)

    with running() as server:
        server.answering(respond)
        slow = {"type": "remote", "api": "tei", "base_url": server.url, "max_batch_size": 100, "timeout_s": 60}
        with ragstack.open(config(slow), state_dir=state_dir) as pipeline, pytest.raises(InterruptedRunError):
            pipeline.engine.query(request)
        assert server.seen[0].client_left.wait(10)


def test_doctor_looks_at_the_rerankers(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def findings() -> list[dict[str, str]]:
        main(["doctor", "-c", str(file), "--json"])
        return [f for f in json.loads(capsys.readouterr().out)["findings"] if f["check"] == "reranker"]

    remote = {"type": "remote", "api": "tei", "base_url": "http://127.0.0.1:1"}
    stages = config(cascade((cross_encoder(model), 9), (remote, 3)))
    file = tmp_path / "c.json"
    file.write_text(json.dumps({**stages, "indexer": {"state_dir": str(tmp_path / "state")}}))
    found = findings()
    assert [f["verdict"] for f in found] == ["ok", "ok"]
    assert "reads 64 tokens" in found[0]["found"]
    assert "not asked" in found[1]["found"]
    (model / "tokenizer.json").rename(tmp_path / "aside")
    try:
        broken = findings()[0]
    finally:
        (tmp_path / "aside").rename(model / "tokenizer.json")
    assert broken["verdict"] == "fail"
    assert "a file of the cross-encoder cannot be read" in broken["found"]


def test_a_slow_reranker_does_not_hold_up_other_queries(state_dir: Path) -> None:
    """Each answer waits until every query has asked: one at a time they would wait for ever."""
    together = threading.Barrier(4)

    def respond(seen: Seen) -> Answer:
        together.wait(20)
        return Answer([{"index": index, "score": float(index)} for index in range(len(seen.body["texts"]))])

    with running() as server:
        server.answering(respond)
        slow = {"type": "remote", "api": "tei", "base_url": server.url, "max_batch_size": 100, "max_retries": 0}
        with ragstack.open(config(slow), state_dir=state_dir) as pipeline, ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: pipeline.query(QUERY), range(4)))
        assert len({result.passages[0].chunk_ids for result in found}) == 1


def test_erasing_waits_for_queries_that_are_reranked(corpus: Path, tmp_path: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def respond(seen: Seen) -> Answer:
        asked.set()
        go_on.wait(20)
        scores = enumerate(float("lever" in text) for text in seen.body["texts"])
        return Answer([{"index": index, "score": score} for index, score in scores])

    with running() as server:
        server.answering(respond)
        slow = {"type": "remote", "api": "tei", "base_url": server.url, "max_batch_size": 100, "max_retries": 0}
        with ragstack.open(config(slow), state_dir=tmp_path / "s") as pipeline, ThreadPoolExecutor(2) as pool:
            pipeline.index(corpus)
            assert pipeline.engine
            query = pool.submit(pipeline.query, QUERY)
            assert asked.wait(20)
            erasing = pool.submit(pipeline.erase, "corpus/guide.md")
            assert not erasing.done()
            go_on.set()
            assert "lever" in query.result().passages[0].place.text
            assert erasing.result().erased
            assert all(p.place.source_id != "corpus/guide.md" for p in pipeline.query(QUERY).passages)


def test_chunks_that_the_cross_encoder_cannot_read_are_a_mistake_in_the_config(model: Path, tmp_path: Path) -> None:
    strict = {**config({**cross_encoder(model), "long_passages": "error"}), "chunker": {"max_tokens": 64}}
    (tmp_path / "a.txt").write_text("a pump")
    told = r"chunker\.max_tokens: 64 is too much for the 64 tokens that words-in-common"
    with ragstack.open(strict, state_dir=tmp_path / "state") as pipeline, pytest.raises(ConfigError, match=told):
        pipeline.index(tmp_path / "a.txt")
    with ragstack.open({**strict, "chunker": {"max_tokens": 40}}, state_dir=tmp_path / "state") as pipeline:
        assert pipeline.index(tmp_path / "a.txt").exit_status == 0
