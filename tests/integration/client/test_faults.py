"""Faults of the wire that a real server can't be made to produce on demand: a listener that plays them."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest

import ragstack
from ragstack.errors import InputError, RemoteError
from ragstack.retrieval.events import QueryEvent

CLOSE, SILENCE = b"", None


@contextmanager
def playing(answers: Sequence[Sequence[bytes | None]]) -> Iterator[tuple[str, list[bytes]]]:
    """An address that plays one answer a connection: parts, ``SILENCE`` to stay open; and the requests it got."""
    requests: list[bytes] = []
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def accepted() -> socket.socket | None:
            while not over.is_set():
                with suppress(TimeoutError):
                    return listener.accept()[0]
            return None

        def play() -> None:
            for answer in answers:
                connection = accepted()
                if connection is None:
                    return
                with connection:
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += connection.recv(65536)
                    requests.append(request)
                    for part in answer:
                        if part is SILENCE:
                            over.wait(10)
                        else:
                            connection.sendall(part)

        thread = threading.Thread(target=play)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
        finally:
            over.set()
            thread.join()


def http(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


BUSY = http(429, b'{"error": {"message": "later.", "type": "TooManyRequests"}}', "retry-after: 0")
STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def ask(url: str, timeout_s: float = 5.0) -> list[BaseException]:
    """What a question, sync and async, raises."""
    found: list[BaseException] = []
    with ragstack.Client(url, timeout_s=timeout_s, max_retries=1) as client, pytest.raises(RemoteError) as caught:
        client.retrieve("pump")
    found.append(caught.value)

    async def ask_async() -> None:
        async with ragstack.AsyncClient(url, timeout_s=timeout_s, max_retries=1) as client:
            await client.retrieve("pump")

    with pytest.raises(RemoteError) as caught:
        asyncio.run(ask_async())
    return [*found, caught.value]


@pytest.mark.parametrize(
    ("answer", "attempts", "message"),
    [
        ([CLOSE], 2, "cannot be reached"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"], 2, "cannot be reached"),
        ([b"nonsense\r\n\r\n"], 2, "cannot be reached"),
        ([BUSY], 2, "later"),
        ([http(200, b"<html>")], 1, "not understood"),
        ([http(200, b'{"format": "ragstack.chain/9"}')], 1, "not understood"),
        ([http(302, b"", "location: http://elsewhere.invalid/")], 1, "points to http://elsewhere"),
        ([http(500, b"oops")], 1, "status 500"),
    ],
)
def test_every_fault_is_one_kind_of_error(answer: list[bytes], attempts: int, message: str) -> None:
    with playing([answer] * attempts * 2) as (url, requests):
        for error in ask(url):
            assert message in str(error)
            assert url in str(error)
    assert len(requests) == attempts * 2


def test_a_server_that_stays_silent_is_given_up_and_not_asked_again() -> None:
    with playing([[SILENCE], [SILENCE]]) as (url, requests):
        with ragstack.Client(url, timeout_s=0.2) as client, pytest.raises(RemoteError, match="did not answer in time"):
            client.retrieve("pump")
        assert len(requests) == 1


def test_a_busy_server_is_asked_again_and_answers() -> None:
    ranking = json.dumps({"rankings": [{"index": 0, "logit": 1.5}]}).encode()
    with playing([[BUSY], [CLOSE], [http(200, ranking)]]) as (url, requests), ragstack.Client(url) as client:
        assert client.rank("pump", ["a pump"])[0].logit == 1.5
        assert len(requests) == 3


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([STREAM], "broke off"),
        ([STREAM, chunk(b": keep-alive\n\n"), b"0\r\n\r\n"], "broke off"),
        ([STREAM, chunk(b"event: done\ndata: {}\n\n"), b"0\r\n\r\n"], "not understood"),
        ([STREAM, chunk(b"event: passages\ndata: [\n\n"), b"0\r\n\r\n"], "not understood"),
        (
            [STREAM, chunk(b'event: error\ndata: {"error": {"message": "gone.", "type": "X"}}\n\n'), b"0\r\n\r\n"],
            "gone",
        ),
    ],
)
def test_a_stream_that_breaks_off_is_an_error_and_never_an_end(parts: list[bytes], message: str) -> None:
    with playing([parts, parts]) as (url, _):
        with ragstack.Client(url) as client, pytest.raises(RemoteError, match=message):
            list(client.stream("pump"))

        async def read() -> list[QueryEvent]:
            async with ragstack.AsyncClient(url) as client:
                return [event async for event in client.stream("pump")]

        with pytest.raises(RemoteError, match=message):
            asyncio.run(read())


def test_an_error_in_a_stream_comes_in_its_class() -> None:
    event = (
        b'event: error\ndata: {"error": {"message": "top_n is too large", "type": "InputError", "hint": "Less."}}\n\n'
    )
    with (
        playing([[STREAM, chunk(event)]]) as (url, _),
        ragstack.Client(url) as client,
        pytest.raises(InputError, match="top_n is too large") as caught,
    ):
        list(client.stream("pump"))
    assert caught.value.hint == "Less."


def test_vectors_that_do_not_fit_the_texts_are_refused() -> None:
    bodies = [
        {"data": []},
        {"data": [{"index": 0, "embedding": "AAAA"}]},
        {"data": [{"index": 0, "embedding": "!"}]},
        {"data": [{"index": 1, "embedding": [0.5]}]},
    ]
    for body in bodies:
        with (
            playing([[http(200, json.dumps(body).encode())]]) as (url, _),
            ragstack.Client(url) as client,
            pytest.raises(RemoteError, match="not understood"),
        ):
            client.embed(["pump"], input_type="query")


def test_the_key_goes_with_each_request_and_into_no_message() -> None:
    with playing([[http(401, b'{"error": {"message": "no."}}')]]) as (url, requests):
        client = ragstack.Client(f"{url}/", "hunter2")
        with pytest.raises(RemoteError) as caught:
            client.citation("../admin?x=1#y")
        client.close()
    assert b"authorization: bearer hunter2" in requests[0].lower()
    assert requests[0].startswith(b"GET /v1/citations/..%2Fadmin%3Fx%3D1%23y HTTP/1.1")
    assert "hunter2" not in f"{caught.value!r}{client!r}"
    for key in ("two\nlines", "naïve", "x\r\ny: z"):
        with pytest.raises(InputError, match="api_key") as refused:
            ragstack.Client(url, key)
        assert key not in str(refused.value)
