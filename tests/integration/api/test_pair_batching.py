"""Rankings of many clients at a time: their pairs share batches, and nobody waits for somebody's thousand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import ragstack
from ragstack.api.batch_worker import BatchReport
from ragstack.api.model_errors import ModelRequestError
from ragstack.api.pair_worker import PairWorker
from ragstack.cancellation import Cancellation
from ragstack.errors import RerankingError
from ragstack.reranking.cross_encoder import CrossEncoderReranker
from ragstack.reranking.pairs import Pair, PendingLogits
from ragstack.retrieval.text_ranking import text_candidates
from tests.cross_encoder_kit import ask, by_id, write_cross_encoder
from tests.integration.api.live import live
from tests.integration.harness import SMALL_CONFIG

QUERY = "the pump of line seven"


class Watched(CrossEncoderReranker):
    """A real cross-encoder that can be held up, and says what it was given."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), threads=1)
        self.calls: list[list[Pair]] = []
        self.held = False
        self.go = threading.Event()
        self.go.set()

    def submit(self, pairs: Sequence[Pair], cancellation: Cancellation) -> Any:
        self.held = not self.go.is_set()
        self.go.wait(20)
        self.held = False
        self.calls.append(list(pairs))
        if any(len(pair.ids) == 3 for pair in pairs):
            raise RerankingError("an empty pair")
        return super().submit(pairs, cancellation)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cross_encoder(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def reranker(folder: Path) -> Iterator[Watched]:
    made = Watched(folder)
    yield made
    made.go.set()
    made.close()


@contextmanager
def working(reranker: Watched, max_batch_tokens: int = 200) -> Iterator[tuple[PairWorker, list[BatchReport]]]:
    reports: list[BatchReport] = []
    worker = PairWorker(lambda: reranker, max_batch_tokens, 100_000, reports.append)
    worker.start()
    try:
        yield worker, reports
    finally:
        reranker.go.set()
        worker.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario(), 30)

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def ranked(worker: PairWorker, reranker: Watched, texts: Sequence[str]) -> dict[str, float]:
    candidates = text_candidates(texts)
    pairs = reranker.encode(QUERY, candidates)
    return by_id(reranker.ranked(candidates, pairs, await worker.score(pairs)))


def test_pairs_of_many_clients_share_batches_and_each_gets_its_own_scores(reranker: Watched, folder: Path) -> None:
    requests = [[f"client {client} asks {text} of the pump" for text in range(client % 4 + 1)] for client in range(20)]
    plain = CrossEncoderReranker(str(folder), threads=1)
    expected = [by_id(plain.rerank(ask(QUERY), text_candidates(texts))) for texts in requests]
    plain.close()

    async def scenario() -> None:
        with working(reranker) as (worker, reports):
            await until(lambda: worker.state == "ready")
            reranker.go.clear()
            first = asyncio.ensure_future(ranked(worker, reranker, ["holds the model"]))
            await until(lambda: reranker.held)
            waiting = [asyncio.ensure_future(ranked(worker, reranker, texts)) for texts in requests]
            await until(lambda: worker.queued_requests == 20)
            tokens = worker.queued_tokens
            reranker.go.set()
            for found, wanted in zip(await asyncio.gather(*waiting), expected, strict=True):
                assert found == pytest.approx(wanted, abs=1e-5)
            await first
            assert worker.queued_tokens == 0
        # As few batches as the budget allows, but for a last one that is not full.
        assert len(reports) - 1 <= tokens / (worker.max_batch_tokens - 20) + 1
        assert sum(report.texts for report in reports) == 1 + sum(map(len, requests))
        assert max(report.requests for report in reports) >= 5
        assert all(sum(report.token_counts) <= worker.max_batch_tokens for report in reports)

    run(scenario)


def test_one_passage_does_not_wait_for_a_thousand(reranker: Watched) -> None:
    async def scenario() -> None:
        with working(reranker) as (worker, reports):
            await until(lambda: worker.state == "ready")
            reranker.go.clear()
            first = asyncio.ensure_future(ranked(worker, reranker, ["holds the model"]))
            await until(lambda: reranker.held)
            large = asyncio.ensure_future(ranked(worker, reranker, ["a valve"] * 200))
            await until(lambda: worker.queued_requests == 1)
            small = asyncio.ensure_future(ranked(worker, reranker, ["the pump"]))
            await until(lambda: worker.queued_requests == 2)
            reranker.go.set()
            await asyncio.gather(first, large, small)
        # The small request had its only pair in the first batch after the one that was held.
        assert [report.requests for report in reports[:2]] == [1, 2]
        assert len(reports) > 5

    run(scenario)


