"""Answers of a language model over HTTP: streamed, broken off, given up. The model is replayed; the rest is real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

import ragstack
from ragstack.api.app import create_app
from tests.integration.api.test_query import events_of
from tests.integration.harness import SMALL_CONFIG
from tests.servers.api import running_app
from tests.servers.llm_replay import Cut, Pause, ReplayServer, Reply, deltas, problem, running, whole

QUESTION = "How many bar does the pump of line seven run at?"
ASKED = [{"role": "user", "content": QUESTION}]
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def model() -> Iterator[ReplayServer]:
    with running() as replay:
        yield replay


@pytest.fixture(scope="module")
def url(model: ReplayServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("llm")
    (folder / "corpus").mkdir()
    (folder / "corpus" / "pump.txt").write_text("The pump of line seven runs at 40 bar. It is checked on Mondays.\n")
    (folder / "corpus" / "valve.txt").write_text("The valve is replaced after 300 hours of service.\n")
    config = {
        **SMALL_CONFIG,
        "retrieval": {"min_relevance": 0.0},
        "generator": {"type": "openai", "base_url": model.base_url, "model": "m", "api_key": "sk-secret"},
    }
    with ragstack.open(config, state_dir=folder / "state") as pipeline:
        pipeline.index(folder / "corpus")
        with running_app(create_app(pipeline)) as served:
            yield served


def test_an_answer_streams_with_its_markers_resolved(model: ReplayServer, url: str) -> None:
    model.reply(whole("The pump runs at 40 ", "bar [{tag}", ":1]. It is blue [12]. [{tag}:99]"))
    events = events_of(httpx.post(f"{url}/v1/query", json={"query": QUESTION, "stream": True}).text)
    (first, _), *sentences, (last, done) = events
    assert (first, last) == ("passages", "done")
    answer = done["chain"]["answer"]
    assert answer["text"] == "".join(event["delta"] for _, event in sentences)
    assert answer["text"].startswith("The pump runs at 40 bar. [1] It is blue (12).")
    assert answer["dropped_markers"] == 1
    assert [checked["status"] for _, event in sentences for checked in event["citations"]] == ["verified"]


def test_a_chat_counts_the_models_tokens(model: ReplayServer, url: str) -> None:
    model.reply(whole("The pump runs at 40 bar [{tag}:1].", finish_reason="length"))
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        completion = client.chat.completions.create(model="ragstack", messages=ASKED)
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (120, 34)
    assert completion.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    "reply",
    [
        Reply([*deltas("The pump runs at 40 bar [{tag}:1]. It is"), Cut()]),
        Reply([Cut()]),
        problem(500, "out of memory"),
    ],
)
def test_a_model_killed_in_mid_stream_leaves_passages_and_an_error(model: ReplayServer, url: str, reply: Reply) -> None:
    model.reply(reply)
    chain = httpx.post(f"{url}/v1/query", json={"query": QUESTION}, timeout=PATIENCE_S).json()
    assert chain["passages"][0]["place"]["source_id"] == "corpus/pump.txt"
    assert chain["answer"]["error"]["message"]
    streamed = httpx.post(f"{url}/v1/query", json={"query": QUESTION, "stream": True}, timeout=PATIENCE_S)
    events = events_of(streamed.text)
    assert (events[0][0], events[-1][0]) == ("passages", "done")
    assert events[-1][1]["chain"]["answer"]["error"]["message"]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.APIStatusError) as raised:
            client.chat.completions.create(model="ragstack", messages=ASKED)
        assert raised.value.status_code == 502
        with pytest.raises(openai.APIError):
            list(client.chat.completions.create(model="ragstack", messages=ASKED, stream=True))
    assert "sk-secret" not in streamed.text + str(raised.value)


def test_leaving_closes_the_request_to_the_model(model: ReplayServer, url: str) -> None:
    model.reply(Reply([*deltas("The pump runs at 40 bar [{tag}:1]. The night shift checks it"), Pause(PATIENCE_S)]))
    with httpx.stream("POST", f"{url}/v1/query", json={"query": QUESTION, "stream": True}) as response:
        for line in response.iter_lines():
            if line == "event: sentence":
                break
    (seen,) = model.seen
    assert seen.client_left.wait(PATIENCE_S)


def test_a_conversation_is_condensed(model: ReplayServer, url: str) -> None:
    model.reply(whole("How many bar does the pump run at?"), whole("40 bar [{tag}:1]."))
    history = [{"role": "user", "content": "Tell me of the pump."}, {"role": "assistant", "content": "It is checked."}]
    chain = httpx.post(f"{url}/v1/query", json={"query": "And its pressure?", "history": history}).json()
    assert chain["query"]["text"] == "And its pressure?"
    assert chain["query"]["search_text"] == "How many bar does the pump run at?"
    assert "Tell me of the pump." in json.dumps(model.seen[0].body)
    model.reply(problem(503, "busy"))
    refused = httpx.post(f"{url}/v1/query", json={"query": "And?", "history": history}, timeout=PATIENCE_S)
    assert (refused.status_code, refused.json()["error"]["type"]) == (502, "GenerationError")


def test_readiness_tells_of_the_models_address(url: str, tmp_path: Path) -> None:
    checks = httpx.get(f"{url}/v1/health/ready").json()["checks"]
    assert [check["ok"] for check in checks if check["name"] == "generator"] == [True]
