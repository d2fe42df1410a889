"""The OpenAI generator over HTTP: recorded answers cut anywhere, every fault of a server, cancellation, secrets."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from ragstack.cancellation import Cancellation
from ragstack.errors import GenerationError, InterruptedRunError
from ragstack.generation.base import AnswerEnd, AnswerSentence, Turn
from ragstack.generation.openai import OpenAIGenerator
from tests.generation_kit import TEXTS, answer, generator, passages, question, quoted, shown
from tests.servers.base import free_port
from tests.servers.llm_replay import Cut, Pause, ReplayServer, Reply, deltas, ending, event, problem, running, whole

TEXT = "Raw images are kept for 400 days. [{tag}:1] The dome closes in wind 👩‍🔧 [{tag}:2]. Invented. [{tag}:9]"
SHOWN = "Raw images are kept for 400 days. [1] The dome closes in wind 👩‍🔧. [2] Invented."
FIRST = "Raw images are kept for 400 days. [{tag}:1] The dome closes "


@pytest.fixture(scope="module")
def server() -> Iterator[ReplayServer]:
    with running() as replay:
        yield replay


@pytest.fixture
def model(server: ReplayServer) -> Iterator[OpenAIGenerator]:
    made = generator(server.base_url, api_key="sk-very-secret", first_token_timeout_s=5)
    yield made
    made.close()


def test_an_answer_comes_with_quotes_and_counts(server: ReplayServer, model: OpenAIGenerator) -> None:
    server.reply(whole(TEXT))
    sentences, end = answer(model)
    assert shown(sentences) == SHOWN
    assert quoted(sentences[0], passages()) == ["Raw images are kept for 400 days."]
    assert end == AnswerEnd(dropped_markers=1, prompt_tokens=120, completion_tokens=34)
    (seen,) = server.seen
    assert seen.path == "/v1/chat/completions"
    assert seen.headers["authorization"] == "Bearer sk-very-secret"
    body = seen.body
    assert (body["model"], body["stream"], body["stream_options"]) == ("default", True, {"include_usage": True})
    assert (body["temperature"], body["max_tokens"]) == (0.0, 1024)
    assert {"seed", "response_format", "max_completion_tokens"}.isdisjoint(body)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_the_wire_may_cut_anywhere(server: ReplayServer, model: OpenAIGenerator) -> None:
    """Deltas of one character, a body of one byte at a time, surrogates apart, comments, CRLF."""
    parts = re.split(r"(\{tag\})", TEXT)
    single = [letter for part in parts for letter in ([part] if part == "{tag}" else part)]
    server.reply(whole(*single))
    assert shown(answer(model)[0]) == SHOWN
    every_byte = [bytes([byte]) for byte in b"".join([*deltas("Yes, 👩‍🔧 [1] 水泵 "), *ending()])]
    server.reply(Reply(every_byte))
    assert shown(answer(model)[0]) == "Yes, 👩‍🔧 (1) 水泵"
    crlf = b": keep-alive\r\n\r\n" + b"".join([*deltas("Yes."), *ending()]).replace(b"\n\n", b"\r\n\r\n")
    server.reply(Reply([crlf]))
    assert shown(answer(model)[0]) == "Yes."
    halves = [b'data: {"choices":[{"index":0,"delta":{"content":"Yes \\ud83d"}}]}\n\n', *deltas("\ude00 no.")]
    server.reply(Reply([*halves, *ending()]))
    assert shown(answer(model)[0]) == "Yes 😀 no."


def test_sentences_come_while_the_model_still_writes(server: ReplayServer, model: OpenAIGenerator) -> None:
    server.reply(Reply([*deltas(FIRST + "in wind"), Pause(30)]))
    events = model.stream(question(), passages())
    first = next(events)
    assert isinstance(first, AnswerSentence)
    assert first.text == "Raw images are kept for 400 days."
    assert not server.seen[0].client_left.is_set()
    events.close()
    assert server.seen[0].client_left.wait(5)
    with pytest.raises(StopIteration):
        next(events)


def test_an_iterator_that_is_thrown_away_closes_the_connection(server: ReplayServer, model: OpenAIGenerator) -> None:
    server.reply(Reply([*deltas(FIRST + "in wind"), Pause(30)]))
    for _ in model.stream(question(), passages()):
        break
    gc.collect()
    assert server.seen[0].client_left.wait(5)


def test_whoever_waits_for_the_first_token_can_be_woken(server: ReplayServer, model: OpenAIGenerator) -> None:
    server.reply(Reply([Pause(30)]))
    cancellation = Cancellation()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(list, model.stream(replace(question(), cancellation=cancellation), passages()))
        while not server.seen:
            time.sleep(0.01)
        cancellation.request()
        with pytest.raises(InterruptedRunError):
            waiting.result(5)
    assert server.seen[0].client_left.wait(5)
    with pytest.raises(InterruptedRunError):
        list(model.stream(replace(question(), cancellation=cancellation), passages()))
    assert len(server.seen) == 1


def test_closing_the_generator_breaks_off_and_says_so(server: ReplayServer) -> None:
    made = generator(server.base_url)
    server.reply(Reply([*deltas(FIRST + "in wind"), Pause(30)]))
    events = made.stream(question(), passages())
    next(events)
    made.close()
    made.close()
    assert server.seen[0].client_left.wait(5)
    (end,) = events
    assert isinstance(end, AnswerEnd)
    assert "was closed" in str(end.error)
    assert "was closed" in str(answer(made)[1].error)


@pytest.mark.parametrize(
    ("reply", "message", "hint"),
    [
        (problem(401, "Incorrect API key provided: sk-very-secret."), "refused the key (status 401)", "api_key"),
        (problem(403, "no"), "refused the key (status 403): no", "api_key"),
        (problem(404, "The model `x` does not exist"), "(status 404): The model `x` does not exist", "base_url"),
        (problem(400, "context length is 4096"), "(status 400): context length is 4096", "max_context_tokens"),
        (problem(422, "bad"), "did not accept the request (status 422)", "max_tokens_field"),
        (problem(429, "slow down"), "has no room or no quota left (status 429): slow down", "quota"),
        (problem(500, "boom " * 500), "failed (status 500): boom", "log"),
        (problem(503, ""), "failed (status 503).", "log"),
        (Reply([b"<html>not json</html>"], 502, {"Content-Type": "text/html"}), "failed (status 502)", "log"),
        (Reply([b"<html>a page</html>"], 200, {"Content-Type": "text/html"}), "not with a stream", "base_url"),
        (Reply([b'{"choices": [{"message": {"content": "x"}}]}']), "not with a stream", "base_url"),
        (Reply([]), "not with a stream", "base_url"),
        (Reply([b"data: {not json\n\n"]), "no stream of a chat completion", "base_url"),
        (Reply([b"data: [1, 2]\n\n", b"data: 5\n\n"]), "", ""),
        (Reply([b"data: \xff\xfe\n\n"]), "no stream of a chat completion", "base_url"),
        (Reply([Cut()]), "cannot be reached, or the connection broke", "curl"),
    ],
)
def test_a_server_that_fails_gives_an_error_and_no_sentence(
    reply: Reply, message: str, hint: str, server: ReplayServer, model: OpenAIGenerator
) -> None:
    server.reply(reply)
    sentences, end = answer(model)
    assert sentences == []
    assert isinstance(end.error, GenerationError)
    assert message in end.error.message
    assert hint in end.error.hint
    assert f"default at {server.base_url}" in end.error.message
    assert len(end.error.message) < 500
    assert "very-secret" not in repr(end.error) + str(end.error) + repr(end.error.__cause__)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([Cut()], "the connection broke"),
        ([], "ended the stream before the answer ended"),
        ([b"data: {broken\n\n"], "no stream of a chat completion"),
        ([b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'], "broke off with an error: out of memory"),
        ([Pause(30)], "stopped for 0.3 s in its answer"),
        ([b": keep-alive\n\n", Pause(0.2)] * 20, "stopped for 0.3 s in its answer"),
        ([event({}), Pause(0.2)] * 20, "stopped for 0.3 s in its answer"),
        ([event({"content": "x"}), Pause(0.2)] * 40, "did not end its answer within 1.5 s"),
        ([event({}, "content_filter"), *ending()[1:]], "content filter"),
        (deltas("x" * 1_000_001), "went on beyond 1,000,000 characters"),
    ],
    ids=range(10),
)
def test_a_server_that_fails_in_mid_answer_keeps_the_sentences_before(
    parts: list[Any], message: str, server: ReplayServer
) -> None:
    made = generator(server.base_url, stall_timeout_s=0.3, timeout_s=1.5)
    server.reply(Reply([*deltas(FIRST), *parts]))
    try:
        sentences, end = answer(made)
    finally:
        made.close()
    assert shown(sentences) == "Raw images are kept for 400 days. [1]"
    assert isinstance(end.error, GenerationError)
    assert message in end.error.message
    assert end.truncated is False


def test_a_slow_first_token(server: ReplayServer) -> None:
    made = generator(server.base_url, first_token_timeout_s=0.3)
    for reply in (Reply([Pause(30)]), Reply([event({"role": "assistant"}), Pause(30)])):
        server.reply(reply)
        sentences, end = answer(made)
        assert (sentences, "did not begin to answer within 0.3 s" in str(end.error)) == ([], True)
        assert server.seen[0].client_left.wait(5)
    made.close()


def test_no_server() -> None:
    made = generator(f"http://127.0.0.1:{free_port()}/v1")
    error = answer(made)[1].error
    assert "cannot be reached" in str(error)
    assert "curl http://127.0.0.1" in str(error)
    made.close()


def test_a_passing_fault_is_tried_again(server: ReplayServer) -> None:
    made = generator(server.base_url, max_retries=2)
    server.reply(
        problem(500, "boom", **{"Retry-After-Ms": "1"}), problem(429, "x", **{"Retry-After-Ms": "1"}), whole(TEXT)
    )
    assert shown(answer(made)[0]) == SHOWN
    assert len(server.seen) == 3
    made.close()


def test_an_answer_that_is_whole_needs_nothing_after_it(server: ReplayServer, model: OpenAIGenerator) -> None:
    for parts in ([Cut()], [], [b"data: {broken\n\n"]):
        server.reply(Reply([*deltas(TEXT), event({}, "stop"), *parts]))
        sentences, end = answer(model)
        assert (shown(sentences), end.error, end.prompt_tokens) == (SHOWN, None, None)


def test_an_answer_that_was_cut_off_says_so(server: ReplayServer, model: OpenAIGenerator) -> None:
    server.reply(whole("Raw images are kept. [{tag}:1] The dome must", finish_reason="length"))
    sentences, end = answer(model)
    assert (shown(sentences), end.truncated, end.error) == ("Raw images are kept. [1] The dome must", True, None)


@pytest.mark.parametrize(
    "reply",
    [
        whole("[{tag}:none]"),
        whole("The passages do not say. ", "[{tag}:none]"),
        whole(""),
        whole(" \n"),
        Reply([event({"refusal": "I can't help with that."}), *ending()]),
        Reply([event({"reasoning_content": "Hm."}), event({"content": None}), *ending()]),
    ],
    ids=range(6),
)
def test_no_answer_gives_no_sentence_and_no_error(reply: Reply, server: ReplayServer, model: OpenAIGenerator) -> None:
    server.reply(reply)
    assert answer(model) == ([], AnswerEnd(prompt_tokens=120, completion_tokens=34))


def test_a_model_that_goes_on_after_no_answer_is_stopped(server: ReplayServer, model: OpenAIGenerator) -> None:
    server.reply(Reply([*deltas("[{tag}:none]", " But I could guess."), Pause(30)]))
    assert answer(model) == ([], AnswerEnd())
    assert server.seen[0].client_left.wait(5)


def test_without_passages_the_model_is_not_asked(server: ReplayServer, model: OpenAIGenerator) -> None:
    server.reply(whole(TEXT))
    assert list(model.stream(question(), [])) == [AnswerEnd()]
    assert server.seen == []


def test_passages_that_do_not_fit_are_named(server: ReplayServer) -> None:
    made = generator(server.base_url, max_context_tokens=600, max_tokens=20, prompt={"system": "Cite {marker}."})
    server.reply(whole("Yes. [{tag}:2] [{tag}:1]"))
    texts = [TEXTS[0], "long " * 400, TEXTS[1]]
    *_, end = made.stream(question(), passages(texts))
    assert isinstance(end, AnswerEnd)
    assert (end.left_out, end.dropped_markers) == ((2,), 1)  # what is not in the prompt can't be cited
    (end,) = made.stream(question(), passages(["long " * 4000]))
    assert isinstance(end, AnswerEnd)
    assert (end.left_out, "no passage fits" in str(end.error)) == ((1,), True)
    made.close()


CLAIMS = json.dumps(
    {
        "claims": [
            {"text": "Images stay.", "quotes": [{"passage": 1, "quote": "are kept for 400 days"}]},
            {"text": "Domes close.", "quotes": [{"passage": 2, "quote": "made up words here"}]},
        ]
    }
)


@pytest.mark.parametrize("structured_output", ["json_schema", "json_object", "none"])
def test_mode_quotes(structured_output: str, server: ReplayServer) -> None:
    made = generator(server.base_url, mode="quotes", structured_output=structured_output)
    server.reply(whole(*[CLAIMS[at : at + 3] for at in range(0, len(CLAIMS), 3)]))
    claims, end = answer(made)
    assert [(s.text, quoted(s, passages())) for s in claims] == [
        ("Images stay.", ["are kept for 400 days"]),
        ("Domes close.", []),
    ]
    assert (end.dropped_quotes, end.error) == (1, None)
    asked = server.seen[0].body.get("response_format")
    assert (asked or {}).get("type") == (None if structured_output == "none" else structured_output)
    if structured_output == "json_schema":
        assert asked["json_schema"]["strict"] is True
        assert asked["json_schema"]["schema"]["required"] == ["claims"]
    server.reply(whole(CLAIMS[:70]))
    none, end = answer(made)
    assert (none, "its JSON has no end" in str(end.error)) == ([], True)
    server.reply(whole(CLAIMS[:100], finish_reason="length"))
    claims, end = answer(made)
    assert (len(claims), end.truncated, end.error) == (1, True, None)
    made.close()


def test_settings_reach_the_request(server: ReplayServer) -> None:
    made = generator(
        server.base_url + "/",
        model="gpt-x",
        max_tokens_field="max_completion_tokens",
        max_tokens=77,
        temperature=None,
        seed=5,
        stream_usage=False,
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
        prompt={
            "system": "Rules {marker}",
            "user": "{question}\n<passage {tag} x\n{passages}",
            "passage": "{tag}{number}{text}",
        },
    )
    server.reply(whole("Yes."))
    answer(made, "What {x}?")
    body = server.seen[0].body
    assert (body["model"], body["max_completion_tokens"], body["seed"]) == ("gpt-x", 77, 5)
    assert {"temperature", "stream_options", "max_tokens"}.isdisjoint(body)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["messages"][1]["content"].startswith("What {x}?\n<passage ")
    assert server.seen[0].path == "/v1/chat/completions"
    made.close()


def test_the_environments_key_goes_nowhere(server: ReplayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    made = generator(server.base_url)
    server.reply(whole("Yes."))
    answer(made)
    assert server.seen[0].headers["authorization"] == "Bearer none"
    assert "of-the-environment" not in str(server.seen[0].headers)
    made.close()


def test_neither_key_nor_documents_are_logged(
    server: ReplayServer, model: OpenAIGenerator, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        server.reply(whole(TEXT))
        answer(model)
        server.reply(problem(401, "Incorrect API key provided: sk-very-secret."))
        answer(model)
    assert "very-secret" not in caplog.text
    assert "400 days" not in caplog.text


HISTORY = [Turn("user", "How long are raw images kept?"), Turn("assistant", "For 400 days. [1]")]


def test_a_question_is_worded_so_that_it_stands_alone(server: ReplayServer, model: OpenAIGenerator) -> None:
    server.reply(whole("<think>Hm.</think>\n How long are\nflats kept? "))
    assert model.condense(HISTORY, "And flats?") == "How long are flats kept?"
    content = server.seen[0].body["messages"][0]["content"]
    assert "User: How long are raw images kept?\nAssistant: For 400 days. [1]" in content
    assert content.endswith("Message: And flats?")
    assert "response_format" not in server.seen[0].body
    server.reply(whole("unused"))
    assert model.condense([], "And flats?") == "And flats?"
    assert server.seen == []


@pytest.mark.parametrize(
    "reply",
    [whole(""), whole("x" * 3000), whole("How", finish_reason="length"), problem(500, "boom"), Reply([Cut()])],
    ids=range(5),
)
def test_a_question_that_cannot_be_worded_is_an_error(
    reply: Reply, server: ReplayServer, model: OpenAIGenerator
) -> None:
    server.reply(reply)
    with pytest.raises(GenerationError) as raised:
        model.condense(HISTORY, "And flats?")
    assert raised.value.__cause__ is None


def test_a_mistake_in_the_code_is_no_answer(
    server: ReplayServer, model: OpenAIGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a mistake")

    monkeypatch.setattr(model._client, "_options", broken)
    with pytest.raises(KeyError):
        list(model.stream(question(), passages()))


def test_without_the_extra_it_is_named() -> None:
    program = (
        "import sys; sys.modules['openai'] = None\n"
        "from ragstack.generation.registry import GENERATORS\n"
        "try:\n    GENERATORS.load('openai')\nexcept Exception as error:\n    sys.exit(str(error))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "pip install 'ragstack[llm]'" in done.stderr


def test_many_threads_share_one_generator(server: ReplayServer, model: OpenAIGenerator) -> None:
    """Half of 32 leave early; the others get their own answers, and nothing is left behind."""
    server.reply(Reply([*deltas(FIRST), Pause(0.05), *deltas("in wind. [{tag}:2]"), *ending()]))

    def ask(number: int) -> str:
        events = model.stream(question(f"Question {number}"), passages())
        if number % 2:
            next(events)
            events.close()
            return "left"
        return shown([each for each in events if isinstance(each, AnswerSentence)])

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(32)))
    assert set(found[1::2]) == {"left"}
    assert set(found[::2]) == {"Raw images are kept for 400 days. [1] The dome closes in wind. [2]"}
    loop = model._loop._loop
    assert loop is not None
    deadline = time.monotonic() + 10
    while asyncio.all_tasks(loop) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not asyncio.all_tasks(loop)
    assert [thread.name for thread in threading.enumerate()].count("ragstack-llm") == 1
