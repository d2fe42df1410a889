"""OpenAI's own client talks to the corpus by its base URL alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

QUESTION = "After how many hours are the valve and its seal replaced?"


@pytest.fixture(scope="module")
def chat(shared_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{shared_url}/v1", api_key="none") as client:
        yield client


def asked(content: Any) -> list[Any]:
    return [{"role": "user", "content": content}]


def test_the_answer_comes_with_its_citations(chat: openai.OpenAI) -> None:
    completion = chat.chat.completions.create(model="ragstack", messages=asked(QUESTION), temperature=0, max_tokens=64)
    (choice,) = completion.choices
    assert "300 hours" in choice.message.content
    assert "[1]" in choice.message.content
    assert choice.finish_reason == "stop"
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens > 0
    citation, *_ = choice.message.citations
    assert citation["status"] == "verified"
    assert citation["citation"]["place"]["text"] in choice.message.content
    assert len(choice.message.chain_digest) == 64
    assert completion.id.startswith("chatcmpl-")


def test_a_stream_tells_the_same(chat: openai.OpenAI) -> None:
    messages = asked("valve seal log pump")
    whole = chat.chat.completions.create(model="ragstack", messages=messages).choices[0].message
    stream = chat.chat.completions.create(
        model="ragstack", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last, usage = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == whole.content
    told = [c for delta in deltas for c in (delta.model_extra or {}).get("citations", [])]
    assert told == whole.citations == last.citations
    assert last.choices[0].finish_reason == "stop"
    assert len(last.chain_digest) == 64
    assert usage.choices == []
    assert usage.usage.completion_tokens > 0
    assert {chunk.usage for chunk in [*chunks, last]} == {None}


def test_the_clients_own_accumulator_puts_citations_together(chat: openai.OpenAI) -> None:
    with chat.chat.completions.stream(model="ragstack", messages=asked("valve seal log pump")) as stream:
        completion = stream.get_final_completion()
    whole = chat.chat.completions.create(model="ragstack", messages=asked("valve seal log pump"))
    assert completion.choices[0].message.content == whole.choices[0].message.content
    assert completion.choices[0].message.citations == whole.choices[0].message.citations


def test_history_system_messages_and_parts_are_read(chat: openai.OpenAI) -> None:
    messages = [
        {"role": "system", "content": "Answer in verse."},
        *asked("Hello"),
        {"role": "assistant", "content": "Hello."},
        *asked([{"type": "text", "text": QUESTION}]),
    ]
    assert "300 hours" in chat.chat.completions.create(model="ragstack", messages=messages).choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
def test_what_nothing_answers_is_said_in_a_sentence(chat: openai.OpenAI, stream: bool) -> None:
    extra = {"filter": {"field": "source_id", "op": "eq", "value": "none"}}
    found = chat.chat.completions.create(
        model="ragstack", messages=asked("Why?"), stream=stream, extra_body=extra, top_p=1
    )
    if stream:
        chunks = list(found)
        content = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        citations = chunks[-1].citations
    else:
        content, citations = found.choices[0].message.content, found.choices[0].message.citations
    assert content == "Nothing in the corpus answers this."
    assert citations == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("request_", "error", "param", "code"),
    [
        ({"model": "gpt-4o"}, openai.NotFoundError, "model", "model_not_found"),
        ({"n": 2}, openai.BadRequestError, "n", "unsupported_parameter"),
        ({"logprobs": True}, openai.BadRequestError, "logprobs", "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, openai.BadRequestError, "response_format", None),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError, "tools", None),
        ({"messages": []}, openai.BadRequestError, "messages", None),
        ({"messages": [{"role": "assistant", "content": "x"}]}, openai.BadRequestError, "messages.0.role", None),
        ({"messages": [{"role": "user", "content": "  "}]}, openai.BadRequestError, "messages.0.content", None),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
            openai.BadRequestError,
            "messages.0.content.0",
            "unsupported_parameter",
        ),
        ({"extra_body": {"filter": {"field": "colour", "op": "eq", "value": 1}}}, openai.BadRequestError, None, None),
    ],
)
def test_mistakes_are_the_clients_own_errors(
    chat: openai.OpenAI,
    request_: dict[str, Any],
    error: type[openai.APIStatusError],
    param: str | None,
    code: str | None,
    stream: bool,
) -> None:
    with pytest.raises(error) as raised:
        chat.chat.completions.create(**{"model": "ragstack", "messages": asked("a"), "stream": stream, **request_})
    assert raised.value.param == param
    assert code in (None, raised.value.code)
    assert raised.value.type == "invalid_request_error"
    assert raised.value.request_id == raised.value.body["request_id"]


def test_models_are_listed(chat: openai.OpenAI) -> None:
    assert {model.id: model.role for model in chat.models.list()} == {
        "ragstack": "pipeline",
        "hashing": "embedder",
        "late_interaction": "reranker",
    }
    assert chat.models.retrieve("ragstack").id == "ragstack"
    with pytest.raises(openai.NotFoundError):
        chat.models.retrieve("org/other")
