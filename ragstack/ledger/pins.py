"""Which snapshots readers hold, so that a writer does not purge what they still read."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from ragstack.ledger.snapshot import Snapshot

_ANY = (0, -1)


class Pins(Protocol):
    """What writer and readers of one index share. Safe to call from several threads."""

    def reading(self) -> AbstractContextManager[Callable[[Snapshot], None]]:
        """A block in which a reader holds a snapshot; call what it yields as soon as the snapshot is read.

        Until then the reader counts as holding the oldest one, so that nothing is purged between the
        reading of the ledger and the pin.
        """

    def wait_for_readers(self, generation: int, committed_seq: int, timeout_s: float) -> bool:
        """Wait until no reader holds a snapshot older than this one; False when ``timeout_s`` ran out first."""


class SnapshotPins:
    """:class:`Pins` of one process. Readers in others are kept out by the lock of the embedded store."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: dict[int, tuple[int, int]] = {}
        self._tickets = itertools.count()

    @contextmanager
    def reading(self) -> Iterator[Callable[[Snapshot], None]]:
        """See :class:`Pins`."""
        with self._changed:
            ticket = next(self._tickets)
            self._held[ticket] = _ANY

        def hold(snapshot: Snapshot) -> None:
            with self._changed:
                self._held[ticket] = (snapshot.generation, snapshot.committed_seq)
                self._changed.notify_all()

        try:
            yield hold
        finally:
            with self._changed:
                del self._held[ticket]
                self._changed.notify_all()

    def wait_for_readers(self, generation: int, committed_seq: int, timeout_s: float) -> bool:
        """See :class:`Pins`."""
        wanted = (generation, committed_seq)
        with self._changed:
            return self._changed.wait_for(lambda: all(held >= wanted for held in self._held.values()), timeout_s)
