"""Out of memory: a batch that a device has no room for runs again in halves, and the device gets less from then on.

How much less, and for how long: at most half of what failed. After :data:`FIRST_PATIENCE` calls in a row that had room
the share grows by an eighth, and each further failure doubles the number of calls that must go well first. So a budget
that is simply too large costs a few failed calls a day, and one that another program's memory stood in the way of
comes back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias, TypeVar

from ragstack.errors import DeviceMemoryError, RagstackError
from ragstack.types import Int32Array

FIRST_PATIENCE = 64
"""Calls in a row that must have had room before a device that ran out of memory is given more."""

RowError: TypeAlias = Callable[[int, str, str], RagstackError]
"""From a row, what is wrong with it and a hint: the error that calls the row what its caller does."""

_LONGEST_PATIENCE = 1 << 20
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class NoRoomError(DeviceMemoryError):
    """A row that a device has no room for by itself. ``of_row`` is what its caller is told if no other device has."""

    def __init__(self, of_row: RagstackError) -> None:
        super().__init__(of_row.message, hint=of_row.hint)
        self.of_row = of_row


class DeviceRoom:
    """What is known of a device's memory: the most tokens, padding counted, that a call on it may have.

    Shared by all calls on the device. ``most_tokens`` is None until it first ran out.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._changed = threading.Condition()
        self._running = 0
        self._want_to_be_alone = 0
        self._most_tokens: int | None = None
        self._largest_refused = 0
        self._patience = FIRST_PATIENCE
        self._calls_with_room = 0
        self._just_failed = False

    @property
    def most_tokens(self) -> int | None:
        """The most tokens that a call of more than one row may have now."""
        return self._most_tokens

    def fitting(self, counts: Sequence[int]) -> int:
        """How many of the first rows, of so many tokens each, may run together: at least one."""
        most, longest = self._most_tokens, 0
        if most is None:
            return len(counts)
        for row, count in enumerate(counts):
            longest = max(longest, count)
            if row and (row + 1) * longest > most:
                return row
        return len(counts)

    def had_room(self, tokens: int) -> None:
        """A call of so many tokens went well."""
        with self._changed:
            self._just_failed = False
            # A small call says nothing of a larger one.
            if self._most_tokens is None or tokens * 2 < self._most_tokens:
                return
            self._calls_with_room += 1
            if self._calls_with_room < self._patience:
                return
            self._calls_with_room = 0
            grown = self._most_tokens + max(1, self._most_tokens // 8)
            self._most_tokens = None if grown > self._largest_refused else grown

    def ran_out(self, rows: int, tokens: int) -> None:
        """A call of so many rows, and tokens in all, had no room."""
        with self._changed:
            # Parts of one batch that fail one after the other, or beside each other, are one failure.
            if self._largest_refused and not self._just_failed:
                self._patience = min(self._patience * 2, _LONGEST_PATIENCE)
            self._just_failed = True
            self._calls_with_room = 0
            self._largest_refused = max(self._largest_refused, tokens)
            less = max(1, tokens // 2) if rows > 1 else tokens
            if self._most_tokens is not None and self._most_tokens <= less:
                return
            self._most_tokens = less
        _log.warning(
            "%s had no memory for a batch of %d tokens; it gets at most %d at a time for now",
            self.device,
            tokens,
            less,
        )

    @contextmanager
    def shared(self) -> Iterator[None]:
        """A block that runs beside other calls on the device."""
        with self._changed:
            self._changed.wait_for(lambda: not self._want_to_be_alone)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A block that runs while no other call does."""
        with self._changed:
            self._want_to_be_alone += 1
            self._changed.wait_for(lambda: not self._running)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._want_to_be_alone -= 1
                self._changed.notify_all()


def run_halving(
    rows: Int32Array,
    counts: Sequence[int],
    run: Callable[[Int32Array], _T],
    room: DeviceRoom,
    row_error: RowError,
) -> list[_T]:
    """Run a batch, in parts where the device has no room for it whole; the parts' results are in the rows' order.

    ``rows`` ``(n,)`` have ``counts`` tokens. ``run`` gets consecutive ones of them, and is given each row until it went
    well once: at most ``2 n`` calls. A row that has no room by itself is tried once more while nothing else runs on the
    device. Raises NoRoomError, with what ``row_error`` makes of that row, when even that fails, and whatever else
    ``run`` raises.
    """
    results: list[_T] = []
    waiting = [(0, len(rows))] if len(rows) else []
    while waiting:
        start, stop = waiting.pop()
        fitting = start + room.fitting(counts[start:stop])
        if fitting < stop:
            waiting.append((fitting, stop))
            stop = fitting
        tokens = (stop - start) * max(counts[start:stop])
        with room.shared():
            found = _attempt(run, rows[start:stop])
        if found is None:
            room.ran_out(stop - start, tokens)
            if stop - start > 1:
                half = (start + stop + 1) // 2
                waiting += [(half, stop), (start, half)]
                continue
            with room.alone():
                found = _attempt(run, rows[start:stop])
        if found is None:
            fault = f"its {tokens} tokens do not fit into the memory of {room.device}."
            hint = "Free memory on the device, or choose another device, a smaller model or shorter texts."
            raise NoRoomError(row_error(int(rows[start]), fault, hint))
        room.had_room(tokens)
        results.append(found[0])
    return results


def _attempt(run: Callable[[Int32Array], _T], rows: Int32Array) -> tuple[_T] | None:
    """What ``run`` gives, or None when memory ran out: by then the error is gone, and the arrays its frames held."""
    try:
        return (run(rows),)
    except DeviceMemoryError:
        return None
