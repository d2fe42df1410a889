"""Whose turn it is to read the index: one query's at a time, and nobody's while it is being erased from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock that a query gives up while it waits for something slow that reads no index: a reranker.

    Between :meth:`waiting` and its end others have their turns, but none :meth:`alone`.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._ended = threading.Condition(self.lock)
        self._waiting = 0
        self._alone = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A block without the lock, for a holder of it, who holds it again afterwards.

        While somebody wants to be alone the lock is kept, so that they need not wait for ever.
        """
        if self._alone:
            yield
            return
        self._waiting += 1
        self.lock.release()
        try:
            yield
        finally:
            self.lock.acquire()
            self._waiting -= 1
            self._ended.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A block with the lock in which no query is under way, not even one that waits."""
        with self.lock:
            self._alone += 1
            try:
                self._ended.wait_for(lambda: self._waiting == 0)
                yield
            finally:
                self._alone -= 1
