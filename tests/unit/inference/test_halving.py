"""Whatever a device has room for: every row once, in order, or an error that names the row."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragstack.errors import DeviceMemoryError, EmbeddingError
from ragstack.inference.halving import FIRST_PATIENCE, DeviceRoom, NoRoomError, run_halving
from ragstack.types import Int32Array

COUNTS = st.lists(st.integers(1, 600), min_size=1, max_size=20).map(lambda counts: sorted(counts, reverse=True))


def row_error(row: int, fault: str, hint: str) -> EmbeddingError:
    return EmbeddingError(f"text {row}: {fault}", hint=hint)


class Device:
    """Has room for so many tokens, padding counted; or fails by a pattern."""

    def __init__(self, counts: list[int], memory: int, failures: list[bool] | None = None) -> None:
        self.counts, self.memory, self.failures = counts, memory, iter(failures or [])
        self.calls: list[tuple[int, bool]] = []

    def run(self, rows: Int32Array) -> list[int]:
        cost = len(rows) * max(self.counts[row] for row in rows)
        fits = cost <= self.memory and not next(self.failures, False)
        self.calls.append((cost, fits))
        if not fits:
            raise DeviceMemoryError(f"no room for {cost}")
        return rows.tolist()

    def all(self, room: DeviceRoom) -> list[int]:
        rows = np.arange(len(self.counts), dtype=np.int32)
        return [row for part in run_halving(rows, self.counts, self.run, room, row_error) for row in part]


@given(COUNTS, st.integers(600, 40_000))
def test_whatever_the_memory_every_row_runs_once_and_in_order(counts: list[int], memory: int) -> None:
    device, room = Device(counts, memory), DeviceRoom("cuda:0")
    assert device.all(room) == list(range(len(counts)))
    assert len(device.calls) <= 2 * len(counts)
    # What was learned holds: it was at most twice what there is, so one more failure settles it. (Sixty calls are too
    # few for more to be tried.)
    device.all(room)
    device.calls.clear()
    assert device.all(room) == list(range(len(counts)))
    assert all(fits for _, fits in device.calls)


@given(COUNTS, st.lists(st.booleans(), max_size=200))
def test_any_pattern_of_failures_ends_with_all_rows_or_the_row_that_failed_twice_alone(
    counts: list[int], failures: list[bool]
) -> None:
    device = Device(counts, 10**9, failures)
    try:
        found = device.all(DeviceRoom("cuda:0"))
    except NoRoomError as error:
        assert [fits for _, fits in device.calls[-2:]] == [False, False]
        assert error.of_row.message.startswith("text ") and str(device.calls[-1][0]) in error.of_row.message
    else:
        assert found == list(range(len(counts)))
    assert len(device.calls) <= 3 * len(counts)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=20), st.integers(0, 19), st.integers(301, 4000))
def test_a_row_that_never_fits_is_named(counts: list[int], at: int, tokens: int) -> None:
    counts.insert(min(at, len(counts)), tokens)
    with pytest.raises(NoRoomError) as raised:
        Device(counts, 300).all(DeviceRoom("cuda:3"))
    assert raised.value.of_row.message == (
        f"text {counts.index(tokens)}: its {tokens} tokens do not fit into the memory of cuda:3."
    )
    assert type(raised.value.of_row) is EmbeddingError


def test_another_error_is_the_rows_own() -> None:
    def run(rows: Int32Array) -> None:
        raise EmbeddingError("broken")

    with pytest.raises(EmbeddingError, match="broken"):
        run_halving(np.arange(4, dtype=np.int32), [1] * 4, run, DeviceRoom("cpu"), row_error)


def test_no_rows_are_no_calls() -> None:
    assert Device([], 1).all(DeviceRoom("cpu")) == []


def test_the_share_stays_lower_then_grows_back_and_each_failure_makes_that_slower() -> None:
    room = DeviceRoom("cuda:0")
    room.ran_out(8, 1000)
    room.ran_out(4, 500)  # the half of the same batch
    assert room.most_tokens == 250
    for _ in range(FIRST_PATIENCE - 1):
        room.had_room(250)
    assert room.most_tokens == 250
    room.had_room(100)  # too small to say anything
    assert room.most_tokens == 250
    room.had_room(250)
    assert room.most_tokens == 281
    room.ran_out(2, 281)
    assert room.most_tokens == 140
    for _ in range(2 * FIRST_PATIENCE - 1):
        room.had_room(140)
    assert room.most_tokens == 140
    room.had_room(140)
    assert room.most_tokens == 157
    for _ in range(100 * FIRST_PATIENCE):
        if room.most_tokens is None:
            return
        room.had_room(room.most_tokens)
    pytest.fail("it never got all of it back")


def test_a_single_row_lowers_the_share_to_its_own_size_only() -> None:
    room = DeviceRoom("cuda:0")
    room.ran_out(1, 700)
    assert room.most_tokens == 700


def test_a_row_that_fits_when_nothing_else_runs_waits_for_that() -> None:
    """Two calls at a time on a device that has room for either of them, but not for both."""
    lock, together = threading.Lock(), threading.Barrier(2)
    used, most, failures = [0], 1000, []

    def run(rows: Int32Array) -> int:
        first = not failures
        with lock:
            used[0] += 700
            over = used[0] > most
        try:
            if first:
                together.wait(timeout=30)
            with lock:
                over = over or used[0] > most
            if over:
                failures.append(int(rows[0]))
                raise DeviceMemoryError("full")
            return int(rows[0])
        finally:
            if first:
                together.wait(timeout=30)
            with lock:
                used[0] -= 700

    room = DeviceRoom("cuda:0")
    with ThreadPoolExecutor(2) as threads:
        jobs = [
            threads.submit(run_halving, np.array([row], dtype=np.int32), [700], run, room, row_error) for row in (5, 6)
        ]
        assert [job.result(timeout=30) for job in jobs] == [[5], [6]]
    assert sorted(failures) == [5, 6]
