"""The end of a server: requests under way are told when their time is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Shutdown:
    """Requests wait for it beside their own work. Used in the event loop's thread alone."""

    def __init__(self) -> None:
        self.is_over = False
        self._listeners: set[Callable[[], None]] = set()

    @property
    def listeners(self) -> int:
        """How many requests are under way that wait for it."""
        return len(self._listeners)

    def end_requests(self) -> None:
        """The time is over: everything that listens is called, and from now on whatever begins to listen."""
        self.is_over = True
        for listener in list(self._listeners):
            listener()

    @contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """A block during which ``listener`` is called when the time is over."""
        self._listeners.add(listener)
        if self.is_over:
            listener()
        try:
            yield
        finally:
            self._listeners.discard(listener)
