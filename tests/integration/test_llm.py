"""The OpenAI generator on a real language model: llama.cpp's server and Gemma 3 270M.

The model is too weak to answer. Where a test needs certain words, a grammar (llama.cpp's own field) leaves it no
others; they still come token by token, from the model's vocabulary, over llama.cpp's wire.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from ragstack.errors import GenerationError
from ragstack.generation import prompt
from ragstack.generation.base import AnswerEnd, AnswerSentence, Turn
from ragstack.generation.openai import OpenAIGenerator
from tests.generation_kit import TAG, answer, generator, passages, question, quoted, shown
from tests.servers.llm import API_KEY, MODEL, LlmServer, running_server

ENDLESS = {"grammar": 'root ::= ("The dome closes in wind. [qzvk:2] "){200}'}
"""Far more than is read of it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlmServer]:
    with running_server(tmp_path_factory.mktemp("llm")) as running:
        yield running


@pytest.fixture(autouse=True)
def known_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grammar must know the tag before the prompt is made."""
    monkeypatch.setattr(prompt, "draw_tag", lambda _: TAG)


def made(server: LlmServer, text: str | None = None, **settings: Any) -> OpenAIGenerator:
    """A generator with a short prompt; with ``text`` the model can write nothing else."""
    rules = {"system": "Cite passages like {marker}."}
    extra = {} if text is None else {"grammar": f"root ::= {json.dumps(text, ensure_ascii=False)}"}
    defaults = {"api_key": API_KEY, "model": MODEL, "max_tokens": 100, "prompt": rules, "extra_body": extra}
    patience = {"first_token_timeout_s": 300, "stall_timeout_s": 120, "timeout_s": 600}
    return generator(server.base_url, **{**defaults, **patience, **settings})


def test_markers_arrive_token_by_token_and_are_resolved(server: LlmServer) -> None:
    text = "Kept for 400 days [qzvk:1]. The dome 水泵 closes [12]. [qzvk:2] [qzvk:8]"
    with closing(made(server, text)) as model:
        sentences, end = answer(model)
    assert end.error is None
    assert shown(sentences) == "Kept for 400 days. [1] The dome 水泵 closes (12). [2]"
    assert quoted(sentences[0], passages()) == ["Raw images are kept for 400 days."]
    assert (end.dropped_markers, end.truncated) == (1, False)
    assert end.prompt_tokens is not None and end.completion_tokens is not None
    assert 100 < end.prompt_tokens < 400
    assert 20 < end.completion_tokens <= 60


def test_plain_markers_and_no_answer(server: LlmServer) -> None:
    with closing(made(server, "They are kept for 400 days [1].", marker_form="plain")) as model:
        assert shown(answer(model)[0]) == "They are kept for 400 days. [1]"
    with closing(made(server, "[qzvk:none]")) as model:
        sentences, end = answer(model)
    assert (sentences, end.error) == ([], None)


def test_what_the_model_writes_by_itself_is_read(server: LlmServer) -> None:
    """Whatever it says: sentences without citations that do not hold, and a cut where the tokens end."""
    with closing(made(server, max_tokens=24, seed=1)) as model:
        sentences, end = answer(model)
    assert end.error is None
    assert end.truncated is (end.completion_tokens == 24)
    assert all(quoted(sentence, passages()) or not sentence.quotes for sentence in sentences)


@pytest.mark.parametrize("structured_output", ["json_schema", "json_object"])
def test_structured_output(structured_output: str, server: LlmServer) -> None:
    """The server holds the weak model to the JSON, or to as much of it as fits the tokens."""
    rules = {"system": 'Answer as {{"claims": [{{"text": "", "quotes": [{{"passage": 1, "quote": ""}}]}}]}}'}
    settings: dict[str, Any] = {"mode": "quotes", "structured_output": structured_output, "max_tokens": 24}
    with closing(made(server, prompt=rules, **settings)) as model:
        sentences, end = answer(model)
    assert all(quoted(sentence, passages()) or not sentence.quotes for sentence in sentences)
    if structured_output == "json_schema":
        assert end.error is None
    else:  # any JSON object may come
        assert end.error is None or "did not answer with claims" in str(end.error)


def test_quotes_are_verified(server: LlmServer) -> None:
    quotes = [{"passage": 1, "quote": "kept for 400 days"}, {"passage": 2, "quote": "not there"}]
    claims = {"claims": [{"text": "Images stay.", "quotes": quotes}]}
    with closing(made(server, json.dumps(claims), mode="quotes", structured_output="none")) as model:
        sentences, end = answer(model)
    assert [(s.text, quoted(s, passages())) for s in sentences] == [("Images stay.", ["kept for 400 days"])]
    assert (end.dropped_quotes, end.error) == (1, None)


def test_leaving_frees_the_server(server: LlmServer) -> None:
    with closing(made(server, max_tokens=4000, extra_body=ENDLESS)) as model:
        events = model.stream(question(), passages())
        assert isinstance(next(events), AnswerSentence)
        assert busy_slots(server) == 1
        events.close()
        deadline = time.monotonic() + 20
        while busy_slots(server) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert busy_slots(server) == 0


def test_a_conversation_is_condensed(server: LlmServer) -> None:
    history = [Turn("user", "How long are images kept?"), Turn("assistant", "For 400 days. [1]")]
    with closing(made(server, "How long are flat fields kept?")) as model:
        assert model.condense(history, "And flat fields?") == "How long are flat fields kept?"


def test_refused(server: LlmServer) -> None:
    with closing(made(server, api_key="sk-wrong-key")) as model:
        error = answer(model)[1].error
    assert isinstance(error, GenerationError)
    assert "refused the key (status 401)" in error.message
    assert "wrong-key" not in str(error)
    with closing(generator(server.base_url.replace("/v1", "/v2"), api_key=API_KEY)) as model:
        assert "(status 404)" in str(answer(model)[1].error)
    long = passages(["a, " * 4000] * 3)
    with closing(made(server, max_context_tokens=100_000)) as model:
        (end,) = model.stream(question(), long)
    assert isinstance(end, AnswerEnd)
    assert "(status 400)" in str(end.error)
    assert "max_context_tokens" in str(end.error)


def test_a_server_killed_in_mid_answer(server: LlmServer) -> None:
    """The last of these tests: their server is gone afterwards."""
    with closing(made(server, max_tokens=4000, extra_body=ENDLESS)) as model:
        events = model.stream(question(), passages())
        assert isinstance(next(events), AnswerSentence)
        server.process.kill()
        *sentences, end = events
        assert isinstance(end, AnswerEnd)
        assert "cannot be reached, or the connection broke" in str(end.error)
        assert all(isinstance(s, AnswerSentence) and s.text == "The dome closes in wind." for s in sentences)
        assert "cannot be reached" in str(answer(model)[1].error)


def busy_slots(server: LlmServer) -> int:
    """How many requests the server works on."""
    request = urllib.request.Request(
        server.base_url.replace("/v1", "/slots"), headers={"Authorization": f"Bearer {API_KEY}"}
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        return sum(slot["is_processing"] for slot in json.load(reply))
