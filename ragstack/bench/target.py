"""The seam between the load generator and what it measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ragstack.bench.load import Outcome
from ragstack.bench.plan import Load
from ragstack.inference.batch_counts import BatchTokens


class RequestFailedError(Exception):
    """A request that was not answered. ``kind`` is what failures are counted by. Caught by the driver, never shown."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


class Request(Protocol):
    """One request, ready to be sent."""

    async def send(self) -> None:
        """Send it and wait for the whole answer; what is timed. Raises RequestFailedError."""

    def outcome(self) -> Outcome:
        """What the answer says, read after the time was taken."""


class Target(Protocol):
    """What one load is sent to."""

    def request(self, number: int) -> Request:
        """The request ``number``; the same number gives the same request."""

    def batch_tokens(self) -> BatchTokens | None:
        """Of all requests so far; None where they cannot be told."""


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What is measured, for the report. ``tokenizer`` made the texts; ``facts`` hold what else is known, by name."""

    kind: Literal["local", "remote"]
    model: str
    tokenizer: str
    facts: dict[str, Any]


class Endpoint(Protocol):
    """Something that can be measured: a model in this process, or a server."""

    @property
    def is_remote(self) -> bool:
        """True when this process only asks: it may then be slower than what it measures."""

    def check(self, loads: Sequence[Load]) -> None:
        """Raise InputError for loads that can never be answered, before any is measured."""

    def facts(self) -> TargetFacts:
        """What is measured; told after the loads, when most is known."""

    def target(self, load: Load) -> Target:
        """What the load is sent to. Raises InputError for a load that can't be made."""

    async def close(self) -> None:
        """Release threads and connections. Idempotent."""
