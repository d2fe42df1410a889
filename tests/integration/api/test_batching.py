"""Many clients at a time: batched, refused when too many, forgotten when they leave."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

import ragstack
from ragstack.api.batch_worker import BatchReport
from ragstack.api.embedding_worker import EmbeddingWorker
from ragstack.api.model_errors import ModelRequestError
from ragstack.embedding.base import Embedder, Embeddings, InputType, Output
from ragstack.errors import EmbeddingError
from ragstack.testing.hashing_embedder import HashingEmbedder
from tests.integration.api.live import live
from tests.integration.harness import SMALL_CONFIG


class Watched(HashingEmbedder):
    """The hashing embedder, which can be held up, and fails for a text as a damaged model would."""

    def __init__(self) -> None:
        super().__init__(dim=16)
        self.calls: list[list[str]] = []
        self.held = False
        self.hold_at = ""
        self.go = threading.Event()
        self.go.set()

    def embed(self, texts: Sequence[str], input_type: InputType, outputs: Sequence[Output] = ("dense",)) -> Embeddings:
        self.held = not self.go.is_set()
        self.go.wait(20)
        self.held = self.hold_at in texts
        while self.hold_at in texts:
            time.sleep(0.005)
        self.calls.append(list(texts))
        if "poison" in texts:
            raise EmbeddingError("text 0: NaN")
        if "short" in texts:
            return super().embed(texts[:-1], input_type, outputs)
        if "crash" in texts:
            raise RuntimeError("a secret of the driver")
        return super().embed(texts, input_type, outputs)


@contextmanager
def working(
    embedder: Embedder, max_batch_tokens: int = 100, max_queued_tokens: int = 10_000
) -> Iterator[EmbeddingWorker]:
    worker = EmbeddingWorker(lambda: embedder, max_batch_tokens, max_queued_tokens, reports.append)
    worker.start()
    try:
        yield worker
    finally:
        worker.close()


reports: list[BatchReport] = []


@pytest.fixture
def embedder() -> Iterator[Watched]:
    reports.clear()
    embedder = Watched()
    yield embedder
    embedder.go.set()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario(), 20)

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def dense(worker: EmbeddingWorker, texts: list[str]) -> Awaitable[np.ndarray]:
    async def vectors() -> np.ndarray:
        found = (await worker.embed(texts, [max(1, len(t.split())) for t in texts], "passage", ("dense",))).embeddings
        assert found.dense is not None
        return found.dense

    return vectors()


def test_texts_of_many_clients_share_batches_and_get_their_own_vectors(embedder: Watched) -> None:
    expected = HashingEmbedder(dim=16)

    async def scenario() -> None:
        with working(embedder) as worker:
            await until(lambda: worker.state == "ready")
            embedder.go.clear()
            first = asyncio.ensure_future(dense(worker, ["holds the model"]))
            await until(lambda: embedder.held)
            requests = [[f"client {client} text {text}" for text in range(client % 5 + 1)] for client in range(30)]
            waiting = [asyncio.ensure_future(dense(worker, texts)) for texts in requests]
            await until(lambda: worker.queued_requests == 30)
            embedder.go.set()
            for texts, found in zip(requests, await asyncio.gather(*waiting), strict=True):
                assert found == pytest.approx(expected.embed(texts, "passage").dense)
            await first
            assert worker.queued_tokens == 0
        assert len(reports) < 8
        assert sum(report.texts for report in reports) == 91
        assert max(report.requests for report in reports) > 10

    run(scenario)


def test_a_text_that_fails_fails_its_own_request_alone(embedder: Watched) -> None:
    async def scenario() -> None:
        with working(embedder) as worker:
            await until(lambda: worker.state == "ready")
            embedder.go.clear()
            first = asyncio.ensure_future(dense(worker, ["holds the model"]))
            await until(lambda: embedder.held)
            texts = [["good one"], ["fine", "poison"], ["good two", "good three"], ["crash"], ["short", "by one"]]
            waiting = [asyncio.ensure_future(dense(worker, one)) for one in texts]
            await until(lambda: worker.queued_requests == 5)
            embedder.go.set()
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert isinstance(results[0], np.ndarray)
            assert isinstance(results[2], np.ndarray)
            assert isinstance(results[1], ModelRequestError)
            assert (results[1].fault, results[1].message) == ("backend", "text 0: NaN")
            assert isinstance(results[3], ModelRequestError)
            assert "secret" not in str(results[3])
            assert isinstance(results[4], ModelRequestError)
            await first
            assert len(await dense(worker, ["after"])) == 1

    run(scenario)


def test_a_request_that_fails_in_its_second_batch_fails_whole(embedder: Watched) -> None:
    async def scenario() -> None:
        with working(embedder, max_batch_tokens=2) as worker:
            for outputs in (("dense",), ("dense", "tokens")):
                with pytest.raises(ModelRequestError, match="NaN"):
                    await worker.embed(["one", "two", "poison", "four"], [1, 1, 1, 1], "passage", outputs)
                assert worker.queued_requests == worker.queued_tokens == 0
            found = await worker.embed(["one", "two", "four"], [1, 1, 1], "passage", ("dense", "tokens"))
            assert found.embeddings.tokens is not None
            assert [len(tokens) for tokens in found.embeddings.tokens] == [1, 1, 1]

    run(scenario)


def test_a_cancelled_request_is_not_embedded(embedder: Watched) -> None:
    async def scenario() -> None:
        with working(embedder) as worker:
            await until(lambda: worker.state == "ready")
            embedder.go.clear()
            first = asyncio.ensure_future(dense(worker, ["holds the model"]))
            await until(lambda: embedder.held)
            leaving = asyncio.ensure_future(dense(worker, ["nobody waits for this"]))
            staying = asyncio.ensure_future(dense(worker, ["somebody waits"]))
            await until(lambda: worker.queued_requests == 2)
            leaving.cancel()
            await until(lambda: worker.queued_requests == 1)
            embedder.go.set()
            await asyncio.gather(first, staying)
            assert worker.queued_tokens == 0
        assert not any("nobody waits for this" in call for call in embedder.calls)

    run(scenario)


def test_vectors_are_not_kept_until_the_next_batch_was_run(embedder: Watched) -> None:
    async def scenario() -> None:
        with working(embedder, max_batch_tokens=1) as worker:
            await until(lambda: worker.state == "ready")
            embedder.go.clear()
            waiting = [asyncio.ensure_future(dense(worker, [text])) for text in ("first", "second", "third")]
            await until(lambda: embedder.held and worker.queued_requests == 2)
            embedder.hold_at = "second"
            embedder.go.set()
            await waiting[0]
            await until(lambda: embedder.held)
            assert not waiting[1].done()
            embedder.hold_at = ""
            await asyncio.gather(*waiting)

    run(scenario)


def test_too_many_tokens_are_refused_until_the_queue_is_shorter(embedder: Watched) -> None:
    async def scenario() -> None:
        with working(embedder, max_queued_tokens=50) as worker:
            await until(lambda: worker.state == "ready")
            embedder.go.clear()
            first = asyncio.ensure_future(dense(worker, ["holds the model"]))
            await until(lambda: embedder.held)
            # Alone, a request may be larger than what may wait.
            large = asyncio.ensure_future(dense(worker, ["word " * 60]))
            await until(lambda: worker.queued_requests == 1)
            with pytest.raises(ModelRequestError) as refused:
                await dense(worker, ["one more"])
            assert refused.value.fault == "overloaded"
            assert refused.value.retry_after_s is not None
            embedder.go.set()
            await asyncio.gather(first, large)
            await dense(worker, ["one more"])

    run(scenario)


def test_closing_refuses_what_waits(embedder: Watched) -> None:
    async def scenario() -> None:
        with working(embedder) as worker:
            await until(lambda: worker.state == "ready")
            embedder.go.clear()
            first = asyncio.ensure_future(dense(worker, ["holds the model"]))
            await until(lambda: embedder.held)
            second = asyncio.ensure_future(dense(worker, ["too late"]))
            await until(lambda: worker.queued_requests == 1)
            closing = asyncio.ensure_future(asyncio.to_thread(worker.close))
            await until(lambda: worker.state == "closed")
            embedder.go.set()
            await closing
            assert len(await first) == 1  # what the model had begun with is finished
            with pytest.raises(ModelRequestError, match="shutting down"):
                await second
            with pytest.raises(ModelRequestError, match="shutting down"):
                await dense(worker, ["even later"])

    run(scenario)


@contextmanager
def served(tmp_path: Path, **settings: object) -> Iterator[tuple[str, Watched]]:
    """A live server over the watched embedder: no real model can be asked to be slow."""
    config = {**SMALL_CONFIG, "server": {"model_server": settings}}
    pipeline = ragstack.open(config, state_dir=tmp_path / "state")
    pipeline._embedder = embedder = Watched()
    with live(pipeline) as url:
        try:
            yield url, embedder
        finally:
            embedder.go.set()


def sample(url: str, name: str) -> float:
    """One metric's value."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(f"{name} ")))


