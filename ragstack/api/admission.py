"""How much work may be under way: more is refused at once, with the time after which to come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ragstack.api.model_errors import ModelRequestError

_SHORTEST_S, _LONGEST_S = 1, 60


class Gate:
    """Lets at most ``limit`` requests of a kind in. Not for several threads: all its users are on the event loop."""

    def __init__(self, kind: str, limit: int) -> None:
        self.kind = kind
        self.limit = limit
        self.under_way = 0

    @contextmanager
    def entered(self, retry_after_s: Callable[[], int]) -> Iterator[None]:
        """A block that counts as one request. Raises ModelRequestError (overloaded) when the limit is reached."""
        if self.under_way >= self.limit:
            raise ModelRequestError(
                "overloaded",
                f"Model is overloaded: {self.limit} {self.kind} requests are under way.",
                hint="Try again later, with fewer requests at a time.",
                retry_after_s=retry_after_s(),
            )
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1


class TokenBudget:
    """Bounds how many tokens' vectors are held in memory at a time. Not for several threads, as ``Gate``."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held_tokens = 0

    @contextmanager
    def held(self, tokens: int, retry_after_s: Callable[[], int]) -> Iterator[None]:
        """A block that holds the vectors of so many tokens.

        Raises ModelRequestError: batch_too_large for more than may ever be held, overloaded for more than may be now.
        """
        if tokens > self.limit:
            raise ModelRequestError(
                "batch_too_large",
                f"batch of {tokens} tokens > maximum allowed {self.limit} tokens",
                hint="Send fewer or shorter texts at a time.",
            )
        if self.held_tokens + tokens > self.limit:
            raise ModelRequestError(
                "overloaded",
                f"Model is overloaded: the vectors of {self.held_tokens} tokens are held, {self.limit} may be.",
                hint="Try again later, with fewer requests at a time.",
                retry_after_s=retry_after_s(),
            )
        self.held_tokens += tokens
        try:
            yield
        finally:
            self.held_tokens -= tokens


class Throughput:
    """How many tokens a second were embedded lately, as an average that forgets: half of it after ``half_life_s``."""

    def __init__(self, half_life_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._half_life_s = half_life_s
        self._clock = clock
        self._since = clock()
        self._tokens = 0.0
        self._busy_s = 0.0

    def add(self, tokens: int, busy_s: float) -> None:
        """``tokens`` took ``busy_s`` seconds."""
        now = self._clock()
        kept = 0.5 ** ((now - self._since) / self._half_life_s)
        self._since = now
        self._tokens = self._tokens * kept + tokens
        self._busy_s = self._busy_s * kept + busy_s

    def retry_after_s(self, waiting_tokens: int) -> int:
        """Whole seconds in which so many tokens will have been embedded: 1 to 60, 1 before anything was measured."""
        if self._busy_s <= 0 or self._tokens <= 0:
            return _SHORTEST_S
        seconds = waiting_tokens * self._busy_s / self._tokens
        return int(min(max(seconds + 0.999, _SHORTEST_S), _LONGEST_S))
