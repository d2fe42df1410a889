"""Embedders behind HTTP APIs: requests and their limits, and what becomes of every fault."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest

from ragstack.config.embedders import MASKED_KEY, RemoteEmbedderConfig
from ragstack.embedding.base import PipelinedEmbedder
from ragstack.embedding.remote import RemoteEmbedder
from ragstack.errors import CapabilityError, EmbeddingError, InputError
from tests.servers.loopback_http import client_leaves_within
from tests.servers.rerank_replay import Answer, RerankReplay, Seen, running

KEY = "sk-very-secret"
TEXTS = ["one", "two", "three words long"]


@pytest.fixture(scope="module")
def server() -> Iterator[RerankReplay]:
    with running() as opened:
        yield opened


def config(server: RerankReplay | str, **more: Any) -> RemoteEmbedderConfig:
    url = server if isinstance(server, str) else server.url
    settings = {"api": "openai", "base_url": f"{url}/v1", "model": "m", "dimensions": 3, "revision": "1"}
    settings |= {"max_tokens": 512, "max_retries": 0, "timeout_s": 20, **more}
    return RemoteEmbedderConfig.model_validate({"type": "remote", **settings})


@pytest.fixture
def remote(server: RerankReplay) -> Iterator[Callable[..., RemoteEmbedder]]:
    made: list[RemoteEmbedder] = []

    def make(**more: Any) -> RemoteEmbedder:
        made.append(RemoteEmbedder(config(more.pop("at", server), **more)))
        return made[-1]

    yield make
    for embedder in made:
        embedder.close()


def vector_of(text: str) -> list[float]:
    return [float(len(text)), float(sum(map(ord, text)) % 97), 1.0]


def unit(texts: list[str]) -> np.ndarray:
    rows = np.array([vector_of(text) for text in texts]).reshape(-1, 3)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def embedded(seen: Seen) -> Answer:
    """OpenAI's reply, last text first, as no server promises an order."""
    texts = seen.body["input"]
    data = [{"index": index, "embedding": vector_of(text)} for index, text in enumerate(texts)]
    return Answer({"object": "list", "data": data[::-1]})


def sizes(server: RerankReplay) -> list[int]:
    return [len(seen.body["input"]) for seen in server.seen]


def test_vectors_come_in_the_order_of_the_texts(server: RerankReplay, remote: Callable[..., RemoteEmbedder]) -> None:
    server.answering(embedded)
    embedder = remote(api_key=KEY, passage_prompt="passage: ")
    assert isinstance(embedder, PipelinedEmbedder)
    found = embedder.embed(TEXTS, "passage", ("dense", "sparse"))
    assert found.dense is not None and found.dense.dtype == np.float32
    np.testing.assert_allclose(found.dense, unit([f"passage: {text}" for text in TEXTS]), atol=1e-6)
    assert found.sparse is not None and len(found.sparse[2]) > 0
    assert found.tokens is None
    [seen] = server.seen
    assert (seen.method, seen.path, seen.headers["authorization"]) == ("POST", "/v1/embeddings", f"Bearer {KEY}")
    assert embedder.info.passage_prompt_tokens == 3
    assert embedder.embed([], "query").dense.shape == (0, 3)  # type: ignore[union-attr]
    assert len(server.seen) == 1


def test_requests_hold_so_many_texts_and_tokens(server: RerankReplay, remote: Callable[..., RemoteEmbedder]) -> None:
    server.answering(embedded)
    texts = [f"text {index}" for index in range(10)]
    found = remote(max_batch_size=4).embed(texts, "passage").dense
    assert sorted(sizes(server)) == [2, 4, 4]
    np.testing.assert_allclose(found, unit(texts), atol=1e-6)
    server.seen.clear()
    remote(max_batch_tokens=5).embed(["a b c", "d e", "f", "g h i j k l m n", "o"], "passage")  # of the last but one: 8
    assert sorted(sizes(server)) == [1, 1, 1, 2]


