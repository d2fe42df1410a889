"""Who leaves, is late or stays when the server ends: the query gives up, and nothing is left of it."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import ragstack
from ragstack.api.app import create_app
from ragstack.errors import GenerationError
from ragstack.generation.base import AnswerEnd, AnswerSentence, AnswerStream, ContextPassage, Question, Quote, Turn
from tests.integration.api.test_query import events_of
from tests.integration.harness import SMALL_CONFIG
from tests.servers.api import running_app

PATIENCE_S = 30.0


class SlowGenerator:
    """Says one sentence of the first passage, then waits as for a server that does not answer.

    No real model can be told to stop in the middle of an answer and to say that it was stopped.
    """

    name = "slow"

    def __init__(self) -> None:
        self.waiting = 0
        self.given_up = 0
        self._changed = threading.Condition()
        self.go_on = threading.Event()
        self.error: GenerationError | None = None

    def stream(self, question: Question, passages: Sequence[ContextPassage]) -> AnswerStream:
        chunk = passages[0].chunk
        end = chunk.byte_start + len(chunk.text.split(".")[0].encode()) + 1
        text = chunk.text.encode()[: end - chunk.byte_start].decode()
        yield AnswerSentence(text, (Quote(1, chunk.byte_start, end),), 1.0, verbatim=True)
        woken = threading.Event()
        with self._changed:
            self.waiting += 1
            self._changed.notify_all()
        with question.cancellation.calling(woken.set):
            while not (woken.is_set() or self.go_on.is_set()):
                woken.wait(0.01)
        if woken.is_set():
            with self._changed:
                self.given_up += 1
                self._changed.notify_all()
        yield AnswerEnd(error=self.error)

    def condense(self, history: Sequence[Turn], text: str) -> str:
        return text

    def close(self) -> None:
        pass

    def wait_until(self, holds: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(holds, PATIENCE_S)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowGenerator:
    generator = SlowGenerator()
    monkeypatch.setattr("ragstack.retrieval.engine.build_generator", lambda block: generator)
    return generator


@contextmanager
def served(tmp_path: Path, corpus: Path, **server: Any) -> Iterator[tuple[FastAPI, str]]:
    config = {**SMALL_CONFIG, "retrieval": {"min_relevance": 0.0}, "server": server}
    with ragstack.open(config, state_dir=tmp_path / "state") as pipeline:
        pipeline.index(corpus)
        app = create_app(pipeline)

        @app.post("/end")
        async def end() -> None:  # in the server's event loop, as the server itself does it
            app.state.ragstack.shutdown.end_requests()

        with running_app(app) as url:
            yield app, url


def all_quiet(app: FastAPI) -> bool:
    """No thread is taken, and nobody waits for one."""
    state = app.state.ragstack
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        statistics = state.queries.statistics()
        if statistics.borrowed_tokens == statistics.tasks_waiting == 0:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/query", {"query": "pump", "stream": True}),
        ("/v1/query", {"query": "pump"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "pump"}], "stream": True}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "pump"}]}),
    ],
)
def test_a_client_that_leaves_ends_its_query(
    tmp_path: Path, corpus: Path, slow: SlowGenerator, path: str, body: dict[str, Any]
) -> None:
    with served(tmp_path, corpus) as (app, url):
        sent = {"model": "ragstack", **body} if "chat" in path else body
        with httpx.Client(timeout=httpx.Timeout(PATIENCE_S)) as client:
            leaving = threading.Thread(target=_ask_quietly, args=(client, url + path, sent))
            leaving.start()
            slow.wait_until(lambda: slow.waiting == 1)
            assert app.state.ragstack.queries.borrowed_tokens == 1
            _cut(client)
            slow.wait_until(lambda: slow.given_up == 1)
            leaving.join()
        assert all_quiet(app)


def _ask_quietly(client: httpx.Client, url: str, body: dict[str, Any]) -> None:
    with suppress(httpx.HTTPError):  # cut off by the test
        client.post(url, json=body)


def _cut(client: httpx.Client) -> None:
    """Close the connection under a request that waits."""
    for connection in client._transport._pool.connections:  # httpx offers no other way from another thread
        stream = connection._connection._network_stream
        stream.get_extra_info("socket").shutdown(2)


def test_a_query_that_is_too_slow_ends_with_504(tmp_path: Path, corpus: Path, slow: SlowGenerator) -> None:
    with served(tmp_path, corpus, query_timeout_s=0.4) as (app, url):
        response = httpx.post(f"{url}/v1/query", json={"query": "pump"})
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "timeout"
        assert "query_timeout_s" in response.json()["error"]["hint"]
        events = events_of(httpx.post(f"{url}/v1/query", json={"query": "pump", "stream": True}).text)
        assert [name for name, _ in events] == ["passages", "sentence", "error"]
        assert events[-1][1]["error"]["type"] == "QueryTimeout"
        chat = {"model": "ragstack", "messages": [{"role": "user", "content": "pump"}], "stream": True}
        chunks = httpx.post(f"{url}/v1/chat/completions", json=chat).text.split("\n\n")
        assert json.loads(chunks[-2].removeprefix("data: "))["error"]["code"] == "timeout"
        slow.wait_until(lambda: slow.given_up == 3)
        assert all_quiet(app)


def test_the_end_of_the_server_ends_streams_with_an_error(tmp_path: Path, corpus: Path, slow: SlowGenerator) -> None:
    with served(tmp_path, corpus) as (app, url), httpx.Client(timeout=PATIENCE_S) as client:
        answers: list[httpx.Response] = []
        bodies = [{"query": "pump", "stream": True}, {"query": "pump"}]
        threads = [
            threading.Thread(target=lambda b=body: answers.append(client.post(f"{url}/v1/query", json=b)))
            for body in bodies
        ]
        for thread in threads:
            thread.start()
        slow.wait_until(lambda: slow.waiting == 2)
        client.post(f"{url}/end")
        for thread in threads:
            thread.join()
        streamed, whole = sorted(answers, key=lambda answer: answer.status_code)
        assert [name for name, _ in events_of(streamed.text)] == ["passages", "sentence", "error"]
        assert events_of(streamed.text)[-1][1]["error"]["type"] == "ShuttingDown"
        assert (whole.status_code, whole.json()["error"]["type"]) == (503, "ShuttingDown")
        assert client.post(f"{url}/v1/query", json={"query": "pump"}).status_code == 503
        assert client.get(f"{url}/v1/health/ready").status_code == 503
        assert all_quiet(app)


def test_a_broken_answer_keeps_its_passages(tmp_path: Path, corpus: Path, slow: SlowGenerator) -> None:
    slow.error = GenerationError("the model went away.", hint="Start it again.")
    slow.go_on.set()
    with served(tmp_path, corpus) as (_, url):
        chain = httpx.post(f"{url}/v1/query", json={"query": "pump"}).json()
        assert chain["passages"]
        assert chain["answer"]["error"]["message"] == "the model went away."
        assert chain["answer"]["sentences"]
        events = events_of(httpx.post(f"{url}/v1/query", json={"query": "pump", "stream": True}).text)
        assert [name for name, _ in events] == ["passages", "sentence", "done"]
        assert events[-1][1]["chain"]["answer"]["error"]["hint"] == "Start it again."
        chat = {"model": "ragstack", "messages": [{"role": "user", "content": "pump"}]}
        refused = httpx.post(f"{url}/v1/chat/completions", json=chat)
        assert (refused.status_code, refused.json()["error"]["type"]) == (502, "server_error")
        streamed = httpx.post(f"{url}/v1/chat/completions", json={**chat, "stream": True}).text
        assert json.loads(streamed.split("\n\n")[-2].removeprefix("data: "))["error"]["message"] == (
            "the model went away."
        )


def test_more_than_may_wait_are_sent_away(tmp_path: Path, corpus: Path, slow: SlowGenerator) -> None:
    with served(tmp_path, corpus, threads=1, max_waiting_queries=1) as (app, url):
        with httpx.Client(timeout=PATIENCE_S) as client:
            answers: list[httpx.Response] = []
            threads = []
            for number in (1, 2):
                ask = lambda: answers.append(client.post(f"{url}/v1/query", json={"query": "pump"}))  # noqa: E731
                threads.append(threading.Thread(target=ask))
                threads[-1].start()
                _eventually(lambda n=number: _under_way(app) == n)
            refused = client.post(f"{url}/v1/query", json={"query": "pump"})
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            # Neither are those who ask whether the server is well.
            assert client.get(f"{url}/v1/health/ready").status_code == 200
            slow.go_on.set()
            for thread in threads:
                thread.join()
            assert [answer.status_code for answer in answers] == [200, 200]
        assert all_quiet(app)


def _under_way(app: FastAPI) -> int:
    limiter = app.state.ragstack.queries
    return int(limiter.statistics().tasks_waiting + limiter.borrowed_tokens)


def _eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_64_clients_half_of_them_leaving(tmp_path: Path, corpus: Path) -> None:
    """Each who stays gets the answer to its own question; of those who leave nothing remains."""
    for number in range(32):
        (corpus / f"unit{number}.txt").write_text(f"Unit{number} is serviced by team{number * 7} in hall{number}.\n")
    with served(tmp_path, corpus, threads=8) as (app, url):
        threads = threading.active_count()
        answers = asyncio.run(_crowd(url))
        assert all_quiet(app)
        assert app.state.ragstack.shutdown.listeners == 0
        files = _open_files()
        assert asyncio.run(_crowd(url)) == answers
        assert all_quiet(app)
        assert threading.active_count() <= threads + 8 + 40  # the pool, and anyio's own for short calls
        _eventually(lambda: _open_files() <= files)
    for number, text in answers.items():
        assert f"team{number * 7} in hall{number}." in text, (number, text)
    assert len(answers) == 32


def _open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


async def _crowd(url: str) -> dict[int, str]:
    answers: dict[int, str] = {}
    async with httpx.AsyncClient(timeout=PATIENCE_S, limits=httpx.Limits(max_connections=80)) as client:

        async def stay(number: int) -> None:
            only = {"field": "source_id", "op": "eq", "value": f"corpus/unit{number}.txt"}
            body = {"query": f"Who services unit{number}?", "filter": only, "stream": number % 2 == 0}
            response = await client.post(f"{url}/v1/query", json=body)
            assert response.status_code == 200, response.text
            chain = events_of(response.text)[-1][1]["chain"] if body["stream"] else response.json()
            answers[number] = chain["answer"]["text"]

        async def leave(number: int) -> None:
            body = {"query": f"Who services unit{number}?", "stream": number % 2 == 0}
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(client.post(f"{url}/v1/query", json=body), 0.005 * (number + 1))

        await asyncio.gather(*(act(number) for number in range(32) for act in (stay, leave)))
    return answers