def test_64_clients_of_which_half_leave(tmp_path: Path) -> None:
    expected = HashingEmbedder(dim=16)
    vectors: dict[int, list[float]] = {}
    with served(tmp_path, max_batch_tokens=64) as (url, embedder):

        async def ask(client: httpx.AsyncClient, number: int) -> None:
            answer = await client.post("/v1/embeddings", json={"input": [f"text of client {number}"]})
            vectors[number] = answer.json()["data"][0]["embedding"]

        async def scenario() -> None:
            async with httpx.AsyncClient(base_url=url, timeout=30, limits=httpx.Limits(max_connections=70)) as client:
                embedder.go.clear()
                first = asyncio.ensure_future(client.post("/embed", json={"inputs": "holds the model"}))
                tasks = [asyncio.ensure_future(ask(client, number)) for number in range(64)]
                await until_async(lambda: sample(url, "ragstack_requests_in_flight") >= 66)
                for task in tasks[::2]:
                    task.cancel()
                await until_async(lambda: sample(url, "ragstack_requests_in_flight") <= 34)
                embedder.go.set()
                await asyncio.gather(first, *tasks[1::2])

        run(scenario)
        assert sorted(vectors) == list(range(1, 64, 2))
        for number, vector in vectors.items():
            dense = expected.embed([f"text of client {number}"], "passage").dense
            assert dense is not None
            assert vector == pytest.approx(dense[0].tolist())
        assert sample(url, "ragstack_queue_requests") == sample(url, "ragstack_queue_tokens") == 0
        assert sample(url, "ragstack_requests_in_flight") == 1  # the one that asks
        embedded = {text for call in embedder.calls for text in call}
        # A batch or two may have begun before anybody left.
        left = {f"text of client {number}" for number in range(0, 64, 2)}
        assert len(embedded & left) <= 32 - 8


