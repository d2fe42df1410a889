"""Data parallel: the threads of several backends that take work from one queue, each when it is free.

A fault of one device ends neither the work nor the run: what failed on it runs again on another. When it goes well
there, the first device is at fault and is left out from then on, which the log says; when it fails everywhere, the work
itself is at fault and its first error is the result.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ragstack.errors import DeviceMemoryError, RagstackError
from ragstack.inference.backend import Backend
from ragstack.inference.halving import NoRoomError
from ragstack.inference.role import ModelRole

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Seat:
    """A backend with its turns. ``busy``: calls on it now."""

    backend: Backend
    busy: int = 0


@dataclass(eq=False)
class _Task(Generic[_T]):
    work: Callable[[Backend], _T]
    future: Future[_T]
    faults: list[tuple[_Seat, RagstackError]] = field(default_factory=list)

    def may_run_on(self, seat: _Seat) -> bool:
        return all(tried is not seat for tried, _ in self.faults)


class DevicePool:
    """Runs work on ``backends``. Safe to call from several threads.

    Work that waits is begun in the order given. ``role.error`` raised by work counts as a device's fault, everything
    else as the work's own. DeviceMemoryError leads to another device, too, but to nobody's being left out.
    """

    def __init__(self, backends: Sequence[Backend], role: ModelRole) -> None:
        self._state = _State([_Seat(backend) for backend in backends], role)
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()
        # Threads know the state alone, so that a pool nobody holds any more ends them; at exit, too.
        self._end = weakref.finalize(self, _end, self._state, self._threads)

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The backends that are given work: all but those that were left out."""
        return tuple(seat.backend for seat in self._state.seats)

    def submit(self, work: Callable[[Backend], _T]) -> Future[_T]:
        """Run ``work`` on the next backend that is free. The future is cancelled by :meth:`close`."""
        with self._starting:
            if not self._threads and not self._state.closed:
                self._start()
        task = _Task(work, Future())
        self._state.put(task)
        return task.future

    def call(self, work: Callable[[Backend], _T]) -> _T:
        """Run ``work`` now, in this thread, on the backend that has least to do."""
        task = _Task(work, Future())
        while True:
            seat = self._state.least_busy(task)
            self._state.run(seat, task, requeue=False)
            if task.future.done():
                return task.future.result()

    def close(self) -> None:
        """End the threads after the work they are at; what waits is cancelled. Idempotent."""
        self._end()

    def _start(self) -> None:
        for number, seat in enumerate(self._state.seats):
            for turn in range(seat.backend.parallel_calls):
                name = f"ragstack-{self._state.role.key}-{number}-{turn}"
                thread = threading.Thread(target=_serve, args=(self._state, seat), name=name, daemon=True)
                self._threads.append(thread)
                thread.start()


class _State:
    """What the threads share."""

    def __init__(self, seats: list[_Seat], role: ModelRole) -> None:
        self.seats, self.role = seats, role
        self.closed = False
        self._waiting: deque[_Task[Any]] = deque()
        self._changed = threading.Condition()

    def put(self, task: _Task[Any]) -> None:
        with self._changed:
            if self.closed:
                task.future.cancel()
                return
            self._waiting.append(task)
            self._changed.notify()

    def take(self, seat: _Seat) -> _Task[Any] | None:
        """The next task that ``seat`` may run; None when it is to end."""
        with self._changed:
            while not self.closed and seat in self.seats:
                for task in self._waiting:
                    if task.may_run_on(seat):
                        break
                else:
                    self._changed.wait()
                    continue
                self._waiting.remove(task)
                if task.faults or task.future.set_running_or_notify_cancel():
                    seat.busy += 1
                    return task
            return None

    def least_busy(self, task: _Task[Any]) -> _Seat:
        with self._changed:
            seats = [seat for seat in self.seats if task.may_run_on(seat)] or self.seats
            seat = min(seats, key=lambda one: one.busy / one.backend.parallel_calls)
            seat.busy += 1
            return seat

    def run(self, seat: _Seat, task: _Task[_T], *, requeue: bool) -> None:
        """Run a task that :meth:`take` or :meth:`least_busy` gave. It is done then, or may be tried on another seat."""
        try:
            result = task.work(seat.backend)
        except BaseException as error:
            self._failed(seat, task, error, requeue=requeue)
        else:
            with self._changed:
                seat.busy -= 1
                orphans = self._leave_out(task, seat)
            task.future.set_result(result)
            for orphan in orphans:
                orphan.future.set_exception(self._outcome(orphan))

    def _failed(self, seat: _Seat, task: _Task[Any], error: BaseException, *, requeue: bool) -> None:
        is_fault = isinstance(error, (self.role.error, DeviceMemoryError)) and isinstance(error, RagstackError)
        with self._changed:
            seat.busy -= 1
            if is_fault:
                task.faults.append((seat, error))  # type: ignore[arg-type]
                if any(task.may_run_on(other) for other in self.seats) and not self.closed:
                    if requeue:
                        self._waiting.appendleft(task)
                        self._changed.notify_all()
                    return
        task.future.set_exception(self._outcome(task) if is_fault else error)

    def _outcome(self, task: _Task[Any]) -> RagstackError:
        """Why a task that failed on every device failed."""
        error = task.faults[0][1]
        if isinstance(error, NoRoomError):
            return error.of_row
        return self.role.error(error.message, hint=error.hint) if isinstance(error, DeviceMemoryError) else error

    def _leave_out(self, task: _Task[Any], where_it_went_well: _Seat) -> list[_Task[Any]]:
        """Give no more work to the devices that ``task`` failed on; returns tasks that no device is left for."""
        for seat, error in task.faults:
            if isinstance(error, DeviceMemoryError) or seat not in self.seats or len(self.seats) == 1:
                continue
            self.seats.remove(seat)
            _log.error(
                "%s is left out from now on: work of the %s failed there and went well on %s: %s",
                seat.backend.device,
                self.role.key,
                where_it_went_well.backend.device,
                error,
            )
        if not task.faults:
            return []
        self._changed.notify_all()
        orphans = [one for one in self._waiting if not any(one.may_run_on(seat) for seat in self.seats)]
        for orphan in orphans:
            self._waiting.remove(orphan)
        return orphans

    def close(self) -> None:
        with self._changed:
            self.closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for task in waiting:
            if task.faults:
                task.future.set_exception(self._outcome(task))
            else:
                task.future.cancel()


def _serve(state: _State, seat: _Seat) -> None:
    while (task := state.take(seat)) is not None:
        state.run(seat, task, requeue=True)
        # A thread that waits must not keep the last batch's arrays alive.
        del task


def _end(state: _State, threads: Sequence[threading.Thread]) -> None:
    state.close()
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join()
