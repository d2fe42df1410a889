"""Several devices share the work of a model; one of them may be slow, small or broken."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragstack.errors import DeviceMemoryError, EmbeddingError
from ragstack.inference import engine as engine_module
from ragstack.inference.backend import Backend, TokenBatch
from ragstack.inference.engine import BatchJob, Engine, Placement
from ragstack.inference.profile import Profile
from ragstack.inference.role import EMBEDDER
from ragstack.types import Int32Array
from tests.fake_backend import FakeBackend

ON_GPU = Profile("torch", "cuda", "bf16")


def doubled(batch: TokenBatch) -> Any:
    return batch.ids * 2


class Devices:
    """An engine over fake devices, each of which answers in its own way; ``ran_on`` says who ran which rows."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, gives: dict[str, Callable[[TokenBatch], Any]], **kept: Any
    ) -> None:
        self.opened: dict[str, FakeBackend] = {}
        self.ran_on: list[tuple[str, list[int]]] = []

        def open_backend(_weights: Any, _profile: Profile, device: str, *_rest: Any) -> FakeBackend:
            self.opened[device] = FakeBackend(gives[device], device=device, **{"parallel_calls": 1, **kept})
            return self.opened[device]

        monkeypatch.setattr(engine_module, "open_backend", open_backend)
        self.engine = Engine("toy", None, Placement(ON_GPU, tuple(gives), 2), EMBEDDER)  # type: ignore[arg-type]

    def job(self, rows: list[int], tokens: int = 10) -> BatchJob[list[int]]:
        def run(backend: Backend, part: Int32Array) -> list[int]:
            ids = np.repeat(part[:, None].astype(np.int64), tokens, axis=1)
            found = backend.run(TokenBatch(ids, np.full(len(part), tokens)), "last_hidden_state")
            self.ran_on.append((backend.device, part.tolist()))
            return [int(row[0]) for row in found]

        def row_error(row: int, fault: str, hint: str) -> EmbeddingError:
            return EmbeddingError(f"text {row}: {fault}", hint=hint)

        return BatchJob(np.array(rows, dtype=np.int32), [tokens] * len(rows), run, row_error)

    def run_all(self, batches: int) -> list[int]:
        futures = [self.engine.submit_batch(self.job([2 * i, 2 * i + 1])) for i in range(batches)]
        return [value for future in futures for part in future.result(timeout=30) for value in part]


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Devices]]:
    made: list[Devices] = []

    def make(gives: dict[str, Callable[[TokenBatch], Any]], **kept: Any) -> Devices:
        made.append(Devices(monkeypatch, gives, **kept))
        return made[-1]

    yield make
    for one in made:
        one.engine.close()
        assert all(backend.closed for backend in one.opened.values())


def expected(batches: int) -> list[int]:
    return [2 * row for row in range(2 * batches)]


def test_work_goes_to_the_device_that_is_free_and_the_order_holds(devices: Callable[..., Devices]) -> None:
    gate, begun = threading.Event(), threading.Event()

    def slow(batch: TokenBatch) -> Any:
        begun.set()
        gate.wait(timeout=30)
        return doubled(batch)

    two = devices({"cuda:0": slow, "cuda:1": doubled})
    futures = []
    while not begun.wait(timeout=0.01):
        futures.append(two.engine.submit_batch(two.job([len(futures)])))
    futures += [two.engine.submit_batch(two.job([row])) for row in range(len(futures), len(futures) + 10)]
    # The slow device holds one of them; the other one runs all the rest.
    assert not wait(futures[-10:], timeout=30).not_done
    gate.set()
    assert [future.result(timeout=30) for future in futures] == [[[2 * row]] for row in range(len(futures))]
    assert sum(device == "cuda:0" for device, _ in two.ran_on) == 1


def test_each_device_runs_as_many_calls_at_a_time_as_suit_it(devices: Callable[..., Devices]) -> None:
    all_there = threading.Barrier(6)

    def meeting(batch: TokenBatch) -> Any:
        all_there.wait(timeout=30)
        return doubled(batch)

    two = devices({"cuda:0": meeting, "cuda:1": meeting}, parallel_calls=3)
    assert two.run_all(6) == expected(6)
    assert two.engine.parallel_calls == 6


