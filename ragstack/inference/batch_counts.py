"""How many tokens a model's batches had, and how many of them were padding."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple


class BatchTokens(NamedTuple):
    """Tokens of the batches so far: ``used`` are the texts', special ones included; ``run`` are all that were run."""

    used: int
    run: int


class BatchCounter:
    """Counts the batches of one model. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used = self._padded = 0

    def add(self, counts: Sequence[int]) -> None:
        """Count a batch that was run: the tokens of each of its rows, at least one row."""
        with self._lock:
            self._used += sum(counts)
            self._padded += max(counts) * len(counts)

    def tokens(self, *, packed: bool) -> BatchTokens:
        """Those of all batches so far; ``packed``: they were run without their padding."""
        with self._lock:
            return BatchTokens(self._used, self._used if packed else self._padded)
