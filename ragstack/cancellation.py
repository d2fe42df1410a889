"""Giving up work whose result nobody waits for any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ragstack.errors import InterruptedRunError


class Cancellation:
    """A request to give up, made in one thread and honoured in another.

    Work calls :meth:`check` between its steps; what waits for something slow (another server's answer) names, with
    :meth:`calling`, how it is woken.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requested = False
        self._callbacks: list[Callable[[], object]] = []

    @property
    def requested(self) -> bool:
        """True once somebody asked."""
        return self._requested

    def request(self) -> None:
        """Ask for the end of the work. Idempotent; runs the callbacks that are registered."""
        with self._lock:
            if self._requested:
                return
            self._requested = True
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def check(self) -> None:
        """Raise InterruptedRunError if somebody asked."""
        if self._requested:
            raise InterruptedRunError("given up: nobody waits for the answer any more.")

    @contextmanager
    def calling(self, callback: Callable[[], object]) -> Iterator[None]:
        """A block during which a request calls ``callback``, in the asking thread; at once if it was made before.

        ``callback`` must return quickly and not raise.
        """
        with self._lock:
            asked = self._requested
            if not asked:
                self._callbacks.append(callback)
        if asked:
            callback()
        try:
            yield
        finally:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)