def test_a_device_at_fault_is_left_out_and_its_work_runs_on_another(
    devices: Callable[..., Devices], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(batch: TokenBatch) -> Any:
        raise EmbeddingError("an illegal memory access was encountered")

    two = devices({"cuda:0": broken, "cuda:1": doubled})
    with caplog.at_level(logging.ERROR):
        assert two.run_all(20) == expected(20)
        assert two.engine.call_batch(two.job([7])) == [[14]]
    assert two.engine.devices == ("cuda:1",)
    left_out = [record.getMessage() for record in caplog.records]
    assert len(left_out) == 1
    assert "cuda:0 is left out" in left_out[0] and "illegal memory access" in left_out[0]


def test_a_single_call_moves_on_from_a_broken_device(devices: Callable[..., Devices]) -> None:
    def broken(batch: TokenBatch) -> Any:
        raise EmbeddingError("fell off the bus")

    two = devices({"cuda:0": broken, "cuda:1": doubled})
    assert two.engine.call_batch(two.job([3])) == [[6]]
    assert two.engine.devices == ("cuda:1",)


def test_work_that_fails_everywhere_is_at_fault_itself(devices: Callable[..., Devices]) -> None:
    def picky(batch: TokenBatch) -> Any:
        if 5 in batch.ids:
            raise EmbeddingError("text 5: the dense vector is not finite")
        return doubled(batch)

    two = devices({"cuda:0": picky, "cuda:1": picky})
    futures = [two.engine.submit_batch(two.job([row])) for row in range(10)]
    for row, future in enumerate(futures):
        if row == 5:
            with pytest.raises(EmbeddingError, match="text 5"):
                future.result(timeout=30)
        else:
            assert future.result(timeout=30) == [[2 * row]]
    assert two.engine.devices == ("cuda:0", "cuda:1")


def test_when_all_devices_break_their_error_is_told_and_nothing_hangs(devices: Callable[..., Devices]) -> None:
    def broken(batch: TokenBatch) -> Any:
        raise EmbeddingError("no device")

    two = devices({"cuda:0": broken, "cuda:1": broken})
    with pytest.raises(EmbeddingError, match="no device"):
        two.run_all(10)


def test_a_device_with_less_memory_gets_smaller_batches_and_stays(devices: Callable[..., Devices]) -> None:
    def small(batch: TokenBatch) -> Any:
        if batch.ids.size > 40:
            raise DeviceMemoryError("CUDA out of memory")
        return doubled(batch)

    one = devices({"cuda:0": small})
    rows = list(range(32))
    parts = one.engine.submit_batch(one.job(rows)).result(timeout=30)
    assert [value for part in parts for value in part] == [2 * row for row in rows]
    assert one.engine.call_batch(one.job(rows[:4])) == [[0, 2, 4, 6]]
    assert all(len(part) <= 4 for _, part in one.ran_on)


def test_a_text_that_has_no_room_on_one_device_runs_on_a_larger_one(devices: Callable[..., Devices]) -> None:
    def small(batch: TokenBatch) -> Any:
        if batch.ids.size > 40:
            raise DeviceMemoryError("CUDA out of memory")
        return doubled(batch)

    two = devices({"cuda:0": small, "cuda:1": doubled})
    long = [two.engine.submit_batch(two.job([row], tokens=100)) for row in range(8)]
    assert [future.result(timeout=30) for future in long] == [[[2 * row]] for row in range(8)]
    assert two.engine.devices == ("cuda:0", "cuda:1")  # a long text is no fault of the smaller one


@pytest.mark.parametrize("alone", [True, False])
def test_a_text_that_fits_nowhere_is_named_as_its_caller_names_it(devices: Callable[..., Devices], alone: bool) -> None:
    def full(batch: TokenBatch) -> Any:
        raise DeviceMemoryError("CUDA out of memory")

    two = devices({"cuda:0": full, "cuda:1": full})
    run = two.engine.call_batch if alone else lambda job: two.engine.submit_batch(job).result(timeout=30)
    with pytest.raises(EmbeddingError, match=r"text 4: its 100 tokens do not fit into the memory of cuda:[01]"):
        run(two.job([4, 5], tokens=100))


def test_a_model_that_does_not_fit_says_so_and_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[FakeBackend] = []

    def open_backend(_weights: Any, _profile: Profile, device: str, *_rest: Any) -> FakeBackend:
        if device == "cuda:1":
            raise DeviceMemoryError("2 GB needed, 1 GB free")
        opened.append(FakeBackend(doubled, device=device))
        return opened[-1]

    monkeypatch.setattr(engine_module, "open_backend", open_backend)
    made = Engine("toy", None, Placement(ON_GPU, ("cuda:0", "cuda:1"), 2), EMBEDDER)  # type: ignore[arg-type]
    with pytest.raises(EmbeddingError, match=r"toy does not fit into the memory of cuda:1: 2 GB needed"):
        made.preload()
    assert [backend.closed for backend in opened] == [True]


def test_closing_cancels_what_waits_and_ends_the_threads(devices: Callable[..., Devices]) -> None:
    gate, begun = threading.Event(), threading.Event()

    def waiting(batch: TokenBatch) -> Any:
        begun.set()
        gate.wait(timeout=30)
        return doubled(batch)

    one = devices({"cuda:0": waiting})
    futures = [one.engine.submit_batch(one.job([row])) for row in range(3)]
    assert begun.wait(timeout=30)
    closing = threading.Thread(target=one.engine.close)
    closing.start()
    with pytest.raises(CancelledError):
        futures[2].result(timeout=30)
    gate.set()
    closing.join(timeout=30)
    assert futures[0].result() == [[0]]
    with pytest.raises(EmbeddingError, match="was closed"):
        one.engine.submit_batch(one.job([1]))


def test_an_engine_that_nobody_holds_ends_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    others = set(threading.enumerate())
    one = Devices(monkeypatch, {"cuda:0": doubled})
    assert one.run_all(2) == expected(2)
    ours = [thread for thread in threading.enumerate() if thread not in others]
    assert ours
    del one.engine
    for thread in ours:
        thread.join(timeout=30)
        assert not thread.is_alive()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["ok", "fault", "memory"]), max_size=12), min_size=1, max_size=4),
    st.integers(1, 12),
)
def test_any_pattern_of_faults_gives_all_rows_in_order_or_an_error(patterns: list[list[str]], batches: int) -> None:
    def gives(pattern: list[str]) -> Callable[[TokenBatch], Any]:
        left, lock = iter(pattern), threading.Lock()

        def give(batch: TokenBatch) -> Any:
            with lock:
                what = next(left, "ok")
            if what == "fault":
                raise EmbeddingError("fault")
            if what == "memory":
                raise DeviceMemoryError("memory")
            return doubled(batch)

        return give

    with pytest.MonkeyPatch.context() as monkeypatch:
        some = Devices(monkeypatch, {f"cuda:{i}": gives(pattern) for i, pattern in enumerate(patterns)})
        try:
            assert some.run_all(batches) == expected(batches)
        except EmbeddingError:
            assert any(what != "ok" for pattern in patterns for what in pattern)
        finally:
            some.engine.close()
        assert some.engine.devices


