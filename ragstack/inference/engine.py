"""Who runs which batch where: a model's backends, and the threads that call them.

Many batches run a few at a time on every device, each taking the next one when it is free (data parallel); a single
batch, such as one query, runs on a backend that is made for that. Backends are opened when first needed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from ragstack.errors import DeviceMemoryError
from ragstack.inference.architectures import packs
from ragstack.inference.backend import Backend
from ragstack.inference.batch_counts import BatchCounter, BatchTokens
from ragstack.inference.device_pool import DevicePool
from ragstack.inference.halving import DeviceRoom, NoRoomError, RowError, run_halving
from ragstack.inference.opening import Use, open_backend
from ragstack.inference.profile import ModelWeights, Profile
from ragstack.inference.role import ModelRole
from ragstack.types import Int32Array

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how a model runs: the profile, its devices (``cpu`` or ``cuda:0``, ...), CPU threads in all.

    ``stand_in`` is a profile of the same CPU that gives the same and starts faster, where there is one: it answers
    single calls, and everything else where ``profile`` turns out not to load the model.
    """

    profile: Profile
    devices: tuple[str, ...]
    threads: int
    stand_in: Profile | None = None


@dataclass(frozen=True, slots=True)
class BatchJob(Generic[_T]):
    """A batch that may be run in parts: ``rows`` ``(n,)`` of ``counts[i]`` tokens each, and what runs some of them.

    ``run`` gets a backend and consecutive ones of the rows.
    """

    rows: Int32Array
    counts: Sequence[int]
    run: Callable[[Backend, Int32Array], _T]
    row_error: RowError


class Engine:
    """The backends of one model. Safe to call from several threads.

    ``call`` and ``submit`` give ``work`` the backend to run on. ``call_batch`` and ``submit_batch`` run a batch in as
    many parts as the device's memory asks for (:mod:`ragstack.inference.halving`) and give one result for each part, in
    the order of the rows. All raise what the work and opening the backend raise, and the role's error after
    :meth:`close` and for a row that no device has room for.
    """

    def __init__(self, name: str, weights: ModelWeights, placement: Placement, role: ModelRole) -> None:
        self._name, self._weights, self._role = name, weights, role
        self.placement = placement
        self._batches = BatchCounter()
        self._lock = threading.Lock()
        self._one: Backend | None = None
        self._many: tuple[Backend, ...] = ()
        self._pool: DevicePool | None = None
        self._rooms: dict[str, DeviceRoom] = {}
        self._closed = False

    @property
    def parallel_calls(self) -> int:
        """How many batches run at a time, on all devices together. Opens them."""
        return sum(backend.parallel_calls for backend in self._opened().backends)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that are given work: those of the placement but for any that had a fault."""
        with self._lock:
            pool = self._pool
        return self.placement.devices if pool is None else tuple(backend.device for backend in pool.backends)

    def call(self, work: Callable[[Backend], _T]) -> _T:
        """Run ``work`` now, by itself: on a CPU with all threads, else on the device that has least to do."""
        if self.placement.profile.device_type != "cpu":
            return self._opened().call(work)
        with self._lock:
            self._check_open()
            self._one = self._one or self._open(self.placement.devices[0], "one_call")
            backend = self._one
        try:
            return work(backend)
        except NoRoomError as error:
            raise error.of_row from error
        except DeviceMemoryError as error:
            raise self._role.error(error.message, hint=error.hint) from error

    def submit(self, work: Callable[[Backend], _T]) -> Future[_T]:
        """Run ``work`` on the next device that is free; work that waits is begun in the order given."""
        return self._opened().submit(work)

    def call_batch(self, job: BatchJob[_T]) -> list[_T]:
        """Run a batch now, by itself, as :meth:`call`."""
        return self.call(lambda backend: self._run(job, backend))

    def submit_batch(self, job: BatchJob[_T]) -> Future[list[_T]]:
        """Run a batch on the next device that is free, as :meth:`submit`."""
        return self.submit(lambda backend: self._run(job, backend))

    @cached_property
    def packs(self) -> bool:
        """Whether a batch costs its tokens only, and not its padding."""
        return packs(self._weights, self.placement.profile, self._role)

    @property
    def batch_tokens(self) -> BatchTokens:
        """The tokens of all batches so far, with and without padding."""
        return self._batches.tokens(packed=self.packs)

    def preload(self) -> None:
        """Open now what :meth:`submit` runs on."""
        self._opened()

    def close(self) -> None:
        """Release threads and devices; work that has not begun is cancelled. Idempotent."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
            backends = [*self._many, *([self._one] if self._one is not None else [])]
            self._many, self._one = (), None
        if pool is not None:
            pool.close()
        for backend in backends:
            backend.close()

    def _run(self, job: BatchJob[_T], backend: Backend) -> list[_T]:
        room = self._rooms.setdefault(backend.device, DeviceRoom(backend.device))
        counts = dict(zip(job.rows.tolist(), job.counts, strict=True))

        def run(rows: Int32Array) -> _T:
            found = job.run(backend, rows)
            self._batches.add([counts[row] for row in rows.tolist()])
            return found

        return run_halving(job.rows, job.counts, run, room, job.row_error)

    def _opened(self) -> DevicePool:
        with self._lock:
            self._check_open()
            if self._pool is None:
                backends: list[Backend] = []
                try:
                    for device in self.placement.devices:
                        backends.append(self._open(device, "many_calls"))  # noqa: PERF401 - closed if a later one fails
                except BaseException:
                    for backend in backends:
                        backend.close()
                    raise
                self._many = tuple(backends)
                self._pool = DevicePool(self._many, self._role)
            return self._pool

    def _open(self, device: str, use: Use) -> Backend:
        profile, stand_in = self.placement.profile, self.placement.stand_in
        try:
            if stand_in is None:
                return self._open_as(profile, device, use)
            if use == "one_call":
                return self._open_as(stand_in, device, use)
            try:
                return self._open_as(profile, device, use)
            except self._role.error as error:
                _log.warning("%s runs as %s: %s", self._name, stand_in.name, error)
                return self._open_as(stand_in, device, use)
        except DeviceMemoryError as error:
            raise self._role.error(
                f"the {self._role.name} {self._name} does not fit into the memory of {device}: {error.message}",
                hint=f"Free memory there, set {self._role.key}.device to another one, or choose a smaller model.",
            ) from error

    def _open_as(self, profile: Profile, device: str, use: Use) -> Backend:
        return open_backend(self._weights, profile, device, self.placement.threads, use, self._role)

    def _check_open(self) -> None:
        if self._closed:
            raise self._role.error(f"the {self._role.name} {self._name} was closed.", hint="Make a new one.")