def test_no_more_requests_at_a_time_than_said(server: RerankReplay, remote: Callable[..., RemoteEmbedder]) -> None:
    now, most, lock, both = 0, 0, threading.Lock(), threading.Barrier(2)

    def respond(seen: Seen) -> Answer:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        both.wait(10)  # two are under way at a time
        with lock:
            now -= 1
        return embedded(seen)

    server.answering(respond)
    embedder = remote(max_batch_size=1, max_concurrent_requests=2)
    texts = [f"text {index}" for index in range(6)]
    pending = [embedder.submit(texts[at : at + 3], "passage") for at in (0, 3)]
    found = np.concatenate([each.result().dense for each in pending])
    np.testing.assert_allclose(found, unit(texts), atol=1e-6)
    assert most == 2


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (413, b""),
        (422, {"error": "batch size 10 > maximum allowed batch size 4", "error_type": "Validation"}),
        (400, {"message": "invalid request: total number of texts must be at most 96 - received 100"}),
        (400, {"error": {"message": "Requested 400000 tokens, max 300000 tokens per request"}}),
    ],
)
def test_a_request_that_is_too_much_is_halved(
    server: RerankReplay, remote: Callable[..., RemoteEmbedder], status: int, body: Any
) -> None:
    server.answering(lambda seen: Answer(body, status) if len(seen.body["input"]) > 4 else embedded(seen))
    embedder = remote()
    texts = [f"text {index}" for index in range(10)]
    np.testing.assert_allclose(embedder.embed(texts, "passage").dense, unit(texts), atol=1e-6)
    assert sizes(server) == [10, 5, 3, 2, 5, 3, 2]
    server.seen.clear()
    embedder.embed(texts, "passage")
    assert max(sizes(server)) <= 3  # what it learnt holds


def test_a_text_that_is_too_long_is_named(server: RerankReplay, remote: Callable[..., RemoteEmbedder]) -> None:
    refusal = Answer({"error": "inputs must have less than 512 tokens. Given: 600"}, 413)
    server.answering(lambda seen: refusal if "long" in seen.body["input"] else embedded(seen))
    with pytest.raises(
        EmbeddingError, match=r"text 5: the embedder m at .*\(status 413: inputs must have less"
    ) as caught:
        remote().embed(["a", "b", "c", "d", "e", "long", "g", "h"], "passage")
    assert "embedder.tokenizer" in caught.value.hint


def test_what_is_no_matter_of_size_is_not_halved(server: RerankReplay, remote: Callable[..., RemoteEmbedder]) -> None:
    server.in_turn(Answer({"error": {"message": "unknown field 'foo'"}}, 400))
    with pytest.raises(EmbeddingError, match=r"did not accept the request \(status 400: unknown field 'foo'\)"):
        remote().embed(TEXTS, "passage")
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_asked_again(
    server: RerankReplay, remote: Callable[..., RemoteEmbedder], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_pauses(monkeypatch)
    left = [Answer(b"busy", status), Answer(b"[{}, {}]", cut=True)]
    server.answering(lambda seen: left.pop(0) if left else embedded(seen))
    np.testing.assert_allclose(remote(max_retries=2).embed(TEXTS, "query").dense, unit(TEXTS), atol=1e-6)
    assert len(server.seen) == 3


def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    from ragstack.inference import http_client

    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(http_client, "sleep", sleep)
    return waited


def test_retry_after_is_waited_for_unless_the_time_is_over_before(
    server: RerankReplay, remote: Callable[..., RemoteEmbedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = _without_pauses(monkeypatch)
    left = [Answer(b"", 429, {"Retry-After": "7"}), Answer(b"", 503)]
    server.answering(lambda seen: left.pop(0) if left else embedded(seen))
    embedder = remote(max_retries=4)
    embedder.embed(TEXTS, "query")
    assert waited[0] == 7.0
    assert 0.25 <= waited[1] <= 0.5
    server.in_turn(Answer({"message": "no quota"}, 429, {"Retry-After": "21"}))
    with pytest.raises(EmbeddingError, match=r"no room or no quota left \(status 429: no quota\)"):
        embedder.embed(TEXTS, "query")
    assert len(server.seen) == 1


ONE = {"data": [{"index": 0, "embedding": [1.0, 0, 0]}]}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer({"error": {"message": f"Wrong key {KEY}"}}, 401), r"refused the key \(status 401: .*\*{10}\)\. Check"),
        (Answer({"detail": "no"}, 403), r"refused the key .* whether it may use this model"),
        (Answer(b"<html>not here</html>", 404), r"does not know the path or the model \(status 404\)\. Check"),
        (Answer(b"", 405), "does not take the request at this path"),
        (Answer({"error": "not an embedding model", "error_type": "Backend"}, 424), "its model is no embedder"),
        (Answer(b"\x00\xff\x1b[31m" * 99, 418), r"failed \(status 418: � \[31m"),
        (Answer(b"", 307, {"Location": "http://elsewhere"}), r"answered with a redirection \(status 307\)"),
        (Answer(b"", 204), "answered with what is no JSON"),
        (Answer(b"<html>"), "answered with what is no JSON"),
        (Answer(b'{"data": ['), "answered with what is no JSON"),
        (Answer(b"[" * 100_000), "answered with what is no JSON"),
        (Answer(b" " * 3_000_000), "answered with more than 1 MB"),
        (Answer(ONE, headers={"Content-Encoding": "gzip"}), "cannot be reached, or the connection broke"),
        (Answer([]), "answered, but not with a list of embeddings"),
        (Answer({"data": []}), "gave vectors for 0 of 1 texts"),
        (Answer({"data": [{"index": 0, "embedding": [1.0, 2.0]}]}), "text 0: .* a vector of 2 dim"),
        (Answer(b'{"data": [{"index": 0, "embedding": [NaN, 1, 2]}]}'), "text 0: .* a vector that is not f"),
        (Answer({"data": [{"index": 0, "embedding": [0, 0, 0]}]}), "gave a vector that is zero"),
    ],
)  # fmt: skip
def test_faults(server: RerankReplay, remote: Callable[..., RemoteEmbedder], answer: Answer, message: str) -> None:
    server.in_turn(answer)
    embedder = remote(api_key=KEY)
    with pytest.raises(EmbeddingError, match=message) as caught:
        embedder.embed(["one"], "query")
    told = f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {caught.value.hint}"
    assert f"the embedder m at {server.url}/v1/embeddings" in told
    assert KEY not in told
    assert caught.value.hint
    assert len(server.seen) == 1
    server.answering(embedded)
    assert embedder.embed(["one"], "query").dense is not None  # the next request is unharmed


