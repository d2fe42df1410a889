"""Carries out loads: one event loop, as many workers as requests may be under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ragstack.bench.load import Effort, Failed, Outcome, Schedule, Tally
from ragstack.bench.plan import Load
from ragstack.bench.target import Endpoint, RequestFailedError, Target
from ragstack.inference.batch_counts import BatchTokens

_CANCEL_AGAIN_S = 0.5
_TICK_S = 0.01


@dataclass(frozen=True, slots=True)
class ClientWork:
    """How busy the load generator itself was: share of one core, and by how many seconds it woke up late on average."""

    cpu_share: float
    lag_s: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One load with what came of it. ``client`` is None where the model runs in the client's process.

    ``batch_tokens`` are those of this load's batches, the warm-up left out. ``next_number`` is what a request after it
    has, so that no two loads send the same.
    """

    load: Load
    tally: Tally
    client: ClientWork | None
    batch_tokens: BatchTokens | None
    next_number: int


OnMeasured: TypeAlias = Callable[[Measured, int], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """How each load is carried out. ``warm_up``: requests before it that do not count; None: one for each place.

    ``rate``: requests a second of an open loop; None: closed loop.
    """

    effort: Effort
    warm_up: int | None = None
    rate: float | None = None
    seed: int = 0


async def measure(endpoint: Endpoint, load: Load, pace: Pace, *, first: int = 0) -> Measured:
    """Warm up, then measure one load; its requests are numbered from ``first``. Failures are counted, never raised."""
    target = endpoint.target(load)
    warm_up = load.concurrency if pace.warm_up is None else pace.warm_up
    if warm_up:
        await _drive(target, Schedule(load.concurrency, Effort(warm_up, None), first=first))
    first += warm_up
    schedule = Schedule(load.concurrency, pace.effort, first=first, rate=pace.rate, seed=pace.seed)
    before = target.batch_tokens()
    watch = _ClientWatch() if endpoint.is_remote else None
    await _drive(target, schedule)
    client = None if watch is None else await watch.stop()
    after = target.batch_tokens()
    batches = None
    if before is not None and after is not None:
        batches = BatchTokens(after.used - before.used, after.run - before.run)
    return Measured(load, schedule.tally, client, batches, first + schedule.tally.begun)


async def _drive(target: Target, schedule: Schedule) -> None:
    """Send every request of the schedule. Raises what a mistake in a target raises; its other requests end with it."""
    schedule.start(time.perf_counter())
    workers = [asyncio.ensure_future(_work(target, schedule)) for _ in range(schedule.concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:
        await _end(workers)


async def _end(workers: Sequence[asyncio.Future[None]]) -> None:
    """Cancel until all have ended: what is about to connect or to be answered can lose a cancellation."""
    left = set(workers)
    while left:
        for worker in left:
            worker.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)
    await asyncio.gather(*workers, return_exceptions=True)  # what they raised is looked at, or asyncio complains


async def _work(target: Target, schedule: Schedule) -> None:
    while (turn := schedule.take(time.perf_counter())) is not None:
        request = target.request(turn.number)
        if turn.due is not None and (wait := turn.due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        schedule.sent()
        sent = time.perf_counter()
        failure: Outcome | None = None
        try:
            await request.send()
        except RequestFailedError as error:
            failure = Failed(error.kind, error.message)
        ended = time.perf_counter()
        schedule.end(turn, sent, ended, failure or request.outcome())


class _ClientWatch:
    """Watches the event loop that it was made in."""

    def __init__(self) -> None:
        self._started, self._cpu = time.perf_counter(), time.thread_time()
        self._late, self._ticks = 0.0, 0
        self._ticking = asyncio.ensure_future(self._tick())

    async def stop(self) -> ClientWork:
        """What it saw."""
        seconds, cpu = time.perf_counter() - self._started, time.thread_time() - self._cpu
        self._ticking.cancel()
        await asyncio.gather(self._ticking, return_exceptions=True)
        return ClientWork(cpu / seconds if seconds else 0.0, self._late / self._ticks if self._ticks else 0.0)

    async def _tick(self) -> None:
        while True:
            due = time.perf_counter() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self._late += time.perf_counter() - due
            self._ticks += 1


def limits(work: ClientWork | None, median_latency_s: float) -> str:
    """Why the load generator, not what it measured, may have set the figures; empty where it did not.

    Above 80% of a core requests queue in the client; a loop that wakes up late adds that to every latency.
    """
    if work is None:
        return ""
    if work.cpu_share >= 0.8:
        return f"the client used {work.cpu_share:.0%} of a core"
    if work.lag_s >= 0.1 * median_latency_s and work.lag_s >= 0.001:
        return f"the client read answers {work.lag_s * 1e3:.1f} ms late on average"
    return ""


async def measure_all(
    endpoint: Endpoint, loads: Sequence[Load], pace: Pace, on_measured: OnMeasured = lambda measured, left: None
) -> list[Measured]:
    """Measure one load after the other; ``on_measured`` is told each one and how many are left.

    When the first load has not one good answer, the others are not tried. Closes the endpoint.
    """
    found: list[Measured] = []
    try:
        for number, load in enumerate(loads, 1):
            found.append(await measure(endpoint, load, pace, first=found[-1].next_number if found else 0))
            on_measured(found[-1], len(loads) - number)
            if number == 1 and not found[0].tally.good:
                break
    finally:
        await endpoint.close()
    return found
