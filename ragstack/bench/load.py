"""The core of the load generator: which request comes when, and what became of each. No I/O and no clock of its own.

Closed loop: a request begins as soon as one of ``concurrency`` places is free. Open loop (``rate``): requests are due
at random times, whether earlier ones were answered or not; one that has to wait for a place counts its wait, so that a
server that stalls cannot hide it ("coordinated omission").
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

GIVE_UP_S = 30.0
"""A load without a single good answer for so long is given up."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a load is measured: that many requests, or that many seconds. One of the two is None."""

    requests: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Work:
    """What a request asks for: texts and their tokens, by the tokenizer that made them; pairs of query and passage."""

    texts: int = 0
    pairs: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Good:
    """A request that was answered as it should be.

    ``server_tokens`` is what the server counted, None where it did not say. ``stages_s``: seconds by stage, where told.
    """

    work: Work
    server_tokens: int | None = None
    stages_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that was not: its ``kind`` for counting (``status 503``, ``timeout``), and what was said."""

    kind: str
    message: str


Outcome: TypeAlias = Good | Failed


@dataclass(frozen=True, slots=True)
class Turn:
    """Leave to send the request ``number``. It is ``due`` then, on the caller's clock in seconds; None: now."""

    number: int
    due: float | None = None


@dataclass(slots=True)
class ErrorCount:
    """Failures of one kind, and what the first of them said."""

    count: int
    example: str


@dataclass
class Tally:
    """What became of the requests. ``ended_s - started_s`` spans the first request's turn to the last one's end.

    ``latencies_s`` are those of good requests. ``server_tokens`` counts what servers told of; ``told`` is how many good
    requests it is about. ``work`` is that of good requests.
    """

    started_s: float = 0.0
    ended_s: float = 0.0
    begun: int = 0
    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    texts: int = 0
    pairs: int = 0
    tokens: int = 0
    server_tokens: int = 0
    told: int = 0
    stages_s: dict[str, array[float]] = field(default_factory=dict)
    errors: dict[str, ErrorCount] = field(default_factory=dict)
    most_in_flight: int = 0
    gave_up: bool = False

    @property
    def good(self) -> int:
        """How many requests were answered as they should be."""
        return len(self.latencies_s)

    @property
    def failed(self) -> int:
        """How many were not."""
        return sum(error.count for error in self.errors.values())

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended_s - self.started_s

    def add(self, latency_s: float, outcome: Outcome) -> None:
        """Count one request."""
        if isinstance(outcome, Failed):
            found = self.errors.setdefault(outcome.kind, ErrorCount(0, outcome.message))
            found.count += 1
            return
        self.latencies_s.append(latency_s)
        self.texts += outcome.work.texts
        self.pairs += outcome.work.pairs
        self.tokens += outcome.work.tokens
        if outcome.server_tokens is not None:
            self.server_tokens += outcome.server_tokens
            self.told += 1
        for stage, seconds in outcome.stages_s.items():
            self.stages_s.setdefault(stage, array("d")).append(seconds)


class Schedule:
    """Gives turns to at most ``concurrency`` requests at a time, and tallies them. For one thread.

    Numbers begin with ``first``. ``rate`` is of arrivals, in requests a second, with exponentially distributed times
    between them, drawn by ``seed``; None: closed loop.
    """

    def __init__(
        self, concurrency: int, effort: Effort, *, first: int = 0, rate: float | None = None, seed: int = 0
    ) -> None:
        if concurrency < 1 or (effort.requests is None) == (effort.seconds is None) or (rate is not None and rate <= 0):
            raise ValueError(f"no schedule for concurrency {concurrency}, {effort}, rate {rate}")
        self.concurrency = concurrency
        self.tally = Tally()
        self._effort, self._first, self._rate = effort, first, rate
        self._rng = random.Random(f"{seed} arrivals")
        self._turns = self._in_flight = 0
        self._arrival = 0.0

    def start(self, now: float) -> None:
        """The load begins; ``now`` in seconds of any clock that goes steadily on."""
        self.tally.started_s = self.tally.ended_s = self._arrival = now

    def take(self, now: float) -> Turn | None:
        """The next turn; None when there are no more. Raises RuntimeError when all places are taken."""
        tally = self.tally
        if self._turns >= self.concurrency:
            raise RuntimeError(f"{self._turns} requests are under way; {self.concurrency} may be")
        if not tally.good and tally.failed and now - tally.started_s >= GIVE_UP_S:
            tally.gave_up = True
        if tally.gave_up or (self._effort.requests is not None and tally.begun >= self._effort.requests):
            return None
        due = None
        if self._rate is not None:
            self._arrival += self._rng.expovariate(self._rate)
            due = self._arrival
        if self._effort.seconds is not None and max(now, due or now) - tally.started_s >= self._effort.seconds:
            return None
        turn = Turn(self._first + tally.begun, due)
        tally.begun += 1
        self._turns += 1
        return turn

    def sent(self) -> None:
        """The request of a turn is on its way."""
        self._in_flight += 1
        self.tally.most_in_flight = max(self.tally.most_in_flight, self._in_flight)

    def end(self, turn: Turn, sent_s: float, ended_s: float, outcome: Outcome) -> None:
        """The request of a turn was sent and has ended, at these times. To be called once for each turn."""
        self._turns -= 1
        self._in_flight -= 1
        self.tally.ended_s = max(self.tally.ended_s, ended_s)
        self.tally.add(ended_s - (sent_s if turn.due is None else turn.due), outcome)