def test_a_stand_in_answers_single_calls_and_runs_what_the_profile_cannot_load(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fast, plain = Profile("openvino", "cpu", "fp32"), Profile("onnxruntime", "cpu", "fp32")
    fault: list[Exception] = []
    opened: list[tuple[str, str]] = []

    def open_backend(_weights: Any, profile: Profile, _device: str, _threads: int, use: str, _role: Any) -> FakeBackend:
        if profile == fast and fault:
            raise fault[0]
        opened.append((profile.backend, use))
        return FakeBackend(doubled)

    monkeypatch.setattr(engine_module, "open_backend", open_backend)

    def run(stand_in: Profile | None) -> list[tuple[str, str]]:
        opened.clear()
        made = Engine("toy", None, Placement(fast, ("cpu",), 1, stand_in), EMBEDDER)  # type: ignore[arg-type]
        try:
            made.call(lambda backend: None)
            made.submit(lambda backend: None).result()
        finally:
            made.close()
        return list(opened)

    assert run(plain) == [("onnxruntime", "one_call"), ("openvino", "many_calls")]
    assert run(None) == [("openvino", "one_call"), ("openvino", "many_calls")]
    assert not caplog.text
    fault.append(EmbeddingError("unknown operator"))
    assert run(plain) == [("onnxruntime", "one_call"), ("onnxruntime", "many_calls")]
    assert "toy runs as onnxruntime-cpu-fp32: unknown operator" in caplog.text
    with pytest.raises(EmbeddingError, match="unknown operator"):
        run(None)
