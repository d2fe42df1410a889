"""Who runs which batch where: a model's backends, and the threads that call them.

Many batches run a few at a time on every device, each taking the next one when it is free (data parallel); a single
batch, such as one query, runs on a backend that is made for that. Backends are opened when first needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from typing import TypeVar

from ragstack.inference.architectures import packs
from ragstack.inference.backend import Backend
from ragstack.inference.opening import Use, open_backend
from ragstack.inference.profile import ModelWeights, Profile
from ragstack.inference.role import ModelRole

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how a model runs: the profile, its devices (``cpu`` or ``cuda:0``, ...), CPU threads in all."""

    profile: Profile
    devices: tuple[str, ...]
    threads: int


class Engine:
    """The backends of one model. Safe to call from several threads.

    :meth:`call` and :meth:`submit` give ``work`` the backend to run on; both raise what ``work`` and opening the
    backend raise, and the role's error after :meth:`close`.
    """

    def __init__(self, name: str, weights: ModelWeights, placement: Placement, role: ModelRole) -> None:
        self._name, self._weights, self._role = name, weights, role
        self.placement = placement
        self._lock = threading.Lock()
        self._one: Backend | None = None
        self._many: tuple[Backend, ...] = ()
        self._workers: ThreadPoolExecutor | None = None
        self._mine = threading.local()
        self._closed = False

    def call(self, work: Callable[[Backend], _T]) -> _T:
        """Run ``work`` now, by itself, on the first device."""
        with self._lock:
            self._check_open()
            if self.placement.profile.device_type == "cpu":
                self._one = self._one or self._open(self.placement.devices[0], "one_call")
                backend = self._one
            else:
                backend = self._throughput()[0]
        return work(backend)

    def submit(self, work: Callable[[Backend], _T]) -> Future[_T]:
        """Run ``work`` on the next device that is free; work that waits is begun in the order given."""
        with self._lock:
            workers = self._pool()
        return workers.submit(lambda: work(self._mine.backend))

    @cached_property
    def packs(self) -> bool:
        """Whether a batch costs its tokens only, and not its padding."""
        return packs(self._weights, self.placement.profile, self._role)

    def preload(self) -> None:
        """Open now what :meth:`submit` runs on."""
        with self._lock:
            self._check_open()
            self._throughput()

    def close(self) -> None:
        """Release threads and devices; work that has not begun is cancelled. Idempotent."""
        with self._lock:
            self._closed = True
            workers, self._workers = self._workers, None
            backends = [*self._many, *([self._one] if self._one is not None else [])]
            self._many, self._one = (), None
        if workers is not None:
            workers.shutdown(wait=True, cancel_futures=True)
        for backend in backends:
            backend.close()

    def _throughput(self) -> Sequence[Backend]:
        if not self._many:
            self._many = tuple(self._open(device, "many_calls") for device in self.placement.devices)
        return self._many

    def _pool(self) -> ThreadPoolExecutor:
        self._check_open()
        if self._workers is None:
            backends = self._throughput()
            turns = [backend for backend in backends for _ in range(backend.parallel_calls)]
            assigned, assigning = cycle(turns), threading.Lock()

            def take_a_backend() -> None:
                with assigning:
                    self._mine.backend = next(assigned)

            self._workers = ThreadPoolExecutor(
                len(turns), thread_name_prefix=f"ragstack-{self._role.key}", initializer=take_a_backend
            )
        return self._workers

    def _open(self, device: str, use: Use) -> Backend:
        return open_backend(self._weights, self.placement.profile, device, self.placement.threads, use, self._role)

    def _check_open(self) -> None:
        if self._closed:
            raise self._role.error(f"the {self._role.name} {self._name} was closed.", hint="Make a new one.")
