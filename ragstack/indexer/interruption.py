"""Stopping a run where it is safe to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interruption:
    """A request to stop a run. Signal handlers and other threads make it; the run honours it.

    The run calls :meth:`check` between its steps and wraps what may be left at any instruction, because
    nothing in it needs taking back, in :meth:`anywhere`; elsewhere (in a transaction, while files are
    opened) a request waits for the next of these. Both raise KeyboardInterrupt.

    ``kept`` counts the sources that the run has published so far.
    """

    def __init__(self) -> None:
        self.kept = 0
        self._requested = False
        self._leaving: int | None = None

    @property
    def requested(self) -> bool:
        """True once somebody asked."""
        return self._requested

    def request(self) -> None:
        """Ask the run to stop. Called in the run's own thread (a signal handler), it may raise KeyboardInterrupt."""
        first, self._requested = not self._requested, True
        if first and self._leaving == threading.get_ident():
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if somebody asked."""
        if self._requested:
            raise KeyboardInterrupt

    @contextmanager
    def anywhere(self) -> Iterator[None]:
        """A block that a request ends at once."""
        self._leaving = threading.get_ident()
        try:
            self.check()
            yield
        finally:
            self._leaving = None

    def message(self) -> str:
        """What to tell the user of a run that was stopped."""
        return (
            f"stopped: {self.kept} new and changed sources were indexed before the stop and are kept;"
            " the index is consistent."
        )
