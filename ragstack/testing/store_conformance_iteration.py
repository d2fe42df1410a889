"""The part of the conformance suite that reads a whole collection while others write; see ``store_conformance``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import ClassVar

import numpy as np

from ragstack.adapters.base import CollectionSpec, Hit, Record, VectorStore, empty_sparse
from ragstack.filters import Condition
from ragstack.testing.store_cases import record_id

_DIM = 2
_AT_A_TIME = 20
_DELETED_BEFORE = 100
_LONGEST_WAIT_S = 120.0


class IterationConformance:
    """``iterated_records`` are read in pages of 1,000. Override it with fewer for a store that writes slowly."""

    iterated_records: ClassVar[int] = 50_000

    def test_every_record_that_stays_is_seen_once_while_others_write(self, store: VectorStore) -> None:
        count = self.iterated_records
        store.ensure_collection(CollectionSpec("main", _DIM, {"half": "integer"}))
        for start in range(0, count, 1000):
            store.upsert("main", [_small(number) for number in range(start, min(start + 1000, count))])
        gone = range(count, count + _DELETED_BEFORE)
        store.upsert("main", [_small(number) for number in gone])
        store.delete("main", ids=[record_id(number) for number in gone])
        with _Others(store, count, first_new=gone.stop) as others:
            everything = _read(store.iterate("main"), others, pause_every=count // 10)
            half = _read(store.iterate("main", Condition("half", "eq", 1)), others, pause_every=count // 20)
        for seen, stayed in ((everything, range(count)), (half, range(1, count, 2))):
            ids = [hit.id for hit in seen]
            assert ids == sorted(set(ids)), "a record was seen twice, or out of order"
            expected = {record_id(number) for number in stayed}
            assert expected <= set(ids), "a record that was there throughout was not seen"
            assert set(ids) - expected <= others.added, "a record was seen that was never there, or does not match"
            assert all(record_id(hit.payload["number"]) == hit.id for hit in seen)
        left = {hit.id for hit in store.iterate("main")}
        assert left == {record_id(number) for number in range(count)} | others.left


def _small(number: int, version: int = 0) -> Record:
    vector = np.array([1.0, number % 97], dtype=np.float32)
    payload = {"number": number, "half": number % 2, "version": version}
    return Record(record_id(number), vector, empty_sparse(), payload)


def _read(hits: Iterator[Hit], others: _Others, pause_every: int) -> list[Hit]:
    """All hits; ten times on the way it is waited for until each of the others has written."""
    seen: list[Hit] = []
    for hit in hits:
        if len(seen) % max(pause_every, 1) == 0:
            others.wait_for_writes()
        seen.append(hit)
    return seen


class _Others:
    """Two threads that write: one rewrites records that stay, one adds records and deletes them soon after.

    ``added`` are the ids ever added, ``left`` those of them that were not deleted.
    """

    def __init__(self, store: VectorStore, count: int, first_new: int) -> None:
        self.added: set[str] = set()
        self.left: set[str] = set()
        self._store, self._count, self._first_new = store, count, first_new
        self._stopped = False
        self._rounds = [0, 0]
        self._moved = threading.Condition()
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(which, write))
            for which, write in enumerate((self._rewrite, self._add))
        ]

    def __enter__(self) -> _Others:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        for thread in self._threads:
            thread.join()
        if error is None:
            assert self._failures == []

    def wait_for_writes(self) -> None:
        """Return once each has begun and ended at least one more round."""
        with self._moved:
            wanted = [rounds + 2 for rounds in self._rounds]
            assert self._moved.wait_for(
                lambda: self._failures or all(a >= b for a, b in zip(self._rounds, wanted, strict=True)),
                _LONGEST_WAIT_S,
            ), "nobody wrote"
        assert self._failures == []

    def _run(self, which: int, write: Callable[[int], None]) -> None:
        try:
            while not self._stopped:
                write(self._rounds[which])
                with self._moved:
                    self._rounds[which] += 1
                    self._moved.notify_all()
        except BaseException as error:
            with self._moved:
                self._failures.append(error)
                self._moved.notify_all()

    def _rewrite(self, round_: int) -> None:
        numbers = [(round_ * 7919 + i * 613) % self._count for i in range(_AT_A_TIME)]
        self._store.upsert("main", [_small(number, version=round_ + 1) for number in numbers])

    def _add(self, round_: int) -> None:
        new = self._numbers(round_)
        self.added.update(record_id(number) for number in new)
        self._store.upsert("main", [_small(number) for number in new])
        self.left.update(record_id(number) for number in new)
        if round_ >= 3:
            gone = {record_id(number) for number in self._numbers(round_ - 3)}
            self._store.delete("main", ids=sorted(gone))
            self.left -= gone

    def _numbers(self, round_: int) -> range:
        first = self._first_new + round_ * _AT_A_TIME
        return range(first, first + _AT_A_TIME)
