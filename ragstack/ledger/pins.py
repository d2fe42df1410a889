"""Which snapshots readers hold, so that a writer does not purge what they still read."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol

from ragstack.ledger.snapshot import Snapshot


class Pin(NamedTuple):
    """What a reader holds. ``filtered``: it looks at the numbers of commit groups, so it sees no staged chunks."""

    generation: int
    committed_seq: int
    filtered: bool

    @staticmethod
    def of(snapshot: Snapshot) -> Pin:
        """The pin of a snapshot."""
        return Pin(snapshot.generation, snapshot.committed_seq, snapshot.needs_filter)

    def is_older(self, generation: int, committed_seq: int) -> bool:
        """True when a newer snapshot has been published."""
        return self[:2] < (generation, committed_seq)

    def sees_staged(self, generation: int) -> bool:
        """True when chunks that are staged in this generation would be seen."""
        return self.generation == generation and not self.filtered


UNREAD = Pin(0, -1, False)
"""Of a reader that has not read the ledger yet: it may hold anything."""


class Pins(Protocol):
    """What writer and readers of one index share. Safe to call from several threads."""

    def reading(self) -> AbstractContextManager[Callable[[Snapshot], None]]:
        """A block in which a reader holds a snapshot; call what it yields as soon as the snapshot is read.

        Until then the reader counts as holding the oldest one, so that nothing is purged between the
        reading of the ledger and the pin.
        """

    def wait_for_readers(self, generation: int, committed_seq: int, timeout_s: float) -> bool:
        """Wait until no reader holds a snapshot older than this one; False when ``timeout_s`` ran out first."""

    def wait_for_unfiltered(self, generation: int, timeout_s: float) -> bool:
        """Wait for the readers of this generation that began before its group was opened; False when time ran out."""


class SnapshotPins:
    """:class:`Pins` of one process. Readers in others are kept out by the lock of the embedded store."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: dict[int, Pin] = {}
        self._tickets = itertools.count()

    @contextmanager
    def reading(self) -> Iterator[Callable[[Snapshot], None]]:
        """See :class:`Pins`."""
        with self._changed:
            ticket = next(self._tickets)
            self._held[ticket] = UNREAD

        def hold(snapshot: Snapshot) -> None:
            with self._changed:
                self._held[ticket] = Pin.of(snapshot)
                self._changed.notify_all()

        try:
            yield hold
        finally:
            with self._changed:
                del self._held[ticket]
                self._changed.notify_all()

    def wait_for_readers(self, generation: int, committed_seq: int, timeout_s: float) -> bool:
        """See :class:`Pins`."""
        return self._wait(lambda pin: pin.is_older(generation, committed_seq), timeout_s)

    def wait_for_unfiltered(self, generation: int, timeout_s: float) -> bool:
        """See :class:`Pins`."""
        return self._wait(lambda pin: pin.sees_staged(generation), timeout_s)

    def _wait(self, blocks: Callable[[Pin], bool], timeout_s: float) -> bool:
        with self._changed:
            # Who begins from here on reads a ledger that tells of the change.
            unread = {ticket for ticket, pin in self._held.items() if pin == UNREAD}

            def is_free() -> bool:
                return not any(ticket in unread if pin == UNREAD else blocks(pin) for ticket, pin in self._held.items())

            return self._changed.wait_for(is_free, timeout_s)