def test_pairs_of_a_client_that_left_are_not_scored(reranker: Watched) -> None:
    async def scenario() -> None:
        with working(reranker) as (worker, _):
            await until(lambda: worker.state == "ready")
            reranker.go.clear()
            first = asyncio.ensure_future(ranked(worker, reranker, ["holds the model"]))
            await until(lambda: reranker.held)
            leaving = asyncio.ensure_future(ranked(worker, reranker, ["nobody waits"] * 50))
            staying = asyncio.ensure_future(ranked(worker, reranker, ["somebody waits"]))
            await until(lambda: worker.queued_requests == 2)
            leaving.cancel()
            await until(lambda: worker.queued_requests == 1)
            reranker.go.set()
            await asyncio.gather(first, staying)
        assert sum(map(len, reranker.calls)) == 2

    run(scenario)


def test_a_pair_that_fails_fails_its_own_ranking_alone(reranker: Watched) -> None:
    async def scenario() -> None:
        with working(reranker) as (worker, _):
            await until(lambda: worker.state == "ready")
            reranker.go.clear()
            first = asyncio.ensure_future(ranked(worker, reranker, ["holds the model"]))
            await until(lambda: reranker.held)
            empty = asyncio.ensure_future(worker.score([Pair(0, [101, 102, 102], [0, 0, 1], "text 0")]))
            not_a_number = asyncio.ensure_future(ranked(worker, reranker, ["fine", "a zebra"]))
            good = asyncio.ensure_future(ranked(worker, reranker, ["the pump", "the log"]))
            await until(lambda: worker.queued_requests == 3)
            reranker.go.set()
            assert len(await good) == 2
            with pytest.raises(ModelRequestError, match="an empty pair"):
                await empty
            with pytest.raises(RerankingError, match=r"nan for text 1"):
                await not_a_number
            await first

    run(scenario)


class OnTwoGpus:
    """What a reranker on GPUs would be asked; the batches under way are counted."""

    max_batch_tokens = 32_768
    device = "cuda:0,cuda:1"

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.most_under_way = self.under_way = 0

    def preload(self) -> None: ...

    def submit(self, pairs: Sequence[Pair], cancellation: Cancellation) -> PendingLogits:
        self.begun.append(sum(len(pair.ids) for pair in pairs))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        outer = self

        class Pending:
            def result(self) -> Any:
                outer.under_way -= 1
                return np.zeros(len(pairs))

        return Pending()

    def encode(self, query: str, candidates: Any) -> Any: ...

    def ranked(self, candidates: Any, pairs: Any, logits: Any) -> Any: ...


def test_gpus_get_their_budget_and_as_many_batches_at_a_time_as_there_are() -> None:
    gpus = OnTwoGpus()

    async def scenario() -> None:
        worker = PairWorker(lambda: gpus, None, 10**7, lambda report: None)
        worker.start()
        pair = Pair(0, [7] * 512, [0] * 512, "text 0")
        await asyncio.gather(*(worker.score([pair] * 100) for _ in range(10)))
        worker.close()

    run(scenario)
    assert max(gpus.begun) == 32_768
    assert gpus.most_under_way == 3  # one on each, and one that is ready
    assert sum(gpus.begun) == 1000 * 512


def test_clients_over_http_share_batches(tmp_path: Path, folder: Path) -> None:
    config = {
        **SMALL_CONFIG,
        "reranker": {"type": "cross_encoder", "model": str(folder)},
        "server": {"model_server": {"max_batch_tokens": 4000}},
    }
    pipeline = ragstack.open(config, state_dir=tmp_path / "state")
    watched = Watched(folder)
    pipeline._text_reranker = watched

    def sample(url: str, name: str) -> float:
        lines = httpx.get(f"{url}/metrics").text.splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(f"{name} ")))

    with live(pipeline) as url:

        async def rank(client: httpx.AsyncClient, number: int) -> list[int]:
            body = {"query": QUERY, "texts": [f"text of client {number}", "the pump of line seven"]}
            answer = await client.post("/rerank", json=body)
            assert answer.status_code == 200, answer.text
            return [item["index"] for item in answer.json()]

        async def scenario() -> None:
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                await rank(client, 0)
                watched.go.clear()
                first = asyncio.ensure_future(rank(client, 1))
                await until(lambda: watched.held)
                waiting = [asyncio.ensure_future(rank(client, number)) for number in range(2, 18)]
                while await asyncio.to_thread(sample, url, "ragstack_queue_requests") < 16:
                    await asyncio.sleep(0.02)
                watched.go.set()
                assert await asyncio.gather(first, *waiting) == [[1, 0]] * 17
                broken = {"query": QUERY, "texts": ["a zebra"]}
                answer = await client.post("/rerank", json=broken)
                assert (answer.status_code, answer.json()["error_type"]) == (424, "Backend")
                long = {"query": "word " * 60, "texts": ["a"]}
                answer = await client.post("/rerank", json=long)
                assert (answer.status_code, answer.json()["error_type"]) == (413, "Validation")

        try:
            run(scenario)
            assert [len(call) for call in watched.calls[:3]] == [2, 2, 32]
            assert sample(url, "ragstack_pair_batch_pairs_sum") == 37
        finally:
            watched.go.set()
            watched.close()
