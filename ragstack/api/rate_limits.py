"""How often a caller may come: one token bucket for each."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_MAX_CALLERS = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class RateLimiter:
    """A bucket of ``burst`` tokens for each name, filled by ``per_s``. Each request takes one.

    Remembers the :data:`_MAX_CALLERS` names seen last: a name that comes back later finds a full bucket, as it would
    after a pause. Safe to call from several threads.
    """

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._guard = threading.Lock()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, name: str) -> float:
        """Take a token for ``name``: 0.0, or the seconds until there is one (then none was taken)."""
        now = self._clock()
        with self._guard:
            bucket = self._buckets.setdefault(name, _Bucket(self._burst, now))
            self._buckets.move_to_end(name)
            if len(self._buckets) > _MAX_CALLERS:
                self._buckets.popitem(last=False)
            bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled_at) * self._per_s)
            bucket.filled_at = now
            if bucket.tokens >= 1:
                bucket.tokens -= 1
                return 0.0
            return (1 - bucket.tokens) / self._per_s
