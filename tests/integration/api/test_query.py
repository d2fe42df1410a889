"""Questions over HTTP: whole answers, streams, passages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

import ragstack
from ragstack.citations.chain import Chain

QUESTION = "After how many hours are the valve and its seal replaced?"


def events_of(text: str) -> list[tuple[str, Any]]:
    """The events of a stream, comments left out."""
    events = []
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith(":")]
        if lines:
            fields = dict(line.split(": ", 1) for line in lines)
            events.append((fields.get("event", "message"), json.loads(fields["data"])))
    return events


def test_an_answer_is_the_chain_that_the_pipeline_gives(client: TestClient, pipeline: ragstack.Pipeline) -> None:
    response = client.post("/v1/query", json={"query": QUESTION})
    assert response.status_code == 200
    chain = Chain.model_validate_json(response.text)
    assert "300 hours" in chain.answer.text
    assert {finding.status for finding in pipeline.verify(response.json())} == {"verified"}
    assert response.headers["x-citation-status"] == f"verified={len(chain.answer.citations)}"
    local = pipeline.query(QUESTION).chain
    assert (local.passages, local.answer, local.candidates) == (chain.passages, chain.answer, chain.candidates)


def test_a_stream_adds_up_to_the_chain(shared_client: httpx.Client) -> None:
    response = shared_client.post("/v1/query", json={"query": "valve seal log pump", "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    (first, passages), *sentences, (last, done) = events_of(response.text)
    assert (first, last) == ("passages", "done")
    assert passages["chain"]["answer"] is None
    assert passages["chain"]["passages"] == done["chain"]["passages"]
    answer = done["chain"]["answer"]
    assert [name for name, _ in sentences] == ["sentence"] * len(sentences) != []
    assert "".join(event["delta"] for _, event in sentences) == answer["text"]
    assert [event["sentence"] for _, event in sentences] == answer["sentences"]
    told = [checked for _, event in sentences for checked in event["citations"]]
    assert [checked["citation"] for checked in told] == answer["citations"]
    assert {checked["status"] for checked in told} == {"verified"}
    Chain.model_validate_json(json.dumps(done["chain"]))


def test_a_citation_of_a_changed_file_is_not_called_verified(client: TestClient, corpus: Path) -> None:
    (corpus / "valve.md").write_text("Other words.\n")
    response = client.post("/v1/query", json={"query": QUESTION})
    assert "source_changed=" in response.headers["x-citation-status"]
    assert "verified" not in response.headers["x-citation-status"]
    streamed = events_of(client.post("/v1/query", json={"query": QUESTION, "stream": True}).text)
    statuses = {c["status"] for name, event in streamed if name == "sentence" for c in event["citations"]}
    assert statuses == {"source_changed"}


def test_passages_come_without_an_answer(shared_client: httpx.Client) -> None:
    body = {"query": QUESTION, "top_n": 1, "filter": {"field": "media_type", "op": "eq", "value": "text/markdown"}}
    chain = shared_client.post("/v1/retrieve", json=body).json()
    assert chain["answer"] is None
    assert [passage["place"]["source_id"] for passage in chain["passages"]] == ["corpus/valve.md"]
    assert chain["query"]["filter"] == body["filter"]


def test_earlier_turns_are_taken(shared_client: httpx.Client) -> None:
    history = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello."}]
    response = shared_client.post("/v1/query", json={"query": QUESTION, "history": history})
    assert "300 hours" in response.json()["answer"]["text"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        ({}, 422, "query", "Field required"),
        ({"query": ""}, 422, "query", "at least 1"),
        ({"query": "  "}, 422, None, "empty"),
        ({"query": "a", "top_n": 0}, 422, "top_n", "greater"),
        ({"query": "a", "top_n": 10_000}, 422, None, "top_n"),
        ({"query": "a", "qeury": "b"}, 422, "qeury", "Extra"),
        ({"query": "a", "history": [{"role": "system", "content": "x"}]}, 422, "history.0.role", "user"),
        ({"query": "a", "filter": {"field": "colour", "op": "eq", "value": "red"}}, 422, None, "colour"),
        ({"query": "a", "filter": {"field": "seq", "op": "is", "value": 1}}, 422, None, "operator"),
    ],
)
def test_mistakes_have_one_shape_and_no_stream(
    shared_client: httpx.Client, body: dict[str, Any], status: int, param: str | None, words: str, stream: bool
) -> None:
    response = shared_client.post("/v1/query", json={**body, "stream": stream})
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"type", "message", "hint", "param", "code", "request_id"}
    assert error["param"] == param
    assert words in error["message"]
    assert error["request_id"] == response.headers["x-request-id"] != ""


def test_without_an_index_the_hint_says_what_to_do(tmp_path: Path) -> None:
    from ragstack.api.app import create_app

    with TestClient(create_app(ragstack.open({"embedder": {"type": "hashing"}}, state_dir=tmp_path / "s"))) as client:
        for path in ("/v1/query", "/v1/retrieve"):
            response = client.post(path, json={"query": "a"})
            assert response.status_code == 503
            assert "ragstack index" in response.json()["error"]["hint"]
        ready = client.get("/v1/health/ready")
        assert ready.status_code == 503
        assert [check["name"] for check in ready.json()["checks"] if not check["ok"]] == ["index"]
        assert client.get("/v1/health/live").status_code == 200
