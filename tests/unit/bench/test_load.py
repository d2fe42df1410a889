"""The core of the load generator, on a clock that the tests turn."""

from __future__ import annotations

import heapq
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.bench.load import GIVE_UP_S, Effort, Failed, Good, Outcome, Schedule, Turn, Work

GOOD = Good(Work(texts=2, pairs=1, tokens=10), 9, {"embed": 0.25})
BAD = Failed("status 503", "busy")
Durations = st.lists(st.floats(0.001, 3.0), min_size=1, max_size=20)


def simulate(schedule: Schedule, durations: list[float], outcomes: list[Outcome]) -> dict[int, tuple[float, float]]:
    """Run a schedule on a clock of its own: (sent, ended) of each request, which take ``durations`` in turn."""
    schedule.start(0.0)
    done: dict[int, tuple[float, float]] = {}
    places = [(0.0, place, None) for place in range(schedule.concurrency)]
    events: list[tuple[float, int, tuple[Turn, float, int] | None]] = list(places)
    heapq.heapify(events)
    in_flight: set[int] = set()
    while events:
        now, place, running = heapq.heappop(events)
        if running is not None:
            turn, sent, number = running
            if turn.number not in in_flight:  # it was waiting for its time
                schedule.sent()
                in_flight.add(turn.number)
                heapq.heappush(events, (now + durations[number % len(durations)], place, (turn, now, number)))
                continue
            in_flight.remove(turn.number)
            schedule.end(turn, sent, now, outcomes[number % len(outcomes)])
            assert turn.number not in done
            done[turn.number] = (sent, now)
        assert len(in_flight) < schedule.concurrency
        found = schedule.take(now)
        if found is not None:
            due = now if found.due is None else max(now, found.due)
            heapq.heappush(events, (due, place, (found, due, schedule.tally.begun - 1)))
    return done


@given(st.integers(1, 6), st.integers(1, 40), Durations, st.integers(0, 5))
def test_closed_loop_by_number(concurrency: int, requests: int, durations: list[float], first: int) -> None:
    schedule = Schedule(concurrency, Effort(requests, None), first=first)
    done = simulate(schedule, durations, [GOOD])
    tally = schedule.tally
    assert sorted(done) == list(range(first, first + requests))  # each once
    assert tally.good == tally.begun == requests
    assert tally.most_in_flight == min(concurrency, requests)
    assert sorted(tally.latencies_s) == pytest.approx(sorted(end - sent for sent, end in done.values()))
    assert tally.seconds == pytest.approx(max(end for _, end in done.values()))
    assert (tally.texts, tally.pairs, tally.tokens) == (2 * requests, requests, 10 * requests)
    assert (tally.server_tokens, tally.told) == (9 * requests, requests)
    assert list(tally.stages_s["embed"]) == [0.25] * requests


@given(st.integers(1, 4), st.floats(0.1, 5.0), Durations)
def test_closed_loop_by_time(concurrency: int, seconds: float, durations: list[float]) -> None:
    schedule = Schedule(concurrency, Effort(None, seconds))
    done = simulate(schedule, durations, [GOOD])
    assert len(done) >= concurrency
    assert all(sent < seconds for sent, _ in done.values())  # none begins after the end, all that began are counted
    assert schedule.tally.good == len(done)
    ends = sorted(end for _, end in done.values())
    # Every place was busy until the end: a request began the moment another one ended.
    assert sum(end < seconds for end in ends) == len(done) - concurrency


@given(st.lists(st.sampled_from([GOOD, BAD, Failed("timeout", "slow")]), min_size=1, max_size=10))
def test_failures_are_counted_by_kind_and_leave_no_latency(outcomes: list[Outcome]) -> None:
    schedule = Schedule(2, Effort(10, None))
    simulate(schedule, [0.1], outcomes)
    expected = [outcomes[number % len(outcomes)] for number in range(10)]
    tally = schedule.tally
    counted = Counter(outcome.kind for outcome in expected if isinstance(outcome, Failed))
    assert {kind: error.count for kind, error in tally.errors.items()} == dict(counted)
    assert tally.good == len(tally.latencies_s) == sum(isinstance(outcome, Good) for outcome in expected)
    assert tally.good + tally.failed == tally.begun == 10


def test_open_loop_arrives_at_its_rate_whether_answered_or_not() -> None:
    arrivals = []
    for durations in ([0.001], [5.0]):
        schedule = Schedule(1000, Effort(400, None), rate=20.0, seed=1)
        done = simulate(schedule, durations, [GOOD])
        arrivals.append([sent for sent, _ in sorted(done.values())])
    assert arrivals[0] == arrivals[1]
    gaps = [b - a for a, b in zip(arrivals[0], arrivals[0][1:], strict=False)]
    assert sum(gaps) / len(gaps) == pytest.approx(1 / 20, rel=0.15)
    # Exponential gaps: as many are shorter than the mean as 1 - 1/e says.
    assert sum(gap < 1 / 20 for gap in gaps) / len(gaps) == pytest.approx(0.632, abs=0.08)


def test_open_loop_counts_the_wait_for_a_place() -> None:
    schedule = Schedule(1, Effort(50, None), rate=100.0, seed=2)
    done = simulate(schedule, [0.1], [GOOD])
    assert schedule.tally.most_in_flight == 1
    # A hundred a second are due and ten a second are served: the last waited for nearly all of the others.
    assert max(schedule.tally.latencies_s) > 4.0
    assert all(end - sent == pytest.approx(0.1) for sent, end in done.values())


def test_open_loop_by_time_ends_with_its_time() -> None:
    schedule = Schedule(64, Effort(None, 2.0), rate=50.0, seed=3)
    done = simulate(schedule, [0.01], [GOOD])
    assert all(sent < 2.0 for sent, _ in done.values())
    assert 70 < len(done) < 130


def test_the_concurrency_cannot_be_exceeded() -> None:
    schedule = Schedule(2, Effort(10, None))
    schedule.start(0.0)
    assert schedule.take(0.0) is not None
    assert schedule.take(0.0) is not None
    with pytest.raises(RuntimeError, match="2 may be"):
        schedule.take(0.0)


def test_a_load_without_a_good_answer_is_given_up_in_time() -> None:
    slow = GIVE_UP_S / 3
    schedule = Schedule(1, Effort(100, None))
    done = simulate(schedule, [slow], [BAD])
    assert schedule.tally.gave_up
    assert len(done) == 3
    with_one_good = Schedule(1, Effort(100, None))
    simulate(with_one_good, [slow], [GOOD, *[BAD] * 99])
    assert not with_one_good.tally.gave_up
    assert with_one_good.tally.begun == 100


@pytest.mark.parametrize(
    ("concurrency", "effort", "rate"),
    [(0, Effort(1, None), None), (1, Effort(None, None), None), (1, Effort(1, 1.0), None), (1, Effort(1, None), 0.0)],
)
def test_schedules_that_make_no_sense(concurrency: int, effort: Effort, rate: float | None) -> None:
    with pytest.raises(ValueError, match="no schedule"):
        Schedule(concurrency, effort, rate=rate)