def test_a_server_that_is_not_there(remote: Callable[..., RemoteEmbedder]) -> None:
    with running() as gone:
        url = gone.url
    with pytest.raises(EmbeddingError, match=r"cannot be reached.*embedder.base_url") as caught:
        remote(at=url, max_retries=1).embed(TEXTS, "query")
    assert f"the embedder m at {url}/v1/embeddings" in caught.value.message
    assert caught.value.__cause__ is None  # it holds the request


def test_a_server_without_tls_is_asked_by_https(server: RerankReplay, remote: Callable[..., RemoteEmbedder]) -> None:
    with pytest.raises(EmbeddingError, match=r"cannot be reached, or the connection broke: .*SSL"):
        remote(at=server.url.replace("http:", "https:"), max_retries=20).embed(TEXTS, "query")  # none of which is made


def test_a_server_that_is_too_slow(server: RerankReplay, remote: Callable[..., RemoteEmbedder]) -> None:
    server.in_turn(Answer({"message": "warming up"}, 503), Answer(b"[]", stall_s=30))
    with pytest.raises(EmbeddingError, match=r"not answer within 1 s; the last attempt: .*503: warming up.*timeout_s"):
        remote(timeout_s=1.0, max_retries=5).embed(TEXTS, "query")
    assert server.seen[-1].client_left.wait(10)


def test_cancelling_closes_the_connection(server: RerankReplay, remote: Callable[..., RemoteEmbedder]) -> None:
    asked = threading.Event()

    def respond(seen: Seen) -> Answer:
        asked.set()
        return Answer(b"[]", stall_s=30)

    server.answering(respond)
    pending = remote().submit(TEXTS, "passage")
    assert asked.wait(10)
    pending.cancel()
    pending.cancel()
    assert server.seen[0].client_left.wait(10)


def test_closing_breaks_off_what_is_under_way(server: RerankReplay, remote: Callable[..., RemoteEmbedder]) -> None:
    embedder = remote()
    closing = threading.Thread(target=embedder.close)

    def respond(seen: Seen) -> Answer:
        closing.start()
        return Answer(b"[]", stall_s=30)

    server.answering(respond)
    with pytest.raises(EmbeddingError, match=r"is asked no more\. The embedder was closed"):
        embedder.embed(TEXTS, "query")
    closing.join()
    embedder.close()
    with pytest.raises(EmbeddingError, match="is asked no more"):
        embedder.embed(TEXTS, "query")


