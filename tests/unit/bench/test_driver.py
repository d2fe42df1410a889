"""The driver over targets that misbehave, and what says that the client was the limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from ragstack.bench.driver import ClientWork, Measured, Pace, limits, measure, measure_all
from ragstack.bench.load import Effort, Failed, Good, Outcome, Work
from ragstack.bench.plan import Load, QueryLoad
from ragstack.bench.report import build_report, notes_of
from ragstack.bench.target import RequestFailedError, Target, TargetFacts
from ragstack.inference.batch_counts import BatchTokens


@dataclass
class Scripted:
    """An endpoint whose requests do what a test says; counts how many are under way."""

    do: Callable[[int], Outcome]
    is_remote: bool = True
    seen: list[int] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    closed: bool = False

    def check(self, loads: Sequence[Load]) -> None:
        """All can be done."""

    def facts(self) -> TargetFacts:
        return TargetFacts("remote", "", "", {})

    def target(self, load: Load) -> Target:
        return self

    def batch_tokens(self) -> BatchTokens | None:
        return BatchTokens(10 * len(self.seen), 12 * len(self.seen))

    def request(self, number: int) -> ScriptedRequest:
        return ScriptedRequest(self, number)

    async def close(self) -> None:
        self.closed = True


@dataclass
class ScriptedRequest:
    endpoint: Scripted
    number: int
    found: Outcome | None = None

    async def send(self) -> None:
        endpoint = self.endpoint
        endpoint.seen.append(self.number)
        endpoint.under_way += 1
        endpoint.most_under_way = max(endpoint.most_under_way, endpoint.under_way)
        try:
            await asyncio.sleep(0.001 * (self.number % 3))
            self.found = endpoint.do(self.number)
        finally:
            endpoint.under_way -= 1

    def outcome(self) -> Outcome:
        assert self.found is not None
        return self.found


def good(number: int) -> Outcome:
    return Good(Work(texts=1, tokens=5))


def run(endpoint: Scripted, concurrency: int, pace: Pace) -> Measured:
    return asyncio.run(measure(endpoint, QueryLoad(concurrency), pace))


def test_every_request_is_sent_once_and_the_warm_up_is_not_counted() -> None:
    endpoint = Scripted(good)
    found = run(endpoint, 5, Pace(Effort(30, None)))
    assert sorted(endpoint.seen) == list(range(35))  # 5 to warm up, with other texts than the 30
    assert found.tally.good == found.tally.begun == 30
    assert endpoint.most_under_way == found.tally.most_in_flight == 5
    assert found.batch_tokens == BatchTokens(300, 360)
    assert found.client is not None
    assert 0 <= found.client.cpu_share <= 1.5


def test_an_open_loop_keeps_its_numbers() -> None:
    endpoint = Scripted(good)
    found = run(endpoint, 4, Pace(Effort(20, None), warm_up=0, rate=2000.0, seed=1))
    assert sorted(endpoint.seen) == list(range(20))
    assert found.tally.good == 20
    assert endpoint.most_under_way <= 4


def test_failures_are_told_from_good_answers() -> None:
    def every_third(number: int) -> Outcome:
        if number % 3 == 0:
            raise RequestFailedError("timeout", "slow")
        return Failed("status 500", "oops") if number % 3 == 1 else good(number)

    found = run(Scripted(every_third), 3, Pace(Effort(30, None), warm_up=0))
    counts = {kind: error.count for kind, error in found.tally.errors.items()}
    assert counts == {"timeout": 10, "status 500": 10}
    assert found.tally.good == 10


def test_nothing_of_the_client_is_told_where_the_model_is_in_its_process() -> None:
    assert run(Scripted(good, is_remote=False), 1, Pace(Effort(3, None))).client is None


def test_a_mistake_in_a_target_ends_the_run() -> None:
    def mistake(number: int) -> Outcome:
        raise ZeroDivisionError

    endpoint = Scripted(mistake)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(measure_all(endpoint, [QueryLoad(4)], Pace(Effort(100, None))))
    assert endpoint.closed
    assert endpoint.under_way == 0


def test_the_loads_after_one_that_nobody_answered_are_not_tried() -> None:
    endpoint = Scripted(lambda number: Failed("status 404", "where?"))
    told: list[int] = []
    loads = [QueryLoad(1), QueryLoad(2)]
    found = asyncio.run(measure_all(endpoint, loads, Pace(Effort(4, None)), lambda measured, left: told.append(left)))
    assert (len(found), told, endpoint.closed) == (1, [1], True)


def test_a_load_after_one_that_was_answered_is_tried_with_other_requests() -> None:
    endpoint = Scripted(lambda number: good(number) if number == 1 else Failed("status 429", "full"))
    found = asyncio.run(measure_all(endpoint, [QueryLoad(1), QueryLoad(2)], Pace(Effort(4, None))))
    assert [one.tally.good for one in found] == [1, 0]
    assert sorted(endpoint.seen) == list(range(11))  # one to warm up and four; two and four


def test_a_rate_that_is_not_reached_is_noted() -> None:
    facts = TargetFacts("remote", "m", "t", {"api": "openai", "url": "http://h"})

    def notes(rate: float) -> list[str]:
        pace = Pace(Effort(8, None), warm_up=0, rate=rate, seed=1)
        measured = run(Scripted(good), 1, pace)
        return notes_of(build_report("query", "", facts, {}, pace, [measured], 1, None))

    assert not any("due" in note for note in notes(20.0))
    assert any("of the 100000 that were due" in note for note in notes(100_000.0))


def test_what_says_that_the_client_was_the_limit() -> None:
    assert limits(None, 0.01) == ""
    assert limits(ClientWork(0.3, 0.0001), 0.01) == ""
    assert "85% of a core" in limits(ClientWork(0.85, 0.0), 0.01)
    assert "2.0 ms late" in limits(ClientWork(0.5, 0.002), 0.01)
    assert limits(ClientWork(0.5, 0.002), 0.1) == ""  # a fiftieth of the latency