def test_what_is_too_much_is_refused_with_the_time_to_come_back(tmp_path: Path) -> None:
    with served(tmp_path, max_concurrent_requests=2, max_concurrent_rankings=1) as (url, embedder):

        async def scenario() -> None:
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                embedder.go.clear()
                ranking = {"query": {"text": "a"}, "passages": [{"text": "a"}]}
                busy = [asyncio.ensure_future(client.post("/embed", json={"inputs": "a"})) for _ in range(2)]
                busy.append(asyncio.ensure_future(client.post("/v1/ranking", json=ranking)))
                await until_async(lambda: sample(url, "ragstack_requests_in_flight") == 4)
                openai_like = await client.post("/v1/embeddings", json={"input": "a"})
                assert (openai_like.status_code, openai_like.json()["error"]["code"]) == (429, "rate_limit_exceeded")
                tei_like = await client.post("/embed", json={"inputs": "a"})
                assert (tei_like.status_code, tei_like.json()["error_type"]) == (429, "Overloaded")
                ranked = await client.post("/v1/ranking", json=ranking)
                assert ranked.status_code == 429
                assert all(int(answer.headers["retry-after"]) >= 1 for answer in (openai_like, tei_like, ranked))
                embedder.go.set()
                assert [answer.status_code for answer in await asyncio.gather(*busy)] == [200, 200, 200]
                assert (await client.post("/embed", json={"inputs": "a"})).status_code == 200

        run(scenario)


def test_a_request_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with served(tmp_path, timeout_s=0.2) as (url, embedder):
        embedder.go.clear()
        openai_like = httpx.post(f"{url}/v1/embeddings", json={"input": "a"}, timeout=10)
        assert (openai_like.status_code, openai_like.json()["error"]["code"]) == (504, "timeout")
        tei_like = httpx.post(f"{url}/embed", json={"inputs": "a"}, timeout=10)
        assert (tei_like.status_code, tei_like.json()["error_type"]) == (429, "Overloaded")
        embedder.go.set()
        assert httpx.post(f"{url}/embed", json={"inputs": "a"}, timeout=10).status_code == 200


async def until_async(condition: Callable[[], bool]) -> None:
    """As ``until``, for a condition that asks over HTTP."""
    while not await asyncio.to_thread(condition):
        await asyncio.sleep(0.02)