def test_a_failed_batch_ends_the_others(server: RerankReplay, remote: Callable[..., RemoteEmbedder]) -> None:
    others = threading.Semaphore(0)

    def respond(seen: Seen) -> Answer:
        if "two" not in seen.body["input"]:
            others.release()
            return Answer(b"[]", stall_s=30)
        assert others.acquire(timeout=10) and others.acquire(timeout=10)
        return Answer(b"", 401)

    server.answering(respond)
    with pytest.raises(EmbeddingError, match="refused the key"):
        remote(max_batch_size=1).embed(TEXTS, "query")
    for seen in server.seen:
        assert "two" in seen.body["input"] or seen.client_left.wait(10)


def test_connections_are_kept(server: RerankReplay, remote: Callable[..., RemoteEmbedder]) -> None:
    ports: set[int] = set()

    def respond(seen: Seen) -> Answer:
        ports.add(seen.client_port)
        return embedded(seen)

    server.answering(respond)
    embedder = remote()
    for _ in range(5):
        embedder.embed(TEXTS, "query")
    assert len(ports) == 1


@contextmanager
def raw_server(answers: list[bytes], family: socket.AddressFamily = socket.AF_INET) -> Iterator[str]:
    """A server that gives each connection one answer, whatever it is asked, and closes it without saying so before."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.create_server((host, 0), family=family) as listener:

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(10)
                    request = b""
                    while b"\r\n\r\n" not in request or not request.endswith(b"}"):
                        request += connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        thread.join(10)


@contextmanager
def endless_server(head: bytes, part: bytes, pause_s: float) -> Iterator[str]:
    """A server that sends ``part`` again and again until the client has left."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(ConnectionError):
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 " + head + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
                while not client_leaves_within(connection, pause_s):
                    connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("head", "part", "pause_s", "message"),
    [
        (b"200 OK", b" ", 0.05, "did not answer within 0.5 s"),
        (b"200 OK", b" " * 500_000, 0.0, "answered with more than 1 MB"),
        (b"403 Forbidden", b"no " * 20_000, 0.0, r"refused the key \(status 403: no no"),
    ],
)
def test_an_answer_without_end(
    remote: Callable[..., RemoteEmbedder], head: bytes, part: bytes, pause_s: float, message: str
) -> None:
    with endless_server(head, part, pause_s) as url, pytest.raises(EmbeddingError, match=message):
        remote(at=url, timeout_s=0.5 if pause_s else 20).embed(["one"], "query")


BODY = b'{"data": [{"index": 0, "embedding": [0, 0, 2]}]}'
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_connection_that_the_server_closed_meanwhile(
    remote: Callable[..., RemoteEmbedder], family: socket.AddressFamily
) -> None:
    with raw_server([WHOLE, WHOLE, WHOLE], family) as url:
        embedder = remote(at=url, max_retries=1)
        for _ in range(3):
            assert embedder.embed(["one"], "query").dense.tolist() == [[0, 0, 1]]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "answer",
    [
        b"",  # closed at once
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_what_is_no_http(remote: Callable[..., RemoteEmbedder], answer: bytes) -> None:
    with raw_server([answer]) as url, pytest.raises(EmbeddingError, match="cannot be reached, or the connection broke"):
        remote(at=url).embed(["one"], "query")
    with raw_server([answer, WHOLE]) as url:
        assert remote(at=url, max_retries=1).embed(["one"], "query").dense is not None


def test_what_the_server_says_of_its_model(server: RerankReplay, remote: Callable[..., RemoteEmbedder]) -> None:
    said: dict[str, Any] = {"model_id": "/data/M", "model_sha": "abc", "max_input_length": 300}

    def respond(seen: Seen) -> Answer:
        if seen.path == "/info":
            return Answer({**said, "max_client_batch_size": 2})
        return Answer([vector_of(text) for text in seen.body["inputs"]])

    server.answering(respond)
    tei = {"api": "tei", "base_url": server.url, "revision": None, "max_tokens": None, "dimensions": None}
    embedder = remote(**tei)
    info = embedder.info
    assert (info.name, info.dim, info.token_dim, info.max_tokens) == ("m", 3, 0, 197)
    assert [seen.path for seen in server.seen] == ["/info", "/embed"]
    embedder.embed(TEXTS, "query")
    assert sorted(len(seen.body["inputs"]) for seen in server.seen[2:]) == [1, 2]
    same, pinned = remote(**tei), remote(**{**tei, "revision": "abc"})
    assert same.info.fingerprint == pinned.info.fingerprint == info.fingerprint
    said["model_sha"] = "abd"
    assert remote(**tei).info.fingerprint != info.fingerprint
    with pytest.raises(EmbeddingError, match="serves revision abd, not abc"):
        _ = remote(**{**tei, "revision": "abc"}).info
    said["model_id"] = "org/other"
    with pytest.raises(EmbeddingError, match="serves org/other"):
        remote(**tei).embed(TEXTS, "query")


def test_a_server_that_says_nothing_and_one_that_fails(
    server: RerankReplay, remote: Callable[..., RemoteEmbedder]
) -> None:
    asked = {"revision": None, "max_tokens": None, "dimensions": None}
    server.answering(lambda seen: Answer(b"", 404) if seen.method == "GET" else embedded(seen))
    info = remote(**asked).info
    assert (info.dim, info.max_tokens) == (3, 338)
    server.answering(lambda seen: Answer(b"", 503) if seen.method == "GET" else embedded(seen))
    with pytest.raises(EmbeddingError, match=r"status 503: asked for .*/v1/models"):
        _ = remote(**asked).info


def test_the_fingerprint_is_of_the_vectors_alone(server: RerankReplay, remote: Callable[..., RemoteEmbedder]) -> None:
    own = remote().info.fingerprint
    same = [
        {"base_url": "http://127.0.0.1:9/other"}, {"api_key": KEY}, {"max_batch_size": 1}, {"timeout_s": 1},
        {"encoding_format": "float"}, {"max_concurrent_requests": 9},
    ]  # fmt: skip
    other = [
        {"model": "n"}, {"dimensions": 4}, {"revision": "2"}, {"query_prompt": "q"}, {"passage_prompt": "p"},
        {"query_input_type": "x"}, {"passage_task": "x"}, {"extra_body": {"x": 1}}, {"api": "nim"},
        {"tokenizer": "all-MiniLM-L6-v2"},
    ]  # fmt: skip
    assert {remote(**more).info.fingerprint for more in same} == {own}
    found = [remote(**more).info.fingerprint for more in other]
    assert len({own, *found}) == len(found) + 1


def test_texts_are_counted_before_they_are_sent(server: RerankReplay, remote: Callable[..., RemoteEmbedder]) -> None:
    server.answering(embedded)
    embedder = remote(tokenizer="all-MiniLM-L6-v2", max_tokens=16)
    assert embedder.info.max_tokens == 14
    with pytest.raises(EmbeddingError, match="text 1: 15 tokens; m reads at most 14"):
        embedder.embed(["short", "a " * 15], "passage")
    assert server.seen == []
    with pytest.raises(EmbeddingError, match="text 0: about 9 tokens; m reads at most 8") as caught:
        remote(max_tokens=16).embed(["a " * 9], "passage")
    assert "embedder.tokenizer" in caught.value.hint
    assert server.seen == []


def test_mistakes_of_the_caller(server: RerankReplay, remote: Callable[..., RemoteEmbedder]) -> None:
    server.answering(embedded)
    embedder = remote()
    with pytest.raises(CapabilityError, match="gives no token vectors"):
        embedder.embed(TEXTS, "query", ("dense", "tokens"))
    with pytest.raises(EmbeddingError, match="text 1: character 1 is a lone surrogate"):
        embedder.embed(["a", "b\ud800"], "passage")
    with pytest.raises(EmbeddingError, match="text 0: expected a string, got int"):
        embedder.embed([5], "passage")  # type: ignore[list-item]
    for texts, input_type, outputs in (
        ("text", "query", ("dense",)),
        (TEXTS, "document", ("dense",)),
        (TEXTS, "query", ()),
    ):
        with pytest.raises(InputError):
            embedder.embed(texts, input_type, outputs)  # type: ignore[arg-type]
    assert server.seen == []


def test_the_key_that_an_index_does_not_keep(server: RerankReplay, remote: Callable[..., RemoteEmbedder]) -> None:
    server.answering(embedded)
    with pytest.raises(EmbeddingError, match="needs a key that is not known"):
        remote(api_key=MASKED_KEY).embed(TEXTS, "query")
    assert server.seen == []
